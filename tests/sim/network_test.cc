// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/network.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <utility>
#include <vector>

namespace evenkeel::sim {
namespace {

// One agent, one controller; what arrives is noted in order.
struct Ends {
  explicit Ends(uint64_t seed) : network(Slow(), &queue, 1, seed) {
    network.SetHandlers(
        {.on_connected =
             [this](int, StreamId stream, bool opened) {
               if (opened) streams.push_back(stream);
             },
         .on_message_to_agent =
             [this](int, StreamId stream, ControllerMessage message) {
               down.emplace_back(stream, std::get<Welcome>(message).term);
             },
         .on_closed_to_agent = [this](int, StreamId stream) { closed_to_agent.push_back(stream); },
         .on_message_to_controller =
             [this](int, StreamId stream, AgentMessage message) {
               up.emplace_back(stream, std::get<SlotLost>(message).generation);
             },
         .on_closed_to_controller = [this](int, StreamId stream) { closed_to_controller.push_back(stream); }});
    network.SetCurrentController(0);
  }
  static Options Slow() {
    Options options;
    options.faults.slow_message = 0.3;
    return options;
  }
  void RunFor(absl::Duration duration) {
    const absl::Time end = queue.now() + duration;
    while (queue.RunNext(end)) {
    }
  }
  StreamId Connect() {
    network.Connect(0);
    RunFor(absl::Milliseconds(10));
    return streams.back();
  }
  void SendUp(StreamId stream, uint64_t number) {
    network.SendToController(stream, SlotLost{.layer = LayerId(0), .slot = SlotIdx(0), .generation = number});
  }

  EventQueue queue;
  Network network;
  std::vector<StreamId> streams, closed_to_agent, closed_to_controller;
  std::vector<std::pair<StreamId, uint64_t>> up, down;
};

TEST_CASE("a stream is ordered and loses nothing while it lasts", "[network]") {
  Ends ends(GENERATE(range<uint64_t>(1, 10)));
  const StreamId stream = ends.Connect();
  for (uint64_t i = 0; i < 50; ++i) {
    ends.SendUp(stream, i);
    ends.network.SendToAgent(stream, Welcome{.term = static_cast<uint32_t>(i), .settings = {}});
  }
  ends.RunFor(absl::Seconds(2));
  REQUIRE(ends.up.size() == 50);
  REQUIRE(ends.down.size() == 50);
  for (uint64_t i = 0; i < 50; ++i) {
    CHECK(ends.up[i].second == i);
    CHECK(ends.down[i].second == i);
  }
}

TEST_CASE("what a broken stream still brings is a first part, maybe after its successor", "[network]") {
  int num_overtaken = 0, num_lost = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    Ends ends(seed);
    const StreamId old = ends.Connect();
    for (uint64_t i = 0; i < 5; ++i) ends.SendUp(old, i);
    ends.network.Break(old);
    const StreamId next = ends.Connect();
    ends.SendUp(next, 100);
    ends.RunFor(absl::Seconds(3));
    REQUIRE(ends.closed_to_agent == std::vector<StreamId>{old});
    REQUIRE(ends.closed_to_controller == std::vector<StreamId>{old});
    bool successor_seen = false, overtaken = false;
    uint64_t expected = 0;
    for (const auto& [stream, number] : ends.up) {
      if (stream == next) successor_seen = true;
      if (stream != old) continue;
      CHECK(number == expected++);
      overtaken = overtaken || successor_seen;
    }
    REQUIRE(successor_seen);
    num_overtaken += overtaken;
    num_lost += expected < 5;
  }
  CHECK(num_overtaken > 5);
  CHECK(num_lost > 50);
}

TEST_CASE("an agent that is cut off opens no stream", "[network]") {
  Ends ends(1);
  ends.network.CutOff(0, absl::UnixEpoch() + absl::Seconds(1));
  ends.network.Connect(0);
  ends.RunFor(absl::Milliseconds(100));
  CHECK(ends.streams.empty());
  ends.RunFor(absl::Seconds(1));
  CHECK(ends.Connect() > 0);
}

}  // namespace
}  // namespace evenkeel::sim
