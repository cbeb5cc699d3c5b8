// SPDX-License-Identifier: Apache-2.0
//
// What the engine counts, as its agent reads it.
#include <poll.h>

#include <numeric>
#include <vector>

#include "absl/time/clock.h"
#include "catch2/catch.hpp"

#include "engine/region/agent_region.h"
#include "tests/engine/engine_and_agent.h"
#include "tests/engine/test_region.h"

namespace evenkeel::engine {

TEST_CASE("counters are summed over threads after dispatch", "[counters]") {
  const TestDirectory directory;
  evenkeel_options options = SmallOptions(directory);
  options.num_counting_threads = 2;
  EngineAndAgent pair(options);
  CHECK(evenkeel_count(pair.region.get(), 0, EVENKEEL_PHASE_OTHER, 1, 2, 10) == EVENKEEL_OK);
  CHECK(evenkeel_count(pair.region.get(), 1, EVENKEEL_PHASE_OTHER, 1, 2, 5) == EVENKEEL_OK);
  CHECK(evenkeel_count(pair.region.get(), 1, EVENKEEL_PHASE_OTHER, 0, 0, 3) == EVENKEEL_OK);
  CHECK(evenkeel_count(pair.region.get(), 2, EVENKEEL_PHASE_OTHER, 0, 0, 3) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_count(pair.region.get(), 0, EVENKEEL_PHASE_OTHER, 0, 3, 3) == EVENKEEL_INVALID_ARGUMENT);
  pair.End(pair.Begin());
  const CounterReading reading = pair.agent->ReadCounters();
  CHECK(reading.tokens_of_slot == std::vector<uint64_t>{3, 0, 0, 0, 0, 15});
  CHECK(reading.first_step == 0);
  CHECK(reading.last_step == 1);
  CHECK(pair.agent->ReadCounters().first_step == 1);
}

TEST_CASE("prefill and decode are counted apart, and only grow", "[counters]") {
  const TestDirectory directory;
  evenkeel_options options = SmallOptions(directory);
  options.num_counting_threads = 2;
  EngineAndAgent pair(options);
  const auto count = [&](int thread, evenkeel_phase phase, int local_slot, uint64_t num_tokens) {
    CHECK(evenkeel_count(pair.region.get(), thread, phase, 1, local_slot, num_tokens) == EVENKEEL_OK);
  };
  count(0, EVENKEEL_PREFILL, 0, 100);
  count(1, EVENKEEL_PREFILL, 0, 10);
  count(1, EVENKEEL_DECODE, 0, 7);
  count(0, EVENKEEL_DECODE, 2, 5);
  count(0, EVENKEEL_PHASE_OTHER, 2, 1);
  CHECK(evenkeel_count(pair.region.get(), 0, static_cast<evenkeel_phase>(3), 1, 0, 1) == EVENKEEL_INVALID_ARGUMENT);
  CounterReading reading = pair.agent->ReadCounters();
  CHECK(reading.tokens_of_slot == std::vector<uint64_t>{0, 0, 0, 117, 0, 6});
  CHECK(reading.prefill_of_slot == std::vector<uint64_t>{0, 0, 0, 110, 0, 0});
  CHECK(reading.decode_of_slot == std::vector<uint64_t>{0, 0, 0, 7, 0, 5});
  count(1, EVENKEEL_DECODE, 2, 5);
  reading = pair.agent->ReadCounters();
  CHECK(reading.tokens_of_slot[5] == 11);
  CHECK(reading.decode_of_slot[5] == 10);
  CHECK(pair.agent->ReadContent()->decode_of_slot == reading.decode_of_slot);
}

TEST_CASE("a router counts each step's copies by its own phase", "[counters]") {
  const TestDirectory directory;
  evenkeel_options options = SmallOptions(directory);
  options.count_place = EVENKEEL_COUNT_ROUTER;
  EngineAndAgent pair(options);
  const std::vector<int32_t> ids = {0, 1, 4};
  std::vector<int32_t> slots(3);
  const auto step = [&](evenkeel_phase phase, int64_t num_tokens) {
    const int64_t ticket = evenkeel_begin_step(pair.region.get(), 0, phase, EVENKEEL_REAL);
    REQUIRE(evenkeel_route(pair.region.get(), 0, 1, ids.data(), 4, num_tokens, 1, 1, 0, slots.data()) == EVENKEEL_OK);
    pair.End(ticket);
  };
  step(EVENKEEL_PREFILL, 3);
  step(EVENKEEL_DECODE, 2);
  step(EVENKEEL_DECODE, 1);
  step(EVENKEEL_PHASE_OTHER, 1);
  const CounterReading reading = pair.agent->ReadCounters();
  const auto sum = [](const std::vector<uint64_t>& tokens) {
    return std::accumulate(tokens.begin() + 12, tokens.end(), uint64_t{0});
  };
  CHECK(sum(reading.tokens_of_slot) == 7);
  CHECK(sum(reading.prefill_of_slot) == 3);
  CHECK(sum(reading.decode_of_slot) == 3);
}

TEST_CASE("the time of steps is that of those that ended and were not aborted", "[counters]") {
  const TestDirectory directory;
  EngineAndAgent pair(SmallOptions(directory));
  CHECK(pair.agent->ReadStepTimes().num_steps == 0);
  const absl::Time begun = absl::Now();
  const int64_t first = pair.Begin(), second = pair.Begin();
  CHECK(evenkeel_abort_step(pair.region.get(), 0, pair.Begin()) == EVENKEEL_OK);
  poll(nullptr, 0, 3);
  pair.End(first);
  pair.End(second);
  const absl::Duration passed = absl::Now() - begun;
  const StepTimes times = pair.agent->ReadStepTimes();
  CHECK(times.num_steps == 2);
  CHECK(times.total >= absl::Milliseconds(6));
  CHECK(times.total <= 2 * passed + absl::Milliseconds(1));
}

TEST_CASE("at the router, real steps of all lanes are counted; dummy and profile steps are not", "[counters]") {
  const TestDirectory directory;
  evenkeel_options options = SmallOptions(directory);
  options.count_place = EVENKEEL_COUNT_ROUTER;
  options.num_lanes = 2;
  EngineAndAgent pair(options);
  const std::vector<int64_t> ids = {5, 5, -1};
  std::vector<int32_t> slots(3);
  const auto step = [&](int lane, evenkeel_kind kind) {
    const int64_t ticket = pair.Begin(lane, kind);
    REQUIRE(evenkeel_route(pair.region.get(), lane, 1, ids.data(), 8, 3, 1, 1, 0, slots.data()) == EVENKEEL_OK);
    pair.End(ticket, lane);
  };
  step(0, EVENKEEL_REAL);
  step(1, EVENKEEL_REAL);
  step(0, EVENKEEL_DUMMY);
  step(1, EVENKEEL_PROFILE);
  const CounterReading reading = pair.agent->ReadCounters();
  REQUIRE(reading.tokens_of_slot.size() == 24);
  uint64_t sum = 0;
  for (size_t i = 12; i < 24; ++i) {
    const bool holds_5 = DefaultPlacement(kShape).expert_of_slot[i - 12] == ExpertId(5);
    sum += reading.tokens_of_slot[i];
    CHECK((holds_5 || reading.tokens_of_slot[i] == 0));
  }
  CHECK(sum == 4);
  CHECK(evenkeel_count(pair.region.get(), 0, EVENKEEL_PHASE_OTHER, 0, 0, 3) == EVENKEEL_FAILED_PRECONDITION);
}

}  // namespace evenkeel::engine
