// SPDX-License-Identifier: Apache-2.0
//
// For each rule that a shell can leave out there is a mutant; the checkers must see what goes wrong without it, and
// must be content with the same runs where the rule is kept.
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstdio>
#include <string>

#include "tests/sim/options.h"
#include "tests/sim/simulation.h"

namespace evenkeel::sim {
namespace {

constexpr uint64_t kSeedsMax = 200;

TEST_CASE("a run without one of the rules is caught, and with it is not", "[sim][mutants]") {
  const uint32_t number = GENERATE(range(1u, kNumMutants));
  const Mutant mutant = static_cast<Mutant>(number);
  CAPTURE(std::string(NameOf(mutant)));
  std::string caught;
  for (uint64_t seed = 1; seed <= kSeedsMax && caught.empty(); ++seed) {
    Options options = SwarmOptions(seed);
    options.mutant = mutant;
    options = ProvokedBy(options);
    Simulation mutated(options);
    caught = mutated.Run().violation;
    options.mutant = Mutant::kNone;
    const Outcome kept = RunAndReport(options);
    CAPTURE(seed);
    CHECK(kept.violation == "");
    if (!caught.empty()) {
      std::printf("%-24s seed %2llu: %s\n", std::string(NameOf(mutant)).c_str(), static_cast<unsigned long long>(seed),
                  caught.c_str());
    }
  }
  CHECK(caught != "");
}

}  // namespace
}  // namespace evenkeel::sim
