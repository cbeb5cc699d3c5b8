// SPDX-License-Identifier: Apache-2.0
//
// The worker's terms, views, maps and acknowledgements (protocol, rules 2, 3, 7, 11, 16).
#include <catch2/catch.hpp>

#include "agent/core/map_update.h"
#include "tests/agent/core_script.h"

namespace evenkeel::agent::script {
namespace {

// Slot 5 is retired: expert 0 is left in slot 0.
const std::vector<int> kWithout5 = {0, 1, 2, 2, 3, -1};

View ViewOf(uint64_t number, std::vector<int> ranks) {
  View view{.number = number, .members = {}};
  for (int rank : ranks) view.members.push_back({RankId(rank), 1});
  return view;
}

TEST_CASE("an opened stream is answered with the whole inventory", "[worker]") {
  Agent agent;
  CHECK(agent.Give(StreamOpened{1}) ==
        "attach term 0 epoch 0.0 quiesced 0.0 view 0 [verified e2 g0, verified e3 g0, verified e0 g0, "
        "verified e2 g0, verified e3 g0, verified e0 g0]");
}

TEST_CASE("a higher term is stored before anything of it is obeyed", "[worker]") {
  Agent agent;
  CHECK(agent.Attach(5) == "store term 5\nquiesced 0.0 view 0");
  CHECK(agent.worker.term_obeyed() == 5);
}

TEST_CASE("the same term is obeyed again without being stored", "[worker]") {
  Agent agent;
  agent.Attach(5);
  CHECK(agent.Attach(5) == "quiesced 0.0 view 0");
}

TEST_CASE("a controller of a lower term is left, and nothing it says is done", "[worker]") {
  RegionState region = Region();
  region.term_obeyed = 7;
  Agent agent(region);
  CHECK(agent.Attach(6) == "close FAILED_PRECONDITION");
  CHECK(agent.Hear(Update({6, 1}, agent.worker.newest_maps().get(), {{0, MapOf(kWithout5)}})) == "");
  CHECK(agent.worker.newest_maps()->epoch == Epoch{});
  CHECK_FALSE(agent.worker.attached());
}

TEST_CASE("nothing is obeyed before the controller has named its term", "[worker]") {
  Agent agent;
  agent.Give(StreamOpened{agent.stream = 1});
  CHECK(agent.Hear(ViewUpdate{ViewOf(1, {0, 1})}) == "");
  CHECK(agent.Hear(Update({1, 1}, agent.worker.newest_maps().get(), {{0, MapOf(kWithout5)}})) == "");
}

TEST_CASE("messages of an earlier stream are dropped when they arrive after its successor", "[worker]") {
  Agent agent;
  agent.Attach(1);
  agent.Attach(2);
  const MapsUpdate late = Update({2, 1}, agent.worker.newest_maps().get(), {{0, MapOf(kWithout5)}});
  CHECK(agent.Give(MessageReceived{late, agent.stream - 1}) == "");
  CHECK(agent.Give(StreamClosed{agent.stream - 1}) == "");
  CHECK(agent.worker.attached());
}

TEST_CASE("a refusal ends the stream with its reason", "[worker]") {
  Agent agent;
  agent.Give(StreamOpened{agent.stream = 1});
  CHECK(agent.Hear(Refused{absl::FailedPreconditionError("another model")}) == "close FAILED_PRECONDITION");
}

TEST_CASE("fitting maps are written, and acknowledged once when the engine has quiesced there", "[worker]") {
  Agent agent;
  agent.Attach(1);
  CHECK(agent.Hear(Update({1, 1}, agent.worker.newest_maps().get(), {{0, MapOf(kWithout5)}})) == "write maps 1.1");
  CHECK(agent.worker.write_pending());
  CHECK(agent.Give(MapsWritten{.epoch = {1, 1}, .written = true}) == "");
  CHECK_FALSE(agent.worker.write_pending());
  CHECK(agent.Observe({0, 0}) == "");
  CHECK(agent.Observe({1, 1}) == "quiesced 1.1 view 0");
  CHECK(agent.Observe({1, 1}) == "");
  CHECK(agent.Observe({0, 0}) == "");  // read before, delivered late
}

TEST_CASE("a new view alone is acknowledged too", "[worker]") {
  Agent agent;
  agent.Attach(1);
  CHECK(agent.Hear(ViewUpdate{ViewOf(3, {0, 1})}) == "store view 3");
  CHECK(agent.Observe({0, 0}, 3) == "quiesced 0.0 view 3");
}

TEST_CASE("views only grow, and a malformed one ends the stream", "[worker]") {
  Agent agent;
  agent.Attach(1);
  agent.Hear(ViewUpdate{ViewOf(3, {0, 1})});
  CHECK(agent.Hear(ViewUpdate{ViewOf(2, {0})}) == "");
  CHECK(agent.Hear(ViewUpdate{ViewOf(3, {0})}) == "");
  CHECK(agent.worker.view().members.size() == 2);
  CHECK(agent.Hear(ViewUpdate{ViewOf(4, {1, 0})}) == "close INVALID_ARGUMENT");
  CHECK(agent.worker.view().number == 3);
}

TEST_CASE("maps that do not fit are refused with what is held", "[worker]") {
  Agent agent;
  agent.Attach(2);
  agent.Settle({2, 1}, kWithout5);
  const Maps& held = *agent.worker.newest_maps();
  MapsUpdate update = Update({2, 2}, &held, {{0, MapOf({0, 1, 2, 2, 3, -1})}});

  SECTION("older") { update.epoch = {2, 0}; }
  SECTION("of another base") { update.base_epoch = {2, 0}; }
  SECTION("of a term that is not obeyed") { update.epoch = {3, 1}; }
  SECTION("of an older term") { update.epoch = {1, 9}; }
  SECTION("of another digest") { ++update.maps_digest; }
  SECTION("the same epoch with other maps") { update = Update({2, 1}, &held, {{1, MapOf({0, 1, 2, 2, 3, -1})}}); }
  SECTION("incomplete, yet full by name") { update.base_epoch = update.epoch; }
  SECTION("an unknown layer") { update.layers[0].first = LayerId(2); }
  SECTION("a layer twice") { update.layers.push_back(update.layers[0]); }
  SECTION("not of this shape") { update.layers[0].second.slots[0] = SlotIdx(6); }
  SECTION("an own slot for an expert that it does not hold") {
    update = Update({2, 2}, &held, {{0, MapOf({0, 1, 2, 3, -1, -1})}});
  }
  const std::string trace = agent.Hear(update);
  CHECK(trace.find("refused " + update.epoch.ToString() + " held 2.1: ") == 0);
  CHECK(trace.find('\n') == std::string::npos);
  CHECK(agent.worker.newest_maps()->epoch == Epoch{2, 1});
}

TEST_CASE("maps that come twice are neither written nor refused again", "[worker]") {
  Agent agent;
  agent.Attach(1);
  const MapsUpdate update = Update({1, 1}, agent.worker.newest_maps().get(), {{0, MapOf(kWithout5)}});
  CHECK(agent.Hear(update) == "write maps 1.1");
  CHECK(agent.Hear(update) == "");
}

TEST_CASE("an expert without a replica is accepted: its tokens route to nowhere until it is restored", "[worker]") {
  Agent agent;
  agent.Attach(1);
  CHECK(agent.Hear(Update({1, 1}, agent.worker.newest_maps().get(), {{0, MapOf({0, -1, 2, 2, 3, 0})}})) ==
        "write maps 1.1");
}

TEST_CASE("full maps replace whatever is held", "[worker]") {
  Agent agent;
  agent.Attach(4);
  CHECK(agent.Hear(Update({4, 9}, nullptr, {{0, MapOf(kWithout5)}, {1, MapOf(kWithout5)}})) == "write maps 4.9");
}

TEST_CASE("with no bank free only the newest maps are kept, and deltas build on them unwritten", "[worker]") {
  Agent agent;
  agent.Attach(1);
  CHECK(agent.Hear(Update({1, 1}, agent.worker.newest_maps().get(), {{0, MapOf(kWithout5)}})) == "write maps 1.1");
  CHECK(agent.Give(MapsWritten{.epoch = {1, 1}, .written = false}) == "");
  CHECK(agent.Hear(Update({1, 2}, agent.worker.newest_maps().get(), {{1, MapOf(kWithout5)}})) == "write maps 1.2");
  CHECK(agent.Give(MapsWritten{.epoch = {1, 2}, .written = false}) == "");
  CHECK(agent.worker.NextWakeup() == agent.now + Worker::kWriteRetry);
  CHECK(agent.Pass(Worker::kWriteRetry) == "write maps 1.2");
  CHECK(agent.Give(MapsWritten{.epoch = {1, 2}, .written = true}) == "");
  CHECK(agent.Pass(absl::Seconds(1)) == "");
  CHECK(agent.worker.newest_maps()->layers[0] == MapOf(kWithout5));
  CHECK(agent.worker.newest_maps()->layers[1] == MapOf(kWithout5));
}

TEST_CASE("maps wait for the view they presume", "[worker]") {
  Agent agent;
  agent.Attach(1);
  const Maps held = *agent.worker.newest_maps();
  CHECK(agent.Hear(Update({1, 1}, &held, {{0, MapOf(kWithout5)}}, 2)) == "");
  CHECK(agent.worker.newest_maps()->epoch == Epoch{});
  CHECK(agent.Hear(ViewUpdate{ViewOf(1, {0, 1})}) == "store view 1");
  CHECK(agent.Hear(ViewUpdate{ViewOf(2, {0, 1})}) == "store view 2\nwrite maps 1.1");
}

TEST_CASE("too many maps that wait for a view are refused, and a new stream forgets those that wait", "[worker]") {
  Agent agent;
  agent.Attach(1);
  const Maps held = *agent.worker.newest_maps();
  for (uint32_t n = 1; n <= Worker::kUpdatesWaitingMax; ++n) {
    CHECK(agent.Hear(Update({1, n}, &held, {{0, MapOf(kWithout5)}}, 2)) == "");
  }
  CHECK(agent.Hear(Update({1, 99}, &held, {{0, MapOf(kWithout5)}}, 2)).find("refused 1.99 held 0.0") == 0);
  agent.Attach(1);
  CHECK(agent.Hear(ViewUpdate{ViewOf(2, {0, 1})}) == "store view 2");
}

TEST_CASE("what the engine quiesced at is told again on every stream", "[worker]") {
  Agent agent;
  agent.Attach(1);
  agent.Settle({1, 1}, kWithout5);
  CHECK(agent.Attach(2) == "store term 2\nquiesced 1.1 view 0");
}

TEST_CASE("an engine that has quiesced at maps before the newest is reported so", "[worker]") {
  Agent agent;
  agent.Attach(1);
  agent.Hear(Update({1, 1}, agent.worker.newest_maps().get(), {{0, MapOf(kWithout5)}}));
  agent.Hear(Update({1, 2}, agent.worker.newest_maps().get(), {{1, MapOf(kWithout5)}}));
  CHECK(agent.Observe({1, 1}) == "quiesced 1.1 view 0");
  CHECK(agent.Observe({1, 2}) == "quiesced 1.2 view 0");
}

TEST_CASE("an engine's end is told at once, and again to a controller that comes later", "[worker]") {
  Agent agent;
  agent.Attach(1);
  EngineObserved ended;
  ended.status.alive = false;
  ended.status.num_steps = 9;
  CHECK(agent.Give(ended) == "engine ended steps 9");
  CHECK(agent.Give(ended) == "");
  CHECK(agent.Attach(2) == "store term 2\nengine ended steps 9\nquiesced 0.0 view 0");
}

}  // namespace
}  // namespace evenkeel::agent::script
