// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/guard.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace evenkeel::controller {

namespace {

std::string Text(absl::Duration time) { return absl::StrFormat("%.2f ms", absl::ToDoubleMilliseconds(time)); }

}  // namespace

void Guard::NoteSteps(absl::Time now, absl::Duration mean_step_time, int64_t num_steps) {
  if (on()) steps_.AddSteps(now, mean_step_time, num_steps);
}

void Guard::NoteTokens(absl::Time now, uint64_t num_tokens) {
  if (on()) steps_.AddTokens(now, num_tokens);
}

void Guard::Look(absl::Time now, bool moving) {
  if (!on()) return;
  if (moving) last_moving_ = now;
  look_ = steps_.At(now);
  const absl::Duration most = settings_.step_time_p99_max;
  pace_ = MovePace::kFree;
  reason_.clear();
  if (most <= absl::ZeroDuration() || look_.num_steps < kStepsMin || look_.p99 <= kSlowFrom * most) return;
  const std::string seen = absl::StrCat("99th percentile of step times ", Text(look_.p99));
  pace_ = MovePace::kSlow;
  if (look_.p99 <= most) {
    reason_ = absl::StrCat(seen, ", near the budget of ", Text(most), ": one layer at a time");
  } else if (now - last_moving_ >= kWindowsUntilOwn * settings_.window) {
    reason_ = absl::StrCat(seen, ", above the budget of ", Text(most), " without any move: one layer at a time");
  } else {
    pace_ = MovePace::kPaused;
    reason_ = absl::StrCat(seen, ", above the budget of ", Text(most), ": no wave begins");
  }
}

bool Guard::NoteChange(absl::Time now, const std::string& operation_id) {
  if (settings_.slowdown_max <= 0) return false;
  if (trial_.has_value()) {
    if (operation_id.empty()) return false;
    if (trial_->operation_id.empty()) trial_->operation_id = operation_id;
    trial_->judged_at = std::max(trial_->judged_at, now + settings_.window);
    return false;
  }
  const StepWindow::Look before = steps_.At(now);
  if (before.num_steps < kStepsMin) return false;
  // The slice at hand holds steps from before the change.
  trial_ = Trial{before, now + settings_.window + settings_.window / StepWindow::kSlices, operation_id};
  return true;
}

void Guard::NoteMoving(absl::Time now) {
  if (!trial_.has_value()) return;
  trial_->judged_at = std::max(trial_->judged_at, now + settings_.window + settings_.window / StepWindow::kSlices);
}

std::optional<Guard::Verdict> Guard::Judge(absl::Time now) {
  if (!trial_.has_value() || now < trial_->judged_at) return std::nullopt;
  const Trial trial = *std::exchange(trial_, std::nullopt);
  const StepWindow::Look after = steps_.At(now);
  if (after.num_steps < kStepsMin) return std::nullopt;
  if (after.tokens_per_step > kTokensAlike * trial.before.tokens_per_step) return std::nullopt;
  if (after.p50 <= (1 + settings_.slowdown_max) * trial.before.p50) return std::nullopt;
  return Verdict{trial.operation_id, absl::StrCat("steps take ", Text(after.p50), " in the median instead of ",
                                                  Text(trial.before.p50), ", at no more tokens a step")};
}

}  // namespace evenkeel::controller
