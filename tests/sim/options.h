// SPDX-License-Identifier: Apache-2.0
//
// Options: everything a simulated run is made of: sizes, timing, which faults exist and how often, and the rule
// that a mutant leaves out.
//
// The same options give the same run. SwarmOptions draws sizes and faults from a seed: each run has some kinds of
// faults and lacks others, so that rare combinations come up.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace evenkeel::sim {

// A rule of docs/protocol.md left out, by a shell that lies to the cores or to the engine.
enum class Mutant : uint32_t {
  kNone = 0,
  kAbsentRankAnswered,    // rule 2: a rank that never attached is answered for
  kTermReused,            // rule 3: a starting controller takes a term that was used before
  kMapsMixed,             // rule 3: an agent takes maps of another digest for those of its epoch
  kRestartUnnoticed,      // rule 1: a restarted rank goes on under its old incarnation
  kUndoKeepsContent,      // rule 6: half-written slots are said to hold their old content
  kWritingNotStored,      // rule 7: `writing` is not in the region when the first byte is written
  kStaleInventory,        // rule 8: an agent attaches with the inventory of its first Attach
  kFingerprintIgnored,    // rule 9: whatever was copied is taken to match
  kPostMoveNotAwaited,    // rule 9: derived tensors are said to be fresh at once
  kScrubAlwaysMatches,    // rule 10: slots in use always match
  kOpenStepsIgnored,      // rule 11: quiesced as soon as the maps are in the region
  kStepEndsWhenSent,      // rule 12: a step ends when its tokens are sent
  kOlderBankTaken,        // rule 16: a step begins under maps older than the newest
  kLateWriteNotAwaited,   // rule 19: a successor frees `writing` slots at once
  kOtherWeightsAccepted,  // rule 22: an engine of another weights version joins under the group's
  kHungCopyGivenUp,       // rule 28: a copy that does not end is reported as ended
  kLoadReadLate,          // rule 29: counters are read after the slot changed content
  kViewNotAwaited,        // rule 14: a view counts as taken by all as soon as it is sent
};

inline constexpr uint32_t kNumMutants = 19;

std::string_view NameOf(Mutant mutant);
// kNone where there is none of this name.
Mutant MutantNamed(std::string_view name);

struct FaultOptions {
  absl::Duration interval;  // mean time between faults; zero: none
  // Relative frequencies; zero: this kind does not exist in the run.
  int kill_agent = 0;
  int kill_agent_in_effect = 0;  // between two effects, or within a region write
  int kill_controller = 0;
  int kill_controller_in_effect = 0;
  int second_controller = 0;  // a new one starts while the old one lives on for a while
  int stall_agent = 0;
  int stall_controller = 0;
  int stall_engine = 0;
  int kill_engine = 0;     // at most a few times a run: its group is frozen from then on
  int restart_engine = 0;  // killed, and another incarnation comes at once
  int restart_group = 0;   // all engines of a group, at once
  int break_stream = 0;
  int partition = 0;
  int jump_clock = 0;
  int rot_slot = 0;
  // Chances for each transfer.
  double transfer_fails = 0;
  double transfer_corrupts = 0;
  double transfer_hangs = 0;       // until its deadline, or cancelled
  double transfer_never_ends = 0;  // its agent exits some time after the deadline
  // Other chances.
  double effect_takes_time = 0;  // each effect of either core
  double bank_busy = 0;          // each WriteMaps
  double slow_message = 0;       // each message takes up to `slow_delay`
  double step_aborted = 0;       // each step, when it waits long
  double agent_starts_late = 0;  // each rank
  double other_weights = 0;      // each rank: its engine has another weights version
  absl::Duration slow_delay = absl::Milliseconds(300);
};

struct Options {
  uint64_t seed = 1;
  int num_groups = 1;
  int num_ranks = 4;  // the most that there may ever be
  int world = 0;      // ranks that make the groups; 0: all
  int num_layers = 2;
  int num_experts = 8;
  int slots_per_rank = 3;
  absl::Duration duration = absl::Seconds(40);      // with faults
  absl::Duration converge_max = absl::Seconds(60);  // after the last one

  // Engines.
  bool steps_around_changes_only = false;  // steps are made when maps change; load follows the maps in between
  int num_lanes = 1;
  int steps_in_flight = 2;
  bool lockstep = false;   // a step begins when every rank ended the one before
  bool bracketed = false;  // work for others is bracketed (serve_begin, serve_end)
  bool count_at_router = false;
  bool post_move = false;  // engines derive tensors, refreshed at begin_step
  absl::Duration step_mean = absl::Milliseconds(20);
  double idle_chance = 0.02;  // of each step to be followed by an idle period
  absl::Duration idle_mean = absl::Milliseconds(500);
  int tokens_per_step = 3;  // traced ones, each standing for many

  // Moves and loops.
  std::string policy = "greedy";
  absl::Duration transfer_mean = absl::Milliseconds(40);
  int concurrent_moves_max = 3;  // into one rank
  absl::Duration report_interval = absl::Milliseconds(200);
  absl::Duration shares_interval = absl::Seconds(1);
  absl::Duration placement_interval = absl::Seconds(4);
  absl::Duration rearrange_interval = absl::Seconds(6);  // mean time between operators' requests; zero: none
  double load_sigma = 1.0;                               // of the logarithm of experts' load
  absl::Duration drift_interval = absl::Seconds(3);
  absl::Duration ranks_interval;  // mean time between ranks that join or are drained; zero: none are

  int num_first_ranks() const { return world == 0 ? num_ranks : world; }

  FaultOptions faults;
  Mutant mutant = Mutant::kNone;
  bool verbose = false;
};

Options SwarmOptions(uint64_t seed);

// The same run with the faults in it that show what the mutant's rule is for.
Options ProvokedBy(Options options);

// One line that names sizes, engines and faults.
std::string Describe(const Options& options);

}  // namespace evenkeel::sim
