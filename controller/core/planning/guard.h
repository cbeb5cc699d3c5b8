// SPDX-License-Identifier: Apache-2.0
//
// Guard: keeps what the controller does from slowing the engines down.
//
// It watches their step times. Within nine tenths of an operator's budget everything goes on; up to the budget one layer at
// a time and one move into a rank; above it no wave begins. An engine that is above it although nothing was moved for two
// windows is slow by itself: moves then go on at the slow pace, since they may be what it needs. And a change of the maps
// after which steps that hold no more tokens take longer is to be undone.
//
// Threads:   none. Owned by GroupState.
// Limits:    means of report intervals, not single steps (StepWindow).
#pragma once

#include <optional>
#include <string>

#include "absl/time/time.h"

#include "controller/core/planning/step_window.h"
#include "controller/core/rollout/move_pace.h"

namespace evenkeel::controller {

struct GuardSettings {
  absl::Duration step_time_p99_max = absl::ZeroDuration();  // the budget; zero: none
  double slowdown_max = 0;  // by this fraction the median step may grow over a change; 0: changes are not judged
  absl::Duration window = absl::Seconds(10);  // that step times are taken over
  absl::Duration rest = absl::Minutes(10);    // after a change was undone the controller does nothing by itself

  bool on() const { return step_time_p99_max > absl::ZeroDuration() || slowdown_max > 0; }

  friend bool operator==(const GuardSettings&, const GuardSettings&) = default;
};

class Guard {
 public:
  static constexpr int64_t kStepsMin = 20;         // in a window, or nothing is said of it
  static constexpr double kSlowFrom = 0.9;         // of the budget
  static constexpr double kTokensAlike = 1.05;     // more tokens a step than this times those before: not comparable
  static constexpr double kWindowsUntilOwn = 2.0;  // without a move: the engines are slow by themselves

  explicit Guard(const GuardSettings& settings) : settings_(settings), steps_(settings.window) {}

  bool on() const { return settings_.on(); }

  // `num_steps` of one rank took `mean_step_time` each; `num_tokens` were routed. Requires: `now` never goes back.
  void NoteSteps(absl::Time now, absl::Duration mean_step_time, int64_t num_steps);
  void NoteTokens(absl::Time now, uint64_t num_tokens);

  // Looks at the window before `now`; `moving`: experts are on their way.
  void Look(absl::Time now, bool moving);
  MovePace pace() const { return pace_; }
  // "99th percentile of step times 31ms, above 25ms: no wave begins"; empty while the pace is free.
  const std::string& reason() const { return reason_; }
  const StepWindow::Look& last_look() const { return look_; }

  // ---- Judging changes of the maps.
  // Maps changed, or begin to, by `operation_id` (empty: shares alone). The first one since a verdict opens a trial, if
  // enough steps were seen before it; later ones are judged with it. True: a trial was opened.
  bool NoteChange(absl::Time now, const std::string& operation_id);
  // An operation still moves experts: what is judged begins after it.
  void NoteMoving(absl::Time now);
  struct Verdict {
    std::string operation_id;  // the first that moved experts; empty: none did
    std::string text;          // what was seen
  };
  // Of the trial that is over at `now`, where it has made steps slower; the trial ends either way.
  std::optional<Verdict> Judge(absl::Time now);
  // Steps before and after are not to be compared.
  void EndTrial() { trial_.reset(); }

  // After a change was undone.
  void Rest(absl::Time now) { resting_until_ = now + settings_.rest; }
  bool resting(absl::Time now) const { return now < resting_until_; }
  absl::Time resting_until() const { return resting_until_; }

 private:
  struct Trial {
    StepWindow::Look before;
    absl::Time judged_at;
    std::string operation_id;
  };

  const GuardSettings settings_;
  StepWindow steps_;
  StepWindow::Look look_;
  absl::Time last_moving_ = absl::InfinitePast();
  MovePace pace_ = MovePace::kFree;
  std::string reason_;
  std::optional<Trial> trial_;
  absl::Time resting_until_ = absl::InfinitePast();
};

}  // namespace evenkeel::controller
