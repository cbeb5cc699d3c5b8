// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/options.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"

#include "algos/base/rng.h"

namespace evenkeel::sim {

namespace {

constexpr std::array<std::string_view, kNumMutants> kNames = {
    "none",
    "absent-rank-answered",
    "term-reused",
    "maps-mixed",
    "restart-unnoticed",
    "undo-keeps-content",
    "writing-not-stored",
    "stale-inventory",
    "fingerprint-ignored",
    "post-move-not-awaited",
    "scrub-always-matches",
    "open-steps-ignored",
    "step-ends-when-sent",
    "older-bank-taken",
    "late-write-not-awaited",
    "other-weights-accepted",
    "hung-copy-given-up",
    "load-read-late",
    "view-not-awaited",
};

int Weight(Rng& rng, double chance, int most) {
  return rng.Chance(chance) ? 1 + static_cast<int>(rng.Below(static_cast<uint64_t>(most))) : 0;
}

double Rate(Rng& rng, double chance, double most) { return rng.Chance(chance) ? most * rng.Uniform() : 0; }

FaultOptions SwarmFaults(Rng& rng) {
  FaultOptions faults;
  faults.interval = rng.Chance(0.05) ? absl::ZeroDuration() : absl::Milliseconds(rng.Between(150, 4000));
  faults.kill_agent = Weight(rng, 0.5, 4);
  faults.kill_agent_in_effect = Weight(rng, 0.5, 6);
  faults.kill_controller = Weight(rng, 0.4, 2);
  faults.kill_controller_in_effect = Weight(rng, 0.4, 3);
  faults.second_controller = Weight(rng, 0.3, 2);
  faults.stall_agent = Weight(rng, 0.3, 3);
  faults.stall_controller = Weight(rng, 0.2, 2);
  faults.stall_engine = Weight(rng, 0.4, 4);
  faults.kill_engine = Weight(rng, 0.05, 1);
  faults.restart_engine = Weight(rng, 0.08, 1);
  faults.restart_group = Weight(rng, 0.1, 1);
  faults.break_stream = Weight(rng, 0.5, 5);
  faults.partition = Weight(rng, 0.4, 4);
  faults.jump_clock = Weight(rng, 0.2, 2);
  faults.rot_slot = Weight(rng, 0.2, 2);
  faults.transfer_fails = Rate(rng, 0.5, 0.3);
  faults.transfer_corrupts = Rate(rng, 0.4, 0.2);
  faults.transfer_hangs = Rate(rng, 0.3, 0.1);
  faults.transfer_never_ends = Rate(rng, 0.15, 0.05);
  faults.effect_takes_time = Rate(rng, 0.4, 0.3);
  faults.bank_busy = Rate(rng, 0.3, 0.5);
  faults.slow_message = Rate(rng, 0.5, 0.2);
  faults.step_aborted = Rate(rng, 0.3, 0.05);
  faults.agent_starts_late = Rate(rng, 0.2, 0.5);
  return faults;
}

}  // namespace

std::string_view NameOf(Mutant mutant) { return kNames[static_cast<size_t>(mutant)]; }

Mutant MutantNamed(std::string_view name) {
  for (uint32_t i = 0; i < kNumMutants; ++i) {
    if (kNames[i] == name) return static_cast<Mutant>(i);
  }
  return Mutant::kNone;
}

Options SwarmOptions(uint64_t seed) {
  Rng rng(MixBits(seed ^ 0x5EED));
  Options options;
  options.seed = seed;
  options.num_groups = rng.Chance(0.2) ? 2 : 1;
  options.num_ranks = static_cast<int>(rng.Between(2, 6));
  options.num_layers = static_cast<int>(rng.Between(1, 3));
  options.num_experts = static_cast<int>(rng.Between(2, 12));
  const int least = (options.num_experts + options.num_ranks - 1) / options.num_ranks;
  options.slots_per_rank = least + static_cast<int>(rng.Between(0, 2));
  if (options.slots_per_rank * options.num_ranks == options.num_experts && rng.Chance(0.8)) ++options.slots_per_rank;
  options.duration = absl::Seconds(rng.Between(10, 40));
  options.num_lanes = static_cast<int>(rng.Between(1, 2));
  options.steps_in_flight = static_cast<int>(rng.Between(1, 3));
  options.lockstep = rng.Chance(0.25);
  options.bracketed = rng.Chance(0.4);
  options.count_at_router = rng.Chance(0.3);
  options.post_move = rng.Chance(0.4);
  options.steps_around_changes_only = !options.count_at_router && rng.Chance(0.15);
  options.step_mean = absl::Milliseconds(rng.Between(3, 60));
  options.idle_chance = rng.Chance(0.5) ? 0.1 * rng.Uniform() : 0;
  options.transfer_mean = absl::Milliseconds(rng.Between(5, 200));
  options.load_sigma = 0.3 + 1.5 * rng.Uniform();
  options.faults = SwarmFaults(rng);
  if (options.lockstep) options.num_lanes = options.steps_in_flight = 1;
  if (rng.Chance(0.25)) {
    // Ranks come and go: a part of them makes the group, and has room for every expert.
    options.ranks_interval = absl::Seconds(rng.Between(1, 8));
    options.num_ranks = std::max(options.num_ranks, 4);
    options.world = options.num_ranks - static_cast<int>(rng.Between(0, 2));
    options.slots_per_rank = std::max(options.slots_per_rank, (options.num_experts + 2) / 2);
    options.faults.restart_group = 0;
  }
  return options;
}

Options ProvokedBy(Options options) {
  FaultOptions& faults = options.faults;
  if (faults.interval == absl::ZeroDuration()) faults.interval = absl::Seconds(1);
  // Runs that get far are what shows most rules.
  faults.kill_engine = faults.restart_engine = 0;
  if (options.slots_per_rank * options.num_ranks <= options.num_experts) ++options.slots_per_rank;
  switch (options.mutant) {
    case Mutant::kAbsentRankAnswered:
      faults.agent_starts_late = 0.5;
      break;
    case Mutant::kTermReused:
      faults.second_controller = faults.kill_controller = 4;
      break;
    case Mutant::kRestartUnnoticed:
      faults.restart_engine = 4;
      break;
    case Mutant::kUndoKeepsContent:
    case Mutant::kFingerprintIgnored:
      faults.transfer_corrupts = faults.transfer_fails = 0.2;
      break;
    case Mutant::kWritingNotStored:
    case Mutant::kStaleInventory:
    case Mutant::kLateWriteNotAwaited:
      faults.interval = absl::Milliseconds(400);
      faults.kill_agent = faults.kill_agent_in_effect = 8;
      faults.transfer_fails = 0;
      options.transfer_mean = absl::Milliseconds(150);
      break;
    case Mutant::kPostMoveNotAwaited:
      options.post_move = true;
      break;
    case Mutant::kScrubAlwaysMatches:
      faults.rot_slot = 8;
      break;
    case Mutant::kOtherWeightsAccepted:
      faults.other_weights = 0.3;
      break;
    case Mutant::kViewNotAwaited:
      options.num_ranks = 5;
      options.world = 3;
      options.slots_per_rank = std::max(options.slots_per_rank, (options.num_experts + 2) / 2);
      options.ranks_interval = absl::Seconds(1);
      faults.restart_group = 0;
      faults.partition = 8;
      faults.interval = absl::Milliseconds(500);
      break;
    case Mutant::kHungCopyGivenUp:
      faults.transfer_never_ends = 0.2;
      break;
    default:
      break;
  }
  return options;
}

std::string Describe(const Options& options) {
  const FaultOptions& faults = options.faults;
  std::string text = absl::StrCat(
      options.num_groups, " groups x ", options.num_ranks, " ranks (", options.num_first_ranks(), " at first), ",
      options.num_layers, " layers x ", options.num_experts, " experts, ", options.slots_per_rank, " slots a rank, by ",
      options.policy, ", ", options.num_lanes, " lanes x ", options.steps_in_flight,
      options.lockstep ? ", lockstep" : "", options.bracketed ? ", bracketed" : "",
      options.count_at_router ? ", counted at the router" : "", options.post_move ? ", post_move" : "",
      options.steps_around_changes_only ? ", steps around changes" : "");
  absl::StrAppend(&text, "; a fault every ", absl::FormatDuration(faults.interval), ": agents ", faults.kill_agent, "+",
                  faults.kill_agent_in_effect, ", controllers ", faults.kill_controller, "+",
                  faults.kill_controller_in_effect, "+", faults.second_controller, ", stalls ", faults.stall_agent, "+",
                  faults.stall_controller, "+", faults.stall_engine, ", engines ", faults.kill_engine, "+",
                  faults.restart_engine, "+", faults.restart_group, ", streams ", faults.break_stream, "+",
                  faults.partition, ", clocks ", faults.jump_clock, ", rot ", faults.rot_slot, "; transfers ",
                  faults.transfer_fails, "+", faults.transfer_corrupts, "+", faults.transfer_hangs, "+",
                  faults.transfer_never_ends, ", effects ", faults.effect_takes_time, ", banks ", faults.bank_busy,
                  ", slow ", faults.slow_message, ", late ", faults.agent_starts_late);
  return text;
}

}  // namespace evenkeel::sim
