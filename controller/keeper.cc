// SPDX-License-Identifier: Apache-2.0
#include "controller/keeper.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "runtime/clock.h"

namespace evenkeel::controller {

Keeper::Keeper(runtime::Strand& strand, Store& store, const Limits& limits)
    : strand_(strand), limits_(limits), writer_(store) {}

void Keeper::KeepTerm(uint32_t term, Kept kept) {
  term_waiters_.push_back({term, runtime::MonotonicNow() + limits_.term_wait_max, std::move(kept)});
  writer_.SaveTerm(term, [this, term](absl::Status status) {
    // Refused only when the strand has ended, and then nobody waits.
    (void)strand_.PostEssential([this, term, status = std::move(status)] {
      strand_.AssertHeld();
      const auto waiter = std::ranges::find(term_waiters_, term, &Waiter::version);
      if (waiter == term_waiters_.end()) return;
      const Kept waiting = std::move(waiter->kept);
      term_waiters_.erase(waiter);
      waiting(status);
    });
  });
}

void Keeper::Keep(const OperationProgress& operation) {
  const auto [found, is_new] = unsaved_.try_emplace(operation.id);
  Unsaved& unsaved = found->second;
  if (is_new) unsaved.since = runtime::MonotonicNow();
  unsaved.newest = operation;
  ++unsaved.version;
  Save(unsaved);
}

void Keeper::Save(Unsaved& unsaved) {
  unsaved.retry = absl::InfiniteFuture();
  writer_.SaveOperation(unsaved.newest, [this, id = unsaved.newest.id, version = unsaved.version](absl::Status status) {
    (void)strand_.PostEssential([this, id, version, status = std::move(status)] {
      strand_.AssertHeld();
      OnSaved(id, version, status);
    });
  });
}

void Keeper::KeepLoad(std::shared_ptr<const LoadHistory> load) {
  const std::string& group = load->group;
  if (!loads_under_way_.insert(group).second) return;
  writer_.SaveLoad(std::move(load), [this, group = group](absl::Status status) {
    (void)strand_.PostEssential([this, group, status = std::move(status)] {
      strand_.AssertHeld();
      loads_under_way_.erase(group);
      if (status.ok()) return;
      ++num_failures_;
      spdlog::warn("{}; a successor will count anew", status.ToString());
    });
  });
}

void Keeper::OnSaved(const std::string& id, uint64_t version, const absl::Status& status) {
  const auto found = unsaved_.find(id);
  if (found == unsaved_.end()) return;
  Unsaved& unsaved = found->second;
  std::vector<Waiter> waiters;
  for (Waiter& waiter : unsaved.waiters) {
    if (waiter.version <= version) waiters.push_back(std::move(waiter));
  }
  std::erase_if(unsaved.waiters, [&](const Waiter& waiter) { return waiter.version <= version; });
  if (!status.ok()) {
    ++num_failures_;
    if (version == unsaved.version) unsaved.retry = runtime::MonotonicNow() + limits_.retry;
    SetProblem(std::string(status.message()));
  } else {
    unsaved.since = runtime::MonotonicNow();
    if (version == unsaved.version) unsaved_.erase(found);
    SetProblem({});
  }
  for (const Waiter& waiter : waiters) waiter.kept(status);
}

void Keeper::WhenKept(const std::string& operation_id, Kept kept) {
  const auto found = unsaved_.find(operation_id);
  if (found == unsaved_.end()) return kept(absl::OkStatus());
  Unsaved& unsaved = found->second;
  unsaved.waiters.push_back({unsaved.version, runtime::MonotonicNow() + limits_.wait_max, std::move(kept)});
  if (unsaved.retry != absl::InfiniteFuture()) Save(unsaved);
}

void Keeper::Wake(absl::Time now) {
  std::vector<Waiter> late;
  const auto take_late = [&](std::vector<Waiter>& waiters) {
    for (Waiter& waiter : waiters) {
      if (waiter.deadline <= now) late.push_back(std::move(waiter));
    }
    std::erase_if(waiters, [&](const Waiter& waiter) { return waiter.deadline <= now; });
  };
  take_late(term_waiters_);
  for (auto& [id, unsaved] : unsaved_) {
    take_late(unsaved.waiters);
    if (unsaved.retry <= now) Save(unsaved);
    if (unsaved.since + limits_.stalled_after <= now && problem_.empty()) {
      SetProblem(absl::StrCat("the store has not answered for ", absl::FormatDuration(limits_.stalled_after)));
    }
  }
  for (const Waiter& waiter : late) waiter.kept(absl::DeadlineExceededError("the store has not answered in time"));
}

absl::Time Keeper::NextWakeup() const {
  absl::Time next = absl::InfiniteFuture();
  for (const Waiter& waiter : term_waiters_) next = std::min(next, waiter.deadline);
  for (const auto& [id, unsaved] : unsaved_) {
    next = std::min(next, unsaved.retry);
    if (problem_.empty()) next = std::min(next, unsaved.since + limits_.stalled_after);
    for (const Waiter& waiter : unsaved.waiters) next = std::min(next, waiter.deadline);
  }
  return next;
}

void Keeper::SetProblem(std::string problem) {
  if (problem.empty() && !problem_.empty()) spdlog::info("operations are kept again");
  if (!problem.empty() && problem_.empty()) spdlog::error("{}; operations are not kept for now", problem);
  problem_ = std::move(problem);
}

void Keeper::Stop() { writer_.Stop(); }

}  // namespace evenkeel::controller
