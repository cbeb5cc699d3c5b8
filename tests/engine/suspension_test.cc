// SPDX-License-Identifier: Apache-2.0
//
// Weights that change while others watch (docs/protocol.md, rule 22): the engine's calls, with an agent and without.
#include <atomic>
#include <cstddef>
#include <string>
#include <thread>

#include "catch2/catch.hpp"

#include "engine/evenkeel.h"
#include "engine/region/agent_region.h"
#include "tests/engine/engine_and_agent.h"

namespace evenkeel::engine {
namespace {

constexpr double kNotLong = 0.02;

SlotRecord RecordOf(const AgentRegion& agent, int layer, int local) {
  return agent.ReadSlot(LayerId(layer), kShape.SlotAt(RankId(1), local));
}

// What an agent that is asked at once would do.
void Grant(AgentRegion& agent, evenkeel_region* region) {
  evenkeel_error error = {};
  CHECK(evenkeel_suspend(region, kNotLong, &error) == EVENKEEL_DEADLINE_EXCEEDED);
  REQUIRE(agent.Suspension() != 0);
  agent.GrantSuspension(agent.Suspension());
  REQUIRE(evenkeel_suspend(region, 1, &error) == EVENKEEL_OK);
}

}  // namespace

TEST_CASE("an engine without any agent is suspended at once, and resumes with new fingerprints", "[suspension]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  evenkeel_error error = {};
  CHECK(evenkeel_suspend(region.get(), 1, &error) == EVENKEEL_FAILED_PRECONDITION);
  region.MakeReady();
  CHECK(evenkeel_resume(region.get(), 8, &error) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_reload_expert(region.get(), 0, 0) == EVENKEEL_FAILED_PRECONDITION);
  REQUIRE(evenkeel_suspend(region.get(), 1, &error) == EVENKEEL_OK);
  CHECK(evenkeel_reload_expert(region.get(), 0, 1) == evenkeel_initial_expert(region.get(), 0, 1));
  CHECK(evenkeel_reload_expert(region.get(), 0, 3) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_begin_step(region.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_serve_begin(region.get(), 0, 0, 5) == EVENKEEL_FAILED_PRECONDITION);
  REQUIRE(evenkeel_resume(region.get(), 8, &error) == EVENKEEL_OK);
  CHECK(evenkeel_weights_version(region.get()) == 8);
  CHECK(evenkeel_begin_step(region.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL) > 0);
  CHECK(evenkeel_serve_begin(region.get(), 0, 0, 5) == EVENKEEL_OK);
  const auto agent = AgentRegion::Open(region.path());
  REQUIRE(agent.ok());
  CHECK((*agent)->group().weights_version == 8);
  for (int local = 0; local < 3; ++local) {
    const SlotRecord record = RecordOf(**agent, 1, local);
    CHECK(record.state == SlotState::kVerified);
    CHECK(record.generation == 2);
    CHECK(record.fingerprint == (*agent)->FingerprintSlot(LayerId(1), kShape.SlotAt(RankId(1), local)));
  }
}

TEST_CASE("fingerprints tell versions and contents apart", "[suspension]") {
  const TestDirectory directory;
  EngineAndAgent both(SmallOptions(directory));
  const uint64_t first = RecordOf(*both.agent, 0, 0).fingerprint, other = RecordOf(*both.agent, 0, 1).fingerprint;
  evenkeel_error error = {};
  Grant(*both.agent, both.region.get());
  REQUIRE(evenkeel_resume(both.region.get(), 9, &error) == EVENKEEL_OK);
  const uint64_t second = RecordOf(*both.agent, 0, 0).fingerprint;
  CHECK(second != first);
  Grant(*both.agent, both.region.get());
  both.agent->SlotBytes(LayerId(0), kShape.SlotAt(RankId(1), 1))[0][3] ^= std::byte{1};
  REQUIRE(evenkeel_resume(both.region.get(), 7, &error) == EVENKEEL_OK);
  CHECK(RecordOf(*both.agent, 0, 0).fingerprint == first);
  CHECK(RecordOf(*both.agent, 0, 1).fingerprint != other);
}

TEST_CASE("a suspension waits for the agent, and may be waited for again or given up", "[suspension]") {
  const TestDirectory directory;
  EngineAndAgent both(SmallOptions(directory));
  evenkeel_error error = {};
  CHECK(both.agent->Suspension() == 0);
  CHECK(evenkeel_suspend(both.region.get(), kNotLong, &error) == EVENKEEL_DEADLINE_EXCEEDED);
  CHECK(std::string(error.message) == "suspend: copies of the slots have not ended after 0.020 s");
  const uint64_t first = both.agent->Suspension();
  CHECK(first != 0);
  CHECK(both.agent->ReadStatus().suspended);
  CHECK(evenkeel_reload_expert(both.region.get(), 0, 0) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_resume(both.region.get(), 8, &error) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(std::string(error.message) == "resume: evenkeel_suspend has not succeeded; the version stays 7");
  REQUIRE(evenkeel_resume(both.region.get(), 7, &error) == EVENKEEL_OK);
  CHECK(both.agent->Suspension() == 0);
  CHECK(RecordOf(*both.agent, 0, 0).generation == 1);
  both.End(both.Begin());

  both.agent->GrantSuspension(first);  // late: it is of no use for another one
  CHECK(evenkeel_suspend(both.region.get(), kNotLong, &error) == EVENKEEL_DEADLINE_EXCEEDED);
  CHECK(both.agent->Suspension() == first + 2);
  both.agent->GrantSuspension(first + 2);
  CHECK(evenkeel_suspend(both.region.get(), kNotLong, &error) == EVENKEEL_OK);
}

TEST_CASE("a suspension waits for steps and for what is served", "[suspension]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  region.MakeReady();
  evenkeel_error error = {};
  const int64_t ticket = evenkeel_begin_step(region.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL);
  CHECK(evenkeel_suspend(region.get(), kNotLong, &error) == EVENKEEL_DEADLINE_EXCEEDED);
  CHECK(std::string(error.message) == "suspend: a step is open or something is served after 0.020 s");
  CHECK(evenkeel_begin_step(region.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_end_step(region.get(), 0, ticket) == EVENKEEL_OK);
  CHECK(evenkeel_suspend(region.get(), kNotLong, &error) == EVENKEEL_OK);
  REQUIRE(evenkeel_resume(region.get(), 7, &error) == EVENKEEL_OK);
  REQUIRE(evenkeel_serve_begin(region.get(), 0, 0, 5) == EVENKEEL_OK);
  CHECK(evenkeel_suspend(region.get(), kNotLong, &error) == EVENKEEL_DEADLINE_EXCEEDED);
  CHECK(evenkeel_serve_end(region.get(), 0) == EVENKEEL_OK);
  CHECK(evenkeel_suspend(region.get(), kNotLong, &error) == EVENKEEL_OK);
}

TEST_CASE("steps that begin while another thread suspends are seen or refused", "[suspension]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  region.MakeReady();
  uint64_t num_begun = 0;
  std::atomic<uint64_t> num_refused = 0;
  for (int round = 0; round < 200; ++round) {
    std::atomic<bool> stop = false, started = false;
    std::atomic<int> inside = 0;
    std::thread lane([&] {
      while (!stop) {
        const int64_t ticket = evenkeel_begin_step(region.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL);
        if (ticket == EVENKEEL_FAILED_PRECONDITION) {
          ++num_refused;
          continue;
        }
        ++inside;
        ++num_begun;
        started = true;
        --inside;
        evenkeel_end_step(region.get(), 0, ticket);
      }
    });
    evenkeel_error error = {};
    while (!started) std::this_thread::yield();
    CHECK(evenkeel_suspend(region.get(), 10, &error) == EVENKEEL_OK);
    const uint64_t before = num_refused;
    while (num_refused == before) std::this_thread::yield();
    CHECK(inside == 0);
    CHECK(evenkeel_resume(region.get(), 7, &error) == EVENKEEL_OK);
    stop = true;
    lane.join();
  }
  CHECK(num_begun >= 200);
}

TEST_CASE("where the agent has died the engine goes on alone, and frees what it left half written", "[suspension]") {
  const TestDirectory directory;
  EngineAndAgent both(SmallOptions(directory));
  const SlotIdx slot = kShape.SlotAt(RankId(1), 2);
  both.agent->StoreSlot(LayerId(0), slot, {.state = SlotState::kWriting, .expert = ExpertId(6), .generation = 2});
  both.agent.reset();
  evenkeel_error error = {};
  CHECK(evenkeel_suspend(both.region.get(), 0.1, &error) == EVENKEEL_DEADLINE_EXCEEDED);  // rule 19
  // It may wait in small pieces.
  int num_calls = 1;
  while (evenkeel_suspend(both.region.get(), 0.1, &error) == EVENKEEL_DEADLINE_EXCEEDED) REQUIRE(++num_calls < 200);
  CHECK(evenkeel_reload_expert(both.region.get(), 0, 2) == -1);
  const auto successor = AgentRegion::Open(both.region.path());
  REQUIRE(successor.ok());
  CHECK((*successor)->Suspension() != 0);
  REQUIRE(evenkeel_resume(both.region.get(), 8, &error) == EVENKEEL_OK);
  CHECK((*successor)->ReadSlot(LayerId(0), slot) ==
        SlotRecord{.state = SlotState::kFree, .expert = kNoExpert, .generation = 3});
  CHECK((*successor)->Suspension() == 0);
}

}  // namespace evenkeel::engine
