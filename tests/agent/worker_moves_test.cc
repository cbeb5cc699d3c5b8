// SPDX-License-Identifier: Apache-2.0
//
// The worker's moves: orders, attempts, cancels, deadlines, takeover (protocol, rules 5, 6, 7, 9, 19).
#include <catch2/catch.hpp>

#include "tests/agent/core_script.h"

namespace evenkeel::agent::script {
namespace {

const std::vector<int> kWithout5 = {0, 1, 2, 2, 3, -1};
const std::vector<int> kWithout3And5 = {0, 1, 2, -1, 3, -1};
constexpr uint64_t kFits = 1;  // fingerprint of expert 1 of layer 0
constexpr uint64_t kTorn = 999;

// Attached, slot 5 retired at 1.1 and nobody in it.
Agent Ready(AgentSettings settings = Agent::Quiet()) {
  Agent agent;
  agent.Attach(1, settings);
  agent.Settle({1, 1}, kWithout5);
  return agent;
}

TEST_CASE("a move reads the counters, stores writing, copies, announces, verifies, then reports", "[worker]") {
  Agent agent = Ready();
  CHECK(agent.Hear(Order(7, 5, 1, {1, 1})) == "read counters");
  CHECK(agent.Count() == "store 0/5 writing e1 g1\ntransfer 7.1 0/5 e1 from slot 1 rate 0");
  CHECK(agent.End(7, 1, kFits) == "post move 0/5 g1");
  CHECK(agent.Give(PostMoveAcknowledged{LayerId(0), SlotIdx(5), 1}) ==
        "store 0/5 verified e1 g1\nfinished 7 0/5 g1 bytes 1000 mismatches 0");
  CHECK(agent.worker.moves().open().empty());
}

TEST_CASE("maps may name the new content once it is verified, and not before", "[worker]") {
  Agent agent = Ready();
  const auto name_it = [&](uint32_t number) {
    return agent.Hear(Update({1, number}, agent.worker.newest_maps().get(), {{0, MapOf({0, 1, 2, 2, 3, 1})}}));
  };
  agent.Hear(Order(7, 5, 1, {1, 1}));
  CHECK(name_it(2).find("refused 1.2") == 0);
  agent.Count();
  CHECK(name_it(2).find("refused 1.2") == 0);
  agent.End(7, 1, kFits);
  CHECK(name_it(2).find("refused 1.2") == 0);
  agent.Give(PostMoveAcknowledged{LayerId(0), SlotIdx(5), 1});
  CHECK(name_it(2) == "write maps 1.2");
}

TEST_CASE("a slot with an accepted order may not be named again with its old content", "[worker]") {
  Agent agent = Ready();
  agent.Hear(Order(7, 5, 1, {1, 1}));
  const MapsUpdate undo = Update({1, 2}, agent.worker.newest_maps().get(), {{0, MapOf({0, 1, 2, 2, 3, 0})}});
  CHECK(agent.Hear(undo).find("refused 1.2") == 0);
  CHECK(agent.Hear(CancelOf(Order(7, 5, 1, {1, 1}))) ==
        "store 0/5 verified e0 g1\nfailed 7 0/5 g1 ABORTED kept from -1 mismatches 0");
  CHECK(agent.Hear(undo) == "write maps 1.2");
}

TEST_CASE("an order into a slot that maps name is refused, and its generation is used up", "[worker]") {
  Agent agent = Ready();
  CHECK(agent.Hear(Order(7, 4, 1, {1, 1})) ==
        "store 0/4 verified e3 g1\nfailed 7 0/4 g1 FAILED_PRECONDITION kept from -1 mismatches 0");
  CHECK(agent.worker.moves().open().empty());
}

TEST_CASE("an order into a slot of maps not yet written is refused", "[worker]") {
  Agent agent = Ready();
  agent.Hear(Update({1, 2}, agent.worker.newest_maps().get(), {{0, MapOf({0, 1, 2, 2, 3, 0})}}));
  CHECK(agent.worker.write_pending());
  CHECK(agent.Hear(Order(7, 5, 1, {1, 1})).find("failed 7 0/5 g1 FAILED_PRECONDITION kept") != std::string::npos);
}

TEST_CASE("an order is refused while the engine has not quiesced where the slot was retired", "[worker]") {
  Agent agent;
  agent.Attach(1);
  agent.Hear(Update({1, 1}, agent.worker.newest_maps().get(), {{0, MapOf(kWithout5)}}));
  agent.Give(MapsWritten{.epoch = {1, 1}, .written = true});
  CHECK(agent.Hear(Order(7, 5, 1, {1, 1})).find("failed 7 0/5 g1 FAILED_PRECONDITION kept") != std::string::npos);
  agent.Observe({1, 1});
  // The refused one, delivered again, would now fit; it was answered and is not accepted.
  CHECK(agent.Hear(Order(7, 5, 1, {1, 1})).find("failed 7 0/5 g1 FAILED_PRECONDITION kept") == 0);
  CHECK(agent.Hear(Order(8, 5, 2, {1, 1})) == "read counters");
}

TEST_CASE("an order of a stale wave is refused where maps named the slot in between", "[worker]") {
  Agent agent = Ready();
  agent.Hear(Update({1, 2}, agent.worker.newest_maps().get(), {{0, MapOf({0, 1, 2, 2, 3, 0})}}));
  agent.Hear(Update({1, 3}, agent.worker.newest_maps().get(), {{0, MapOf(kWithout5)}}));
  // Quiesced at 1.1 still: a step may be using 1.2.
  CHECK(agent.Hear(Order(7, 5, 1, {1, 1})).find("failed 7 0/5 g1 FAILED_PRECONDITION kept") != std::string::npos);
}

TEST_CASE("malformed orders are refused by name", "[worker]") {
  Agent agent = Ready();
  MoveOrder order = Order(7, 5, 1, {1, 1});
  std::string code = "INVALID_ARGUMENT";
  SECTION("a slot of another rank") { order.slot = SlotIdx(2); }
  SECTION("an unknown slot") { order.slot = SlotIdx(6); }
  SECTION("an unknown layer") { order.layer = LayerId(2); }
  SECTION("an unknown expert") { order.expert = ExpertId(4); }
  SECTION("no source") { order.sources.clear(); }
  SECTION("no time") {
    order.deadline = absl::ZeroDuration();
    code = "DEADLINE_EXCEEDED";
  }
  SECTION("a generation too far") {
    order.generation = 2;
    code = "FAILED_PRECONDITION";
  }
  SECTION("a generation that was used") {
    order.generation = 0;
    code = "FAILED_PRECONDITION";
  }
  const std::string trace = agent.Hear(order);
  CHECK(trace.find(code) != std::string::npos);
  CHECK(agent.worker.moves().open().empty());
}

TEST_CASE("a condemned slot takes no order", "[worker]") {
  RegionState region = Region();
  region.slots[2].state = SlotState::kCondemned;
  region.maps = nullptr;
  auto maps = std::make_shared<Maps>(*Region().maps);
  maps->layers[0] = MapOf(kWithout5);
  region.maps = maps;
  Agent agent(region);
  agent.Attach(1);
  CHECK(agent.Hear(Order(7, 5, 1, {0, 0})).find("FAILED_PRECONDITION lost") != std::string::npos);
}

TEST_CASE("an order that comes twice is done once and answered twice", "[worker]") {
  Agent agent = Ready();
  const MoveOrder order = Order(7, 5, 1, {1, 1});
  agent.Hear(order);
  CHECK(agent.Hear(order) == "");
  agent.Count();
  CHECK(agent.Hear(order) == "");
  agent.End(7, 1, kFits);
  CHECK(agent.Hear(order) == "");
  agent.Give(PostMoveAcknowledged{LayerId(0), SlotIdx(5), 1});
  CHECK(agent.Hear(order) == "finished 7 0/5 g1 bytes 1000 mismatches 0");
  // Another move with that generation gets nothing done.
  CHECK(agent.Hear(Order(8, 5, 1, {1, 1})) == "failed 8 0/5 g1 FAILED_PRECONDITION lost from -1 mismatches 0");
}

TEST_CASE("a second order for a slot with an open move is refused", "[worker]") {
  Agent agent = Ready();
  agent.Hear(Order(7, 5, 1, {1, 1}));
  CHECK(agent.Hear(Order(8, 5, 1, {1, 1})) == "failed 8 0/5 g1 FAILED_PRECONDITION lost from -1 mismatches 0");
  CHECK(agent.Hear(Order(8, 5, 2, {1, 1})) == "failed 8 0/5 g2 FAILED_PRECONDITION lost from -1 mismatches 0");
  agent.Count();
  CHECK(agent.Hear(Order(8, 5, 2, {1, 1})) == "failed 8 0/5 g2 FAILED_PRECONDITION lost from -1 mismatches 0");
}

TEST_CASE("a move id that is under way in another slot is refused", "[worker]") {
  Agent agent;
  agent.Attach(1);
  agent.Settle({1, 1}, kWithout3And5);
  agent.Hear(Order(7, 5, 1, {1, 1}));
  CHECK(agent.Hear(Order(7, 3, 1, {1, 1})).find("failed 7 0/3 g1 FAILED_PRECONDITION kept") != std::string::npos);
}

TEST_CASE("content that does not match is tried from the next source, and said so", "[worker]") {
  Agent agent = Ready();
  agent.Hear(Order(7, 5, 1, {1, 1}, 2));
  agent.Count();
  CHECK(agent.End(7, 1, kTorn) == "transfer 7.2 0/5 e1 from slot 2 rate 0");
  CHECK(agent.End(7, 2, kFits) == "post move 0/5 g1");
  CHECK(agent.Give(PostMoveAcknowledged{LayerId(0), SlotIdx(5), 1}) ==
        "store 0/5 verified e1 g1\nfinished 7 0/5 g1 bytes 2000 mismatches 1");
}

TEST_CASE("after a mismatch from every source the slot is free and the data is lost", "[worker]") {
  Agent agent = Ready();
  agent.Hear(Order(7, 5, 1, {1, 1}, 2));
  agent.Count();
  agent.End(7, 1, kTorn);
  CHECK(agent.EndBadly(7, 2, absl::UnavailableError("gone")) ==
        "store 0/5 free e-1 g1\nfailed 7 0/5 g1 DATA_LOSS lost from 0 mismatches 1");
}

TEST_CASE("sources that fail are tried as often as the settings say", "[worker]") {
  AgentSettings settings = Agent::Quiet();
  settings.attempts_per_source = 2;
  Agent agent = Ready(settings);
  agent.Hear(Order(7, 5, 1, {1, 1}, 2));
  agent.Count();
  CHECK(agent.EndBadly(7, 1, absl::UnavailableError("")) == "transfer 7.2 0/5 e1 from slot 2 rate 0");
  CHECK(agent.EndBadly(7, 2, absl::UnavailableError("")) == "transfer 7.3 0/5 e1 from slot 1 rate 0");
  CHECK(agent.EndBadly(7, 3, absl::UnavailableError("")) == "transfer 7.4 0/5 e1 from slot 2 rate 0");
  CHECK(agent.EndBadly(7, 4, absl::UnavailableError("")) ==
        "store 0/5 free e-1 g1\nfailed 7 0/5 g1 UNAVAILABLE lost from 0 mismatches 0");
}

TEST_CASE("an attempt that ended already says nothing any more", "[worker]") {
  Agent agent = Ready();
  agent.Hear(Order(7, 5, 1, {1, 1}, 2));
  agent.Count();
  agent.EndBadly(7, 1, absl::UnavailableError(""));
  CHECK(agent.End(7, 1, kFits) == "");
  CHECK(agent.End(9, 2, kFits) == "");
  CHECK(agent.End(7, 2, kFits) == "post move 0/5 g1");
  CHECK(agent.End(7, 2, kTorn) == "");
}

TEST_CASE("a slow attempt is cancelled, and the next begins only after it has ended", "[worker]") {
  Agent agent = Ready();
  agent.Hear(Order(7, 5, 1, {1, 1}, 2));
  agent.Count();
  CHECK(agent.worker.NextWakeup() == agent.now + absl::Seconds(5));
  CHECK(agent.Pass(absl::Seconds(5)) == "cancel transfer 7.1");
  CHECK(agent.Pass(absl::Seconds(1)) == "");
  CHECK(agent.EndBadly(7, 1, absl::AbortedError("")) == "transfer 7.2 0/5 e1 from slot 2 rate 0");
  CHECK(agent.Pass(absl::Seconds(4)) == "cancel transfer 7.2");
  CHECK(agent.EndBadly(7, 2, absl::AbortedError("")) ==
        "store 0/5 free e-1 g1\nfailed 7 0/5 g1 DEADLINE_EXCEEDED lost from 0 mismatches 0");
}

TEST_CASE("a deadline that passes before the first byte keeps the content", "[worker]") {
  Agent agent = Ready();
  agent.Hear(Order(7, 5, 1, {1, 1}));
  CHECK(agent.Pass(absl::Seconds(10)) ==
        "store 0/5 verified e0 g1\nfailed 7 0/5 g1 DEADLINE_EXCEEDED kept from -1 mismatches 0");
}

TEST_CASE("an engine that does not acknowledge post_move costs the move", "[worker]") {
  Agent agent = Ready();
  agent.Hear(Order(7, 5, 1, {1, 1}));
  agent.Count();
  agent.End(7, 1, kFits);
  CHECK(agent.Pass(absl::Seconds(10)) ==
        "store 0/5 free e-1 g1\nfailed 7 0/5 g1 DEADLINE_EXCEEDED lost from 0 mismatches 0");
  CHECK(agent.Give(PostMoveAcknowledged{LayerId(0), SlotIdx(5), 1}) == "");
}

TEST_CASE("a cancel in mid-copy frees the slot when the copy has ended, even if it ended well", "[worker]") {
  Agent agent = Ready();
  const MoveOrder order = Order(7, 5, 1, {1, 1}, 2);
  agent.Hear(order);
  agent.Count();
  CHECK(agent.Hear(CancelOf(order)) == "cancel transfer 7.1");
  CHECK(agent.Hear(CancelOf(order)) == "");
  CHECK(agent.End(7, 1, kFits) == "store 0/5 free e-1 g1\nfailed 7 0/5 g1 ABORTED lost from 0 mismatches 0");
  CHECK(agent.Hear(CancelOf(order)) == "failed 7 0/5 g1 ABORTED lost from 0 mismatches 0");
}

TEST_CASE("a cancel while post_move is awaited frees the slot", "[worker]") {
  Agent agent = Ready();
  agent.Hear(Order(7, 5, 1, {1, 1}));
  agent.Count();
  agent.End(7, 1, kFits);
  CHECK(agent.Hear(CancelOf(Order(7, 5, 1, {1, 1}))) ==
        "store 0/5 free e-1 g1\nfailed 7 0/5 g1 ABORTED lost from 0 mismatches 0");
}

TEST_CASE("a cancel that overtakes its order uses the generation up", "[worker]") {
  Agent agent = Ready();
  const MoveOrder order = Order(7, 5, 1, {1, 1});
  CHECK(agent.Hear(CancelOf(order)) == "store 0/5 verified e0 g1\nfailed 7 0/5 g1 ABORTED kept from -1 mismatches 0");
  CHECK(agent.Hear(order) == "failed 7 0/5 g1 ABORTED kept from -1 mismatches 0");
  CHECK(agent.worker.moves().open().empty());
}

TEST_CASE("a cancel that comes too late is told that the move has finished", "[worker]") {
  Agent agent = Ready();
  const MoveOrder order = Order(7, 5, 1, {1, 1});
  agent.Hear(order);
  agent.Count();
  agent.End(7, 1, kFits);
  agent.Give(PostMoveAcknowledged{LayerId(0), SlotIdx(5), 1});
  CHECK(agent.Hear(CancelOf(order)) == "finished 7 0/5 g1 bytes 1000 mismatches 0");
}

TEST_CASE("a cancel of a generation long gone changes nothing", "[worker]") {
  Agent agent = Ready();
  CHECK(agent.Hear(CancelOf(Order(7, 5, 0, {1, 1}))) == "failed 7 0/5 g0 ABORTED lost from -1 mismatches 0");
  CHECK(agent.Hear(CancelOf(Order(7, 5, 2, {1, 1}))) == "failed 7 0/5 g2 ABORTED lost from -1 mismatches 0");
  CHECK(agent.Hear(CancelOf(Order(7, 2, 1, {1, 1}))) == "failed 7 0/2 g1 INVALID_ARGUMENT lost from -1 mismatches 0");
}

TEST_CASE("a controller that took over cancels by slot and generation, and is answered by its own id", "[worker]") {
  Agent agent = Ready();
  agent.Hear(Order(7, 5, 1, {1, 1}));
  agent.Count();
  agent.Attach(2);
  CHECK(agent.Hear(CancelOf(Order(40, 5, 1, {1, 1}))) == "cancel transfer 7.1");
  CHECK(agent.EndBadly(7, 1, absl::AbortedError("")) ==
        "store 0/5 free e-1 g1\nfailed 40 0/5 g1 ABORTED lost from 0 mismatches 0");
}

TEST_CASE("without a controller, moves under way go on and what has not begun is given up", "[worker]") {
  Agent agent;
  AgentSettings settings = Agent::Quiet();
  settings.concurrent_moves_max = 1;
  agent.Attach(1, settings);
  agent.Settle({1, 1}, kWithout3And5);
  agent.Hear(Order(7, 5, 1, {1, 1}));
  agent.Count();
  agent.Hear(Order(8, 3, 1, {1, 1}));
  agent.Count();
  CHECK(agent.Give(StreamClosed{agent.stream}) == "store 0/3 verified e2 g1");
  CHECK(agent.End(7, 1, kFits) == "post move 0/5 g1");
  CHECK(agent.Give(PostMoveAcknowledged{LayerId(0), SlotIdx(5), 1}) == "store 0/5 verified e1 g1");
  CHECK(agent.Give(StreamOpened{agent.stream = 9}) ==
        "attach term 1 epoch 1.1 quiesced 1.1 view 0 [verified e2 g1, verified e3 g0, verified e1 g1, "
        "verified e2 g0, verified e3 g0, verified e0 g0]");
}

TEST_CASE("as many transfers run as the settings allow, in order of arrival", "[worker]") {
  Agent agent;
  AgentSettings settings = Agent::Quiet();
  settings.concurrent_moves_max = 1;
  agent.Attach(1, settings);
  agent.Settle({1, 1}, kWithout3And5);
  agent.Hear(Order(7, 5, 1, {1, 1}));
  agent.Hear(Order(8, 3, 1, {1, 1}));
  CHECK(agent.Count() == "store 0/5 writing e1 g1\ntransfer 7.1 0/5 e1 from slot 1 rate 0");
  CHECK(agent.Count() == "");
  CHECK(agent.End(7, 1, kFits) == "post move 0/5 g1\nstore 0/3 writing e1 g1\ntransfer 8.1 0/3 e1 from slot 1 rate 0");
}

TEST_CASE("the bytes per second granted never add up to more than the settings allow", "[worker]") {
  Agent agent;
  AgentSettings settings = Agent::Quiet();
  settings.bytes_per_second_max = 1000;
  agent.Attach(1, settings);
  agent.Settle({1, 1}, kWithout3And5);
  agent.Hear(Order(7, 5, 1, {1, 1}, 2));
  SECTION("a move that runs alone has all of it, and others wait for its end") {
    CHECK(agent.Count() == "store 0/5 writing e1 g1\ntransfer 7.1 0/5 e1 from slot 1 rate 1000");
    agent.Hear(Order(8, 3, 1, {1, 1}));
    CHECK(agent.Count() == "");
    CHECK(agent.EndBadly(7, 1, absl::UnavailableError("")) == "transfer 7.2 0/5 e1 from slot 2 rate 1000");
    CHECK(agent.End(7, 2, kFits) ==
          "post move 0/5 g1\nstore 0/3 writing e1 g1\ntransfer 8.1 0/3 e1 from slot 1 rate 1000");
  }
  SECTION("moves that begin together share it") {
    agent.Hear(Order(8, 3, 1, {1, 1}));
    agent.Count();
    agent.Pass(absl::ZeroDuration());
    CHECK(agent.worker.moves().open().size() == 2);
    CHECK(agent.Count() == "");
    uint64_t granted = 0;
    for (const auto& [key, move] : agent.worker.moves().open()) granted += move.bytes_per_second;
    CHECK(granted == 1000);
  }
}

TEST_CASE("a slot left in writing by an earlier agent is freed before anything else", "[worker]") {
  RegionState region = Region();
  auto maps = std::make_shared<Maps>(*region.maps);
  maps->epoch = {3, 4};
  maps->layers[0] = MapOf(kWithout5);
  region.maps = maps;
  region.quiesced_epoch = {3, 4};
  region.term_obeyed = 3;
  region.slots[2] = {.state = SlotState::kWriting, .expert = ExpertId(1), .generation = 6};
  Agent agent(region);
  CHECK(agent.Give(StreamOpened{1}) ==
        "store 0/5 free e-1 g6\n"
        "attach term 3 epoch 3.4 quiesced 3.4 view 0 [verified e2 g0, verified e3 g0, free e-1 g6, "
        "verified e2 g0, verified e3 g0, verified e0 g0]");
  agent.stream = 1;
  agent.Hear(Welcome{.term = 3, .settings = Agent::Quiet()});
  CHECK(agent.Hear(Order(9, 5, 7, {3, 4})) == "read counters");
}

TEST_CASE("an agent that takes over does not trust slots that older maps may name", "[worker]") {
  RegionState region = Region();
  auto maps = std::make_shared<Maps>(*region.maps);
  maps->epoch = {3, 4};
  maps->layers[0] = MapOf(kWithout5);
  region.maps = maps;
  region.quiesced_epoch = {3, 3};
  Agent agent(region);
  agent.Attach(4);
  CHECK(agent.Hear(Order(9, 5, 1, {3, 3})).find("failed 9 0/5 g1 FAILED_PRECONDITION kept") != std::string::npos);
  agent.Observe({3, 4});
  CHECK(agent.Hear(Order(10, 5, 2, {3, 3})) == "read counters");
}

}  // namespace
}  // namespace evenkeel::agent::script
