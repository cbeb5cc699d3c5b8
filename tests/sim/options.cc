// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/options.h"

#include <algorithm>
#include <array>
#include <utility>

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
    "plan-taken-for-done",
    "undo-keeps-content",
    "undone-moves-go-on",
    "generations-ignored",
    "writing-not-stored",
    "stale-inventory",
    "fingerprint-ignored",
    "post-move-not-awaited",
    "scrub-always-matches",
    "open-steps-ignored",
    "step-ends-when-sent",
    "older-bank-taken",
    "late-write-not-awaited",
    "suspension-not-awaited",
    "other-version-unmapped",
    "versions-ignored",
    "disagreement-ignored",
    "other-weights-accepted",
    "hung-copy-given-up",
    "load-read-late",
    "view-not-awaited",
    "loss-not-awaited",
    "serving-forgotten",
    "lost-word-unread",
    "one-witness-enough",
    "silence-expels",
    "waits-in-step",
    "kept-content-denied",
    "maps-before-view",
    "retired-kept-in-tables",
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
  Rng again(MixBits(seed ^ 0xA6A1));
  options.faults.order_again = Rate(again, 0.3, 0.3);
  if (options.lockstep) options.num_lanes = options.steps_in_flight = 1;
  Rng weights(MixBits(seed ^ 0x4E16));
  if (weights.Chance(0.25)) {
    options.weights_interval = absl::Seconds(weights.Between(2, 10));
    options.faults.bad_reload = Rate(weights, 0.3, 0.3);
  }
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

Options LossOptions(uint64_t seed) {
  Options options = SwarmOptions(seed);
  Rng rng(MixBits(seed ^ 0x1055));
  FaultOptions& faults = options.faults;
  options.losses = true;
  options.lockstep = options.steps_around_changes_only = false;
  if (faults.interval == absl::ZeroDuration()) faults.interval = absl::Seconds(2);
  faults.kill_engine = faults.restart_engine = faults.restart_group = 0;
  faults.other_weights = 0;
  faults.rot_slot = 0;
  faults.bad_reload = 0;
  faults.lose_engines = 1 + Weight(rng, 0.8, 4);
  faults.lose_host = Weight(rng, 0.4, 2);
  faults.hang_engine = Weight(rng, 0.4, 2);
  faults.slow_engine = Weight(rng, 0.4, 3);
  faults.blame_healthy = Weight(rng, 0.4, 3);
  if (options.num_ranks < 3) options.num_ranks = options.num_ranks + static_cast<int>(rng.Between(0, 2));
  if (options.world > options.num_ranks || options.ranks_interval == absl::ZeroDuration()) options.world = 0;
  if (rng.Chance(0.7)) options.slots_per_rank += static_cast<int>(rng.Between(1, 4));
  options.ranks_per_host = rng.Chance(0.4) ? 0 : static_cast<int>(rng.Between(1, 3));
  options.pool = rng.Chance(0.4);
  options.snapshot = rng.Chance(0.4);
  options.store_corrupts = Rate(rng, 0.4, 0.2);
  options.store_lacks = Rate(rng, 0.4, 0.3);
  options.replaced = rng.Chance(0.3) ? 0.0 : 0.3 + 0.7 * rng.Uniform();
  options.replaced_after = absl::Seconds(rng.Between(1, 6));
  options.last_controller = rng.Chance(0.5);
  options.waits_for_lost = rng.Chance(0.4);
  return options;
}

namespace {

// In a run with losses: slots of many ranks are rewritten all the time, others wait for hung and slow ranks.
Options ProvokedByLosses(Options options) {
  const Mutant mutant = options.mutant;
  options = LossOptions(options.seed);
  options.mutant = mutant;
  FaultOptions& faults = options.faults;
  switch (mutant) {
    case Mutant::kLossNotAwaited:
    case Mutant::kServingForgotten:
      // Ranks leave all the time, some hard to reach, so that what they asked for takes long, and slots are rewritten.
      options.bracketed = true;
      options.num_ranks = 5;
      options.world = 4;
      options.num_layers = 1;
      options.num_experts = 6;
      options.slots_per_rank = 4;
      options.load_sigma = 2;
      options.drift_interval = absl::Seconds(1);
      options.duration = absl::Seconds(40);
      options.ranks_interval = options.rearrange_interval = absl::Seconds(1);
      options.transfer_mean = absl::Milliseconds(20);
      options.step_mean = absl::Milliseconds(10);
      options.tokens_per_step = 8;
      options.steps_in_flight = 3;
      options.idle_chance = 0;
      options.weights_interval = absl::ZeroDuration();
      faults = {};
      faults.interval = absl::Seconds(2);
      faults.partition = 1;
      faults.cut_off_leaving = 0.7;
      break;
    case Mutant::kOneWitnessEnough:
    case Mutant::kSilenceExpels:
      options.num_ranks = std::max(options.num_ranks, 5);
      options.world = 0;
      faults.interval = absl::Milliseconds(800);
      faults.blame_healthy = 12;
      faults.partition = 6;
      faults.kill_controller = faults.kill_controller_in_effect = faults.second_controller = 0;
      break;
    case Mutant::kLostWordUnread:
      // Ranks hang with what others sent them, and these have no other step to begin.
      options.num_lanes = options.steps_in_flight = 1;
      faults.hang_engine = 12;
      break;
    case Mutant::kWaitsInStep:
      options.waits_for_lost = true;
      options.pool = true;
      options.store_corrupts = options.store_lacks = 0;
      faults.lose_engines = 12;
      break;
    case Mutant::kKeptContentDenied:
      options.pool = options.snapshot = false;
      options.last_controller = false;
      options.transfer_mean = absl::Milliseconds(200);
      options.concurrent_moves_max = 1;
      options.rearrange_interval = absl::Seconds(1);
      faults.interval = absl::Seconds(1);
      faults.kill_agent = faults.kill_agent_in_effect = 0;
      faults.lose_engines = 12;
      break;
    default:
      break;
  }
  return options;
}

}  // namespace

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
    case Mutant::kPlanTakenForDone:
    case Mutant::kUndoKeepsContent:
    case Mutant::kFingerprintIgnored:
      faults.transfer_corrupts = faults.transfer_fails = 0.2;
      break;
    case Mutant::kUndoneMovesGoOn:
      // Waves are given up all the time, because some rank is suspended.
      faults.restart_group = 0;
      options.slots_per_rank = std::max(options.slots_per_rank, options.num_experts / 2 + 1);
      options.weights_interval = options.rearrange_interval = absl::Seconds(1);
      options.transfer_mean = absl::Milliseconds(300);
      break;
    case Mutant::kGenerationsIgnored:
      faults.order_again = 0.5;
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
    case Mutant::kSuspensionNotAwaited:
    case Mutant::kOtherVersionUnmapped:
    case Mutant::kVersionsIgnored:
    case Mutant::kDisagreementIgnored:
      faults.restart_group = 0;
      faults.bad_reload = options.mutant == Mutant::kDisagreementIgnored ? 0.5 : 0;
      faults.rot_slot = 0;
      options.slots_per_rank = std::max(options.slots_per_rank, options.num_experts / 2 + 1);
      options.weights_interval = absl::Seconds(3);
      options.rearrange_interval = absl::Seconds(2);
      break;
    case Mutant::kOtherWeightsAccepted:
      faults.other_weights = 0.3;
      options.weights_interval = absl::ZeroDuration();
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
    case Mutant::kLossNotAwaited:
    case Mutant::kServingForgotten:
    case Mutant::kLostWordUnread:
    case Mutant::kOneWitnessEnough:
    case Mutant::kSilenceExpels:
    case Mutant::kWaitsInStep:
    case Mutant::kKeptContentDenied:
    case Mutant::kMapsBeforeView:
      return ProvokedByLosses(std::move(options));
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
                  ", slow ", faults.slow_message, ", late ", faults.agent_starts_late, ", again ", faults.order_again);
  if (options.weights_interval > absl::ZeroDuration()) {
    absl::StrAppend(&text, "; weights replaced every ", absl::FormatDuration(options.weights_interval), ", badly ",
                    faults.bad_reload);
  }
  if (!options.losses) return text;
  absl::StrAppend(&text, "; losses: ended ", faults.lose_engines, ", hosts ", faults.lose_host, ", hung ",
                  faults.hang_engine, ", slow ", faults.slow_engine, ", blame ", faults.blame_healthy, "; ",
                  options.ranks_per_host, " ranks a host, ", options.pool ? "pool, " : "",
                  options.snapshot ? "snapshot, " : "", options.waits_for_lost ? "waits for lost experts, " : "",
                  "damaged ", options.store_corrupts, ", lacking ", options.store_lacks, ", replaced ",
                  options.replaced, options.last_controller ? ", successor" : "");
  return text;
}

}  // namespace evenkeel::sim
