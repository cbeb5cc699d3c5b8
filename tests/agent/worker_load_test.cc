// SPDX-License-Identifier: Apache-2.0
//
// The worker's load reports and its scrubbing (protocol, rules 10 and 29).
#include <catch2/catch.hpp>

#include "tests/agent/core_script.h"

namespace evenkeel::agent::script {
namespace {

const std::vector<int> kWithout5 = {0, 1, 2, 2, 3, -1};

AgentSettings Reporting() {
  AgentSettings settings = Agent::Quiet();
  settings.report_interval = absl::Milliseconds(100);
  return settings;
}

AgentSettings Scrubbing() {
  AgentSettings settings = Agent::Quiet();
  settings.scrub_interval = absl::Seconds(1);
  return settings;
}

TEST_CASE("every interval the counters are read and their growth is reported with the engine's state", "[worker]") {
  Agent agent;
  agent.Attach(1, Reporting());
  agent.Observe({});
  CHECK(agent.worker.NextWakeup() == agent.now + absl::Milliseconds(100));
  CHECK(agent.Pass(absl::Milliseconds(100)) == "read counters");
  CHECK(agent.Pass(absl::Milliseconds(100)) == "");  // one reading at a time
  CHECK(agent.Count({10, 0, 3, 0, 0, 7}) ==
        "load steps 1-2 [0/3 e2 10, 0/5 e0 3, 1/5 e0 7] unrouted 0\nengine alive steps 0");
  CHECK(agent.Pass(absl::Milliseconds(100)) == "read counters");
  CHECK(agent.Count({10, 5, 3, 0, 0, 8}) == "load steps 1-2 [0/4 e3 5, 1/5 e0 1] unrouted 0\nengine alive steps 0");
}

TEST_CASE("counters as an agent finds them are not reported as load", "[worker]") {
  RegionState region = Region();
  region.tokens_of_slot = {100, 100, 100, 100, 100, 100};
  Agent agent(region);
  agent.Attach(1, Reporting());
  agent.Pass(absl::Milliseconds(100));
  CHECK(agent.Count({100, 100, 101, 100, 100, 100}) == "load steps 1-2 [0/5 e0 1] unrouted 0");
}

TEST_CASE("load before a move is credited to the expert that left", "[worker]") {
  Agent agent;
  agent.Attach(1, Reporting());
  agent.Settle({1, 1}, kWithout5);
  agent.Hear(Order(7, 5, 1, {1, 1}));
  agent.Count({0, 0, 40, 0, 0, 0});
  agent.End(7, 1, 1);
  agent.Give(PostMoveAcknowledged{LayerId(0), SlotIdx(5), 1});
  agent.Hear(Update({1, 2}, agent.worker.newest_maps().get(), {{0, MapOf({0, 1, 2, 2, 3, 1})}}));
  agent.Pass(absl::Milliseconds(100));
  CHECK(agent.Count({0, 0, 42, 0, 0, 0}) == "load steps 1-2 [0/5 e1 2, 0/5 e0 40] unrouted 0\nengine alive steps 0");
}

TEST_CASE("a reading asked for before the order does not let its move begin", "[worker]") {
  Agent agent;
  agent.Attach(1, Reporting());
  agent.Settle({1, 1}, kWithout5);
  CHECK(agent.Pass(absl::Milliseconds(100)) == "read counters");
  CHECK(agent.Hear(Order(7, 5, 1, {1, 1})) == "read counters");
  CHECK(agent.Count({0, 0, 30, 0, 0, 0}).find("transfer") == std::string::npos);
  CHECK(agent.Count({0, 0, 40, 0, 0, 0}).find("transfer 7.1") != std::string::npos);
}

TEST_CASE("load adds up while no controller listens", "[worker]") {
  Agent agent;
  agent.Attach(1, Reporting());
  agent.Pass(absl::Milliseconds(100));
  agent.Give(StreamClosed{agent.stream});
  CHECK(agent.Count({5, 0, 0, 0, 0, 0}) == "");
  CHECK(agent.Pass(absl::Seconds(10)) == "");
  agent.Attach(1, Reporting());
  agent.Pass(absl::Milliseconds(100));
  CHECK(agent.Count({9, 0, 0, 0, 0, 0}) == "load steps 1-2 [0/3 e2 9] unrouted 0");
}

TEST_CASE("prefill and decode are reported apart, and follow the expert they were counted for", "[worker]") {
  RegionState region = Region();
  region.tokens_of_slot = {100, 0, 0, 0, 0, 0};
  region.prefill_of_slot = {60, 0, 0, 0, 0, 0};
  region.decode_of_slot = {30, 0, 0, 0, 0, 0};
  Agent agent(region);
  agent.Attach(1, Reporting());
  agent.Settle({1, 1}, kWithout5);
  const auto count = [&agent](std::vector<uint64_t> all, std::vector<uint64_t> prefill, std::vector<uint64_t> decode) {
    return agent.Give(CountersRead{.first_step = 1,
                                   .last_step = 2,
                                   .tokens_of_slot = std::move(all),
                                   .prefill_of_slot = std::move(prefill),
                                   .decode_of_slot = std::move(decode)});
  };
  agent.Pass(absl::Milliseconds(100));
  CHECK(count({110, 0, 0, 0, 0, 4}, {65, 0, 0, 0, 0, 0}, {33, 0, 0, 0, 0, 0}) ==
        "load steps 1-2 [0/3 e2 10 p5 d3, 1/5 e0 4] unrouted 0\nengine alive steps 0");
  // Into slot 5 of layer 0: what it counted before stays the old expert's.
  agent.Hear(Order(7, 5, 1, {1, 1}));
  count({110, 0, 40, 0, 0, 4}, {65, 0, 40, 0, 0, 0}, {33, 0, 0, 0, 0, 0});
  agent.End(7, 1, 1);
  agent.Give(PostMoveAcknowledged{LayerId(0), SlotIdx(5), 1});
  agent.Pass(absl::Milliseconds(100));
  CHECK(count({110, 0, 43, 0, 0, 4}, {65, 0, 40, 0, 0, 0}, {33, 0, 3, 0, 0, 0}) ==
        "load steps 1-2 [0/5 e1 3 p0 d3, 0/5 e0 40 p40 d0] unrouted 0\nengine alive steps 0");
  // Readings that do not tell phases apart are all other.
  agent.Pass(absl::Milliseconds(100));
  CHECK(count({111, 0, 43, 0, 0, 4}, {}, {}) == "load steps 1-2 [0/3 e2 1] unrouted 0\nengine alive steps 0");
}

TEST_CASE("the mean step time is that of the last interval, unknown where no step ended", "[worker]") {
  Agent agent;
  agent.Attach(1, Reporting());
  const auto observe = [&agent](uint64_t num_steps, absl::Duration total) {
    EngineObserved observed;
    observed.num_steps_timed = num_steps;
    observed.steps_time = total;
    agent.Give(observed);
  };
  const auto report = [&agent] {
    const std::string trace = agent.Count();
    return trace.substr(trace.find('\n') + 1);
  };
  observe(1000, absl::Seconds(50));  // before this agent came
  agent.Pass(absl::Milliseconds(100));
  observe(1010, absl::Seconds(50) + absl::Milliseconds(80));
  CHECK(report() == "engine alive steps 0 mean 8ms a second 100");
  agent.Pass(absl::Milliseconds(100));
  observe(1010, absl::Seconds(50) + absl::Milliseconds(80));
  CHECK(report() == "engine alive steps 0");
  agent.Pass(absl::Milliseconds(100));
  observe(1011, absl::Seconds(50) + absl::Milliseconds(280));
  CHECK(report() == "engine alive steps 0 mean 200ms a second 10");
}

TEST_CASE("tokens without a replica are reported as unrouted", "[worker]") {
  Agent agent;
  agent.Attach(1, Reporting());
  for (uint64_t unrouted : {uint64_t{11}, uint64_t{15}}) {
    agent.Pass(absl::Milliseconds(100));
    const std::string trace = agent.Give(CountersRead{.first_step = 4,
                                                      .last_step = 9,
                                                      .tokens_of_slot = std::vector<uint64_t>(6, 0),
                                                      .num_unrouted_tokens = unrouted});
    CHECK(trace == (unrouted == 11 ? "load steps 4-9 [] unrouted 0" : "load steps 4-9 [] unrouted 4"));
  }
}

TEST_CASE("a router's counts go to the expert that maps give each slot, of all ranks", "[worker]") {
  Agent agent(Region(CountPlace::kRouter));
  agent.Attach(1, Reporting());
  const auto count = [&](uint64_t slot0, uint64_t slot5) {
    std::vector<uint64_t> tokens(12, 0);
    tokens[0] = slot0;
    tokens[5] = slot5;
    return agent.Count(tokens);
  };
  // Slot 0 of rank 0 is retired, then holds expert 3.
  CHECK(agent.Hear(Update({1, 1}, agent.worker.newest_maps().get(), {{0, MapOf({-1, 1, 2, 2, 3, 0})}})) ==
        "write maps 1.1");
  CHECK(agent.Hear(Update({1, 2}, agent.worker.newest_maps().get(), {{0, MapOf({3, 1, 2, 2, 3, 0})}})) ==
        "read counters");
  CHECK(count(50, 60) == "write maps 1.2");
  agent.Pass(absl::Milliseconds(100));
  CHECK(count(51, 60) == "load steps 1-2 [0/0 e3 1, 0/5 e0 60, 0/0 e0 50] unrouted 0");
}

TEST_CASE("maps that wait for a reading are not written by the retry of older ones", "[worker]") {
  Agent agent(Region(CountPlace::kRouter));
  agent.Attach(1);
  CHECK(agent.Hear(Update({1, 1}, agent.worker.newest_maps().get(), {{0, MapOf({-1, 1, 2, 2, 3, 0})}})) ==
        "write maps 1.1");
  agent.Give(MapsWritten{.epoch = {1, 1}, .written = false});
  agent.now += Worker::kWriteRetry;
  CHECK(agent.Hear(Update({1, 2}, agent.worker.newest_maps().get(), {{0, MapOf({3, 1, 2, 2, 3, 0})}})) ==
        "read counters");
  CHECK(agent.Count(std::vector<uint64_t>(12, 0)) == "write maps 1.2");
}

TEST_CASE("one named slot after the other is fingerprinted again, one at a time", "[worker]") {
  Agent agent;
  agent.Attach(1, Scrubbing());
  agent.Settle({1, 1}, kWithout5);
  CHECK(agent.Pass(absl::Seconds(1)) == "fingerprint 0/3 g0");
  CHECK(agent.Pass(absl::Seconds(1)) == "");
  CHECK(agent.Give(SlotFingerprinted{LayerId(0), SlotIdx(3), 0, 2}) == "fingerprint 0/4 g0");
  CHECK(agent.Give(SlotFingerprinted{LayerId(0), SlotIdx(4), 0, 3}) == "");
  CHECK(agent.Pass(absl::Seconds(1)) == "fingerprint 1/3 g0");  // 0/5 is not named
}

TEST_CASE("a slot that no longer matches is reported at once and freed when nobody uses it", "[worker]") {
  Agent agent;
  agent.Attach(1, Scrubbing());
  for (int slot : {3, 4, 5}) {
    agent.Pass(absl::Seconds(1));
    const uint64_t found = slot == 5 ? 99 : FingerprintOf(LayerId(0), ExpertId(slot - 1));
    const std::string trace = agent.Give(SlotFingerprinted{LayerId(0), SlotIdx(slot), 0, found});
    CHECK(trace == (slot == 5 ? "slot lost 0/5 g0" : ""));
  }
  CHECK(agent.Hear(Update({1, 1}, agent.worker.newest_maps().get(), {{0, MapOf({0, 1, 2, 2, 3, 0})}}))
            .find("refused 1.1") == 0);
  CHECK(agent.Hear(Update({1, 1}, agent.worker.newest_maps().get(), {{0, MapOf(kWithout5)}})) == "write maps 1.1");
  CHECK(agent.Observe({1, 1}) == "quiesced 1.1 view 0\nstore 0/5 free e-1 g0");
  const std::string attach = agent.Give(StreamOpened{5});
  CHECK(attach.find("[verified e2 g0, verified e3 g0, free e-1 g0,") != std::string::npos);
}

TEST_CASE("the last tokens of a slot that is freed go to the expert it held", "[worker]") {
  Agent agent;
  AgentSettings settings = Scrubbing();
  settings.report_interval = absl::Milliseconds(100);
  agent.Attach(1, settings);
  agent.Settle({1, 1}, kWithout5);
  // One slot after the other is looked at: 3, which still matches, then 4, which does not.
  agent.Pass(absl::Seconds(1));
  agent.Count({0, 0, 0, 0, 0, 0});
  agent.Give(SlotFingerprinted{LayerId(0), SlotIdx(3), 0, 2});
  agent.Pass(absl::Seconds(1));
  agent.Count({0, 0, 0, 0, 0, 0});
  CHECK(agent.Give(SlotFingerprinted{LayerId(0), SlotIdx(4), 0, 99}) == "slot lost 0/4 g0");
  agent.Hear(Update({1, 2}, agent.worker.newest_maps().get(), {{0, MapOf({3, 1, 2, 2, -1, -1})}}));
  CHECK(agent.Observe({1, 2}) == "quiesced 1.2 view 0\nstore 0/4 free e-1 g0");
  agent.Pass(absl::Milliseconds(100));
  CHECK(agent.Count({0, 9, 0, 0, 0, 0}).find("[0/4 e3 9]") != std::string::npos);
}

TEST_CASE("a fingerprint of content that has been replaced since is no loss", "[worker]") {
  Agent agent;
  agent.Attach(1, Scrubbing());
  agent.Pass(absl::Seconds(1));
  agent.Hear(CancelMove{.move_id = 3, .layer = LayerId(0), .slot = SlotIdx(3), .generation = 1});
  CHECK(agent.Give(SlotFingerprinted{LayerId(0), SlotIdx(3), 0, 99}) == "");
}

}  // namespace
}  // namespace evenkeel::agent::script
