// SPDX-License-Identifier: Apache-2.0
//
// simulate: runs the simulator for one seed or many, printing what fails and how to run it again.
//
//   bazel run -c opt //tests/sim:simulate -- --seeds 200
//   bazel run -c opt //tests/sim:simulate -- --seed 17 --verbose
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "absl/strings/numbers.h"

#include "tests/sim/options.h"
#include "tests/sim/simulation.h"

namespace {

constexpr char kUsage[] =
    "usage: simulate [--seed N] [--seeds N] [--ranks N] [--layers N] [--experts N] [--slots N] [--groups N]\n"
    "                [--seconds N] [--losses] [--mutant NAME [--kept]] [--policy NAME] [--calm] [--verbose]\n"
    "What is not given is drawn from the seed.\n";

struct Flags {
  uint64_t seed = 1;
  int seeds = 1;
  int ranks = 0, layers = 0, experts = 0, slots = 0, groups = 0, seconds = 0;  // 0: drawn
  std::string mutant = "none";
  bool kept = false;    // the mutant's run with its rule kept
  std::string policy;   // of the controller's own plans; empty: the default
  bool calm = false;    // no faults at all
  bool losses = false;  // ranks are lost
  bool verbose = false;
};

bool Parse(int argc, char** argv, Flags& flags) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    bool* const flag = name == "--verbose"  ? &flags.verbose
                       : name == "--calm"   ? &flags.calm
                       : name == "--losses" ? &flags.losses
                       : name == "--kept"   ? &flags.kept
                                            : nullptr;
    if (flag != nullptr) {
      *flag = true;
      continue;
    }
    if (++i == argc) return false;
    const std::string_view value = argv[i];
    if (name == "--mutant") {
      flags.mutant = value;
      if (value != "none" && evenkeel::sim::MutantNamed(value) == evenkeel::sim::Mutant::kNone) return false;
      continue;
    }
    if (name == "--policy") {
      flags.policy = value;
      continue;
    }
    int* const number = name == "--seeds"     ? &flags.seeds
                        : name == "--ranks"   ? &flags.ranks
                        : name == "--layers"  ? &flags.layers
                        : name == "--experts" ? &flags.experts
                        : name == "--slots"   ? &flags.slots
                        : name == "--groups"  ? &flags.groups
                        : name == "--seconds" ? &flags.seconds
                                              : nullptr;
    const bool known = name == "--seed" ? absl::SimpleAtoi(argv[i], &flags.seed)
                                        : number != nullptr && absl::SimpleAtoi(argv[i], number) && *number > 0;
    if (!known) return false;
  }
  return true;
}

evenkeel::sim::Options OptionsOf(const Flags& flags, uint64_t seed) {
  evenkeel::sim::Options options = flags.losses ? evenkeel::sim::LossOptions(seed) : evenkeel::sim::SwarmOptions(seed);
  if (flags.ranks > 0) options.num_ranks = flags.ranks;
  if (flags.layers > 0) options.num_layers = flags.layers;
  if (flags.experts > 0) options.num_experts = flags.experts;
  if (flags.slots > 0) options.slots_per_rank = flags.slots;
  if (flags.groups > 0) options.num_groups = flags.groups;
  if (flags.seconds > 0) options.duration = absl::Seconds(flags.seconds);
  while (options.num_ranks * options.slots_per_rank < options.num_experts) ++options.slots_per_rank;
  options.mutant = evenkeel::sim::MutantNamed(flags.mutant);
  if (!flags.policy.empty()) options.policy = flags.policy;
  if (flags.calm) options.faults = {};
  if (options.mutant != evenkeel::sim::Mutant::kNone) options = evenkeel::sim::ProvokedBy(options);
  if (flags.kept) options.mutant = evenkeel::sim::Mutant::kNone;
  options.verbose = flags.verbose;
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  if (!Parse(argc, argv, flags)) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  int num_failed = 0;
  for (int i = 0; i < flags.seeds; ++i) {
    const evenkeel::sim::Options options = OptionsOf(flags, flags.seed + static_cast<uint64_t>(i));
    const evenkeel::sim::Outcome outcome = evenkeel::sim::RunAndReport(options);
    if (!outcome.ok) ++num_failed;
    if (outcome.ok && (flags.seeds <= 20 || i % 20 == 19)) {
      std::printf("seed %llu: %s\n", static_cast<unsigned long long>(options.seed), outcome.ToString().c_str());
    }
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed\n", flags.seeds - num_failed, num_failed);
  return num_failed == 0 ? 0 : 1;
}
