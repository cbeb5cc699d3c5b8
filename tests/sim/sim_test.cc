// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "tests/sim/options.h"
#include "tests/sim/simulation.h"

namespace evenkeel::sim {
namespace {

// Half a minute, optimised, on one core.
#ifdef __SANITIZE_ADDRESS__
constexpr uint64_t kNumSeeds = 150;  // tenfold slower
#else
constexpr uint64_t kNumSeeds = 1500;
#endif

TEST_CASE("a group without faults is rearranged and comes to rest", "[sim]") {
  const uint64_t seed = GENERATE(range<uint64_t>(1, 6));
  Options options = SwarmOptions(seed);
  options.faults = {};
  // No copy outlasts its attempt, a third of the move's second.
  options.transfer_mean = std::min(options.transfer_mean, absl::Milliseconds(30));
  if (options.slots_per_rank * options.num_ranks == options.num_experts) ++options.slots_per_rank;
  CAPTURE(seed);
  const Outcome outcome = RunAndReport(options);
  REQUIRE(outcome.violation == "");
  // The last controller that takes over cancels what the one before had ordered; nothing else fails.
  CHECK(outcome.num_good_copies * 10 >= outcome.num_copies * 9);
  CHECK(outcome.num_good_copies > 0);
  CHECK(outcome.num_tokens > 0);
  CHECK(outcome.tokens_reported > 0);
}

TEST_CASE("the same seed gives the same trace", "[sim]") {
  const uint64_t seed = GENERATE(7, 8, 9);
  CAPTURE(seed);
  const Outcome first = RunAndReport(SwarmOptions(seed));
  const Outcome second = RunAndReport(SwarmOptions(seed));
  CHECK(first.digest == second.digest);
  CHECK(first.num_events == second.num_events);
  CHECK(first.violation == second.violation);
}

TEST_CASE("groups that a Flex follows keep every rule, and the same seed gives the same trace", "[sim]") {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    Options options = SwarmOptions(seed);
    options.policy = "flex";
    const Outcome outcome = RunAndReport(options);
    if (!outcome.ok) FAIL_CHECK("seed " << seed << ": " << outcome.violation);
  }
  Options options = SwarmOptions(7);
  options.policy = "flex";
  const Outcome first = RunAndReport(options);
  CHECK(first.digest == RunAndReport(options).digest);
  CHECK(first.digest != RunAndReport(SwarmOptions(7)).digest);
}

TEST_CASE("different seeds give different traces", "[sim]") {
  CHECK(RunAndReport(SwarmOptions(7)).digest != RunAndReport(SwarmOptions(8)).digest);
}

TEST_CASE("whatever fails, every token meets its expert's weights, and the group comes to rest", "[sim]") {
  uint64_t num_copies = 0, num_faults = 0, num_reloads = 0, num_failed = 0;
  for (uint64_t seed = 1; seed <= kNumSeeds; ++seed) {
    const Outcome outcome = RunAndReport(SwarmOptions(seed));
    num_copies += outcome.num_copies;
    num_faults += outcome.num_faults;
    num_reloads += outcome.num_reloads;
    if (outcome.ok) continue;
    ++num_failed;
    FAIL_CHECK("seed " << seed << ": " << outcome.violation);
  }
  std::printf("%llu seeds: %llu faults, %llu copies, %llu ranks' weights replaced, %llu failed\n",
              static_cast<unsigned long long>(kNumSeeds), static_cast<unsigned long long>(num_faults),
              static_cast<unsigned long long>(num_copies), static_cast<unsigned long long>(num_reloads),
              static_cast<unsigned long long>(num_failed));
  CHECK(num_copies > kNumSeeds);
  CHECK(num_faults > kNumSeeds);
  CHECK(num_reloads > kNumSeeds);
}

}  // namespace
}  // namespace evenkeel::sim
