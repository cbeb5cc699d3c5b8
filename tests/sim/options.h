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
  kPlanTakenForDone,      // rule 5: a move that failed counts as made: maps are as the plan has them
  kUndoKeepsContent,      // rule 6: half-written slots are said to hold their old content
  kUndoneMovesGoOn,       // rule 6: a wave's slots return to the maps, and its moves are not cancelled
  kGenerationsIgnored,    // rule 7: an order that comes again or late is taken as if it were the slot's next one
  kWritingNotStored,      // rule 7: `writing` is not in the region when the first byte is written
  kStaleInventory,        // rule 8: an agent attaches with the inventory of its first Attach
  kFingerprintIgnored,    // rule 9: whatever was copied is taken to match
  kPostMoveNotAwaited,    // rule 9: derived tensors are said to be fresh at once
  kScrubAlwaysMatches,    // rule 10: slots in use always match
  kOpenStepsIgnored,      // rule 11: quiesced as soon as the maps are in the region
  kStepEndsWhenSent,      // rule 12: a step ends when its tokens are sent
  kOlderBankTaken,        // rule 16: a step begins under maps older than the newest
  kLateWriteNotAwaited,   // rule 19: a successor frees `writing` slots at once
  kSuspensionNotAwaited,  // rule 22: weights are replaced as soon as the engine's own steps have ended
  kOtherVersionUnmapped,  // rule 22: slots of ranks with another version than at first leave the maps
  kVersionsIgnored,       // rule 22: no version is part of what is told, compared and copied
  kDisagreementIgnored,   // rule 23: replicas that differ after a reload are said to be equal
  kOtherWeightsAccepted,  // rule 22: an engine of another weights version joins under the group's
  kHungCopyGivenUp,       // rule 28: a copy that does not end is reported as ended
  kLoadReadLate,          // rule 29: counters are read after the slot changed content
  kViewNotAwaited,        // rule 14: a view counts as taken by all as soon as it is sent
  kLossNotAwaited,        // rule 13: so does a view that lacks a rank
  kServingForgotten,      // rules 11, 13: work for a rank that was left out holds nobody back
  kLostWordUnread,        // rule 14: engines learn who is lost at the begin of their next step
  kOneWitnessEnough,      // rule 24: one engine that waits for a silent rank has it expelled
  kSilenceExpels,         // rule 24: nobody has to wait for it at all
  kWaitsInStep,           // rule 25: a step waits, open, until its expert is restored
  kKeptContentDenied,     // rule 26: slots that were retired and not written are said to be empty
  kMapsBeforeView,        // section 6: maps go out before the view that they presume
  kRetiredKeptInTables,  // rule 30: a retired slot stays in the tables with a share of zero, and the last bound picks it
};

inline constexpr uint32_t kNumMutants = 35;

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
  // Of ranks that are lost; none but in runs with Options::losses.
  int lose_engines = 0;   // one or more engines end at once, some with their agents, some while copies run, some twice
  int lose_host = 0;      // so do all engines and agents of a host: nobody is left to see it
  int hang_engine = 0;    // holds its lock and gets nowhere, for ever
  int slow_engine = 0;    // others wait for it, and it does get on
  int blame_healthy = 0;  // an agent says for a while that its engine waits for all others; one of these is cut off
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
  double order_again = 0;        // each order and each cancel comes twice, the second time up to a while later
  double bad_reload = 0;         // each rank whose weights are replaced: one slot's differ from its replicas'
  double cut_off_leaving = 0;    // each rank that is drained and holds nothing any more: right before it is left out
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
  absl::Duration ranks_interval;    // mean time between ranks that join or are drained; zero: none are
  absl::Duration weights_interval;  // mean time between replacements of a group's weights; zero: there are none

  // Losses.
  bool losses = false;     // ranks are lost, by evidence, and most are replaced
  int ranks_per_host = 0;  // 0: one host has them all
  bool waits_for_lost =
      false;          // a step whose expert has no replica is given up and tried again; else its token is dropped
  bool pool = false;  // in each host's memory
  bool snapshot = false;
  double store_corrupts = 0;                         // chance of each expert in a store to be damaged
  double store_lacks = 0;                            // ... not to be there
  double replaced = 0.6;                             // chance of a lost rank to be replaced before the calm
  absl::Duration replaced_after = absl::Seconds(3);  // mean
  bool last_controller = true;                       // another one takes over in the calm

  int num_first_ranks() const { return world == 0 ? num_ranks : world; }

  FaultOptions faults;
  Mutant mutant = Mutant::kNone;
  bool verbose = false;
};

// Leases of runs.
inline constexpr absl::Duration kAgentLease = absl::Seconds(3);
inline constexpr absl::Duration kEngineLease = absl::Seconds(8);
inline constexpr absl::Duration kAgentReconnectMax = absl::Seconds(1);

Options SwarmOptions(uint64_t seed);
// The same with ranks that are lost: their engines end, hang or are silent.
Options LossOptions(uint64_t seed);

// The same run with the faults in it that show what the mutant's rule is for.
Options ProvokedBy(Options options);

// One line that names sizes, engines and faults.
std::string Describe(const Options& options);

}  // namespace evenkeel::sim
