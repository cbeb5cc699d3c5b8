// SPDX-License-Identifier: Apache-2.0
//
// The worker of an engine that is suspended (protocol, rule 22).
#include <catch2/catch.hpp>

#include "tests/agent/core_script.h"

namespace evenkeel::agent::script {
namespace {

EngineObserved Suspended(Epoch quiesced = {}) {
  EngineObserved observed{.quiesced_epoch = quiesced, .quiesced_view = 0, .status = {}};
  observed.status.suspended = true;
  observed.suspension = 3;
  return observed;
}

}  // namespace

TEST_CASE("an engine's suspension is told at once, and granted when the controller says that nobody reads",
          "[worker]") {
  Agent agent;
  agent.Attach(1);
  CHECK(agent.Give(Suspended()) == "engine suspended steps 0");
  CHECK(agent.Give(Suspended()) == "");
  CHECK(agent.Pass(absl::Seconds(60)) == "");
  CHECK(agent.Hear(SlotsReleased{}) == "grant 3");
  CHECK(agent.Hear(SlotsReleased{}) == "");
  CHECK(agent.worker.NextWakeup() > agent.now + absl::Hours(1));
}

TEST_CASE("readers are given time to see the suspension, however soon the controller speaks", "[worker]") {
  Agent agent;
  agent.Attach(1);
  agent.Give(Suspended());
  CHECK(agent.Hear(SlotsReleased{}) == "");
  CHECK(agent.worker.NextWakeup() == agent.now + Worker::kReadersLook);
  CHECK(agent.Pass(Worker::kReadersLook) == "grant 3");
}

TEST_CASE("what was released before the engine asked counts for nothing", "[worker]") {
  Agent agent;
  agent.Attach(1);
  agent.Hear(SlotsReleased{});
  agent.Give(Suspended());
  CHECK(agent.Pass(absl::Seconds(10)) == "");
}

TEST_CASE("without a controller a suspension is granted a while after its words were last heard", "[worker]") {
  Agent agent;
  CHECK(agent.Give(Suspended()) == "");
  CHECK(agent.Pass(Worker::kReadersGone - absl::Milliseconds(1)) == "");
  CHECK(agent.Pass(absl::Milliseconds(1)) == "grant 3");

  Agent left;
  left.Attach(1);
  left.Give(Suspended());
  left.Pass(absl::Seconds(5));
  CHECK(left.Give(StreamClosed{left.stream}) == "");
  CHECK(left.worker.NextWakeup() <= left.now + Worker::kReadersGone);
  CHECK(left.Pass(Worker::kReadersGone) == "grant 3");
}

TEST_CASE("moves that wait are given up, and a copy under way has to end first", "[worker]") {
  Agent agent;
  agent.Attach(1);
  agent.Settle({1, 1}, {0, 1, 2, -1, 3, -1});
  const MoveOrder first = Order(7, 3, 1, {1, 1});
  agent.Hear(first);
  CHECK(agent.Count() == "store 0/3 writing e1 g1\ntransfer 7.1 0/3 e1 from slot 1 rate 0");
  agent.Hear(Order(8, 5, 1, {1, 1}));  // waits for its reading

  CHECK(agent.Give(Suspended({1, 1})) ==
        "cancel transfer 7.1\n"
        "store 0/5 verified e0 g1\nfailed 8 0/5 g1 ABORTED kept from -1 mismatches 0\nengine suspended steps 0");
  CHECK(agent.Hear(SlotsReleased{}) == "");
  CHECK(agent.Pass(absl::Seconds(1)) == "");
  CHECK(agent.EndBadly(7, 1, absl::AbortedError("cancelled")) ==
        "store 0/3 free e-1 g1\nfailed 7 0/3 g1 ABORTED lost from 0 mismatches 0\ngrant 3");
}

TEST_CASE("a copy that ends well after the suspension began is not verified", "[worker]") {
  Agent agent;
  agent.Attach(1);
  agent.Settle({1, 1}, {0, 1, 2, -1, 3, -1});
  agent.Hear(Order(7, 3, 1, {1, 1}));
  agent.Count();
  agent.Give(Suspended({1, 1}));
  agent.Pass(absl::Seconds(1));
  CHECK(agent.End(7, 1, FingerprintOf(LayerId(0), ExpertId(1))) ==
        "store 0/3 free e-1 g1\nfailed 7 0/3 g1 ABORTED lost from 0 mismatches 0");
}

TEST_CASE("no order, cancel, scrub or loss changes a slot of a suspended engine", "[worker]") {
  Agent agent;
  AgentSettings settings = Agent::Quiet();
  settings.scrub_interval = absl::Seconds(1);
  agent.Attach(1, settings);
  agent.Settle({1, 1}, {0, 1, 2, -1, 3, -1});
  CHECK(agent.Pass(absl::Seconds(1)) == "fingerprint 0/4 g0");
  agent.Give(Suspended({1, 1}));
  agent.Pass(absl::Seconds(1));
  CHECK(agent.Hear(SlotsReleased{}) == "");  // a slot is being read
  CHECK(agent.Give(SlotFingerprinted{LayerId(0), SlotIdx(4), 0, 12345}) == "slot lost 0/4 g0\ngrant 3");
  CHECK(agent.Hear(Order(7, 3, 1, {1, 1})) == "failed 7 0/3 g1 UNAVAILABLE lost from -1 mismatches 0");
  CHECK(agent.Hear(CancelOf(Order(9, 5, 1, {1, 1}))) == "failed 9 0/5 g1 ABORTED lost from -1 mismatches 0");
  agent.Settle({1, 2}, {0, 1, 2, -1, -1, -1});
  CHECK(agent.Pass(absl::Seconds(10)) == "");
}

TEST_CASE("maps and views go on while the engine is suspended", "[worker]") {
  Agent agent;
  agent.Attach(1);
  agent.Give(Suspended());
  CHECK(agent.Hear(Update({1, 1}, agent.worker.newest_maps().get(), {{0, MapOf({0, 1, 2, -1, 3, -1})}})) ==
        "write maps 1.1");
  CHECK(agent.Hear(ViewUpdate{{.number = 4, .members = {{RankId(1), kIncarnation}}}}) == "store view 4");
}

TEST_CASE("the successor of an agent that died meanwhile says that its slots are not to be relied upon, and grants",
          "[worker]") {
  RegionState region = Region();
  region.suspension = 3;
  region.slots[2].state = SlotState::kWriting;
  Agent agent(region);
  CHECK_THAT(agent.Give(StreamOpened{++agent.stream}),
             Catch::Contains("store 0/5 free") && Catch::Contains("attach") && Catch::Contains("suspended"));
  agent.Hear(Welcome{.term = 1, .settings = Agent::Quiet()});
  agent.Pass(absl::Seconds(1));
  CHECK(agent.Hear(SlotsReleased{}) == "grant 3");
}

}  // namespace evenkeel::agent::script
