// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "absl/time/time.h"

#include "tests/sim/options.h"
#include "tests/sim/simulation.h"

namespace evenkeel::sim {
namespace {

// A minute, optimised, on one core; //tests/sim:simulate takes more with --losses --seeds N.
constexpr uint64_t kNumSeeds = 1000;
TEST_CASE("whichever ranks are lost, none is expelled without the rule's reasons, and what can be restored is",
          "[sim]") {
  uint64_t num_faults = 0, num_ended = 0, num_left_out = 0, num_silent = 0, num_from_stores = 0, num_reloads = 0,
           num_failed = 0;
  std::vector<absl::Duration> rests;
  for (uint64_t seed = 1; seed <= kNumSeeds; ++seed) {
    const Outcome outcome = RunAndReport(LossOptions(seed));
    num_faults += outcome.num_faults;
    num_ended += outcome.num_ended;
    num_left_out += outcome.num_left_out;
    num_silent += outcome.num_silent;
    num_from_stores += outcome.num_from_stores;
    num_reloads += outcome.num_reloads;
    rests.push_back(outcome.rest_after);
    if (outcome.ok) continue;
    ++num_failed;
    FAIL_CHECK("seed " << seed << ": " << outcome.violation);
  }
  std::sort(rests.begin(), rests.end());
  std::printf(
      "%llu seeds: %llu faults, %llu engines ended or hung, %llu members left out, %llu of these by witnesses, "
      "%llu copies from stores, %llu ranks' weights replaced, %llu failed; rest after %.1f s, %.1f s at the 99th "
      "percentile, %.1f s at most\n",
      static_cast<unsigned long long>(kNumSeeds), static_cast<unsigned long long>(num_faults),
      static_cast<unsigned long long>(num_ended), static_cast<unsigned long long>(num_left_out),
      static_cast<unsigned long long>(num_silent), static_cast<unsigned long long>(num_from_stores),
      static_cast<unsigned long long>(num_reloads), static_cast<unsigned long long>(num_failed),
      absl::ToDoubleSeconds(rests[rests.size() / 2]), absl::ToDoubleSeconds(rests[rests.size() * 99 / 100]),
      absl::ToDoubleSeconds(rests.back()));
  CHECK(num_left_out > kNumSeeds);
  CHECK(num_silent > kNumSeeds / 20);
  CHECK(num_from_stores > kNumSeeds / 20);
  CHECK(num_reloads > kNumSeeds);
}

TEST_CASE("the same seed loses the same ranks in the same trace", "[sim]") {
  const uint64_t seed = GENERATE(7, 8, 9);
  CAPTURE(seed);
  const Outcome first = RunAndReport(LossOptions(seed));
  const Outcome second = RunAndReport(LossOptions(seed));
  CHECK(first.digest == second.digest);
  CHECK(first.num_events == second.num_events);
  CHECK(first.digest != RunAndReport(LossOptions(seed + 10)).digest);
}

}  // namespace
}  // namespace evenkeel::sim
