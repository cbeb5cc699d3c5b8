// SPDX-License-Identifier: Apache-2.0
#include "controller/core/group.h"

#include <algorithm>
#include <optional>
#include <variant>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"
#include "algos/base/status_macros.h"
#include "controller/core/group_bytes.h"
#include "controller/core/pause.h"
#include "controller/core/pins.h"
#include "controller/core/planning/group_load.h"
#include "controller/core/planning/guard_watch.h"
#include "controller/core/planning/layer_shares.h"
#include "controller/core/planning/load_keeping.h"
#include "controller/core/planning/plan_outcome.h"
#include "controller/core/planning/slow_loop.h"
#include "controller/core/ranks/admission.h"
#include "controller/core/ranks/losses.h"
#include "controller/core/ranks/rank_changes.h"
#include "controller/core/ranks/rank_requests.h"
#include "controller/core/ranks/survival.h"
#include "controller/core/ranks/weights.h"
#include "controller/core/rollout/publish_times.h"
#include "controller/core/rollout/rollout_book.h"
#include "controller/core/set_mode.h"

namespace evenkeel::controller {

namespace {

bool Welcomes(const Effect& effect, SessionId session) {
  const auto* send = std::get_if<SendToAgent>(&effect);
  return send != nullptr && send->session == session && std::holds_alternative<Welcome>(*send->message);
}

// Engines that start anew count from 0: so does this then.
void WakeBySteps(GroupState& group, absl::Time now) {
  const auto interval = static_cast<uint64_t>(group.settings.planning.placement_interval_steps);
  const uint64_t step = group.loads.newest_step();
  if (interval == 0 || step == 0 || !group.formed || !group.PlacementOn()) return;
  if (step < group.placement_step) group.placement_step = 0;
  if (step - group.placement_step < interval) return;
  group.placement_step = step;
  group.next_placement = std::min(group.next_placement, now);
}

}  // namespace

Group::Group(const GroupInfo& info, const GroupSettings& settings, uint32_t term, Operations& operations,
             uint64_t& next_plan_id, absl::Time now)
    : settings_(settings),
      made_(now),
      operations_(operations),
      next_plan_id_(next_plan_id),
      state_(std::make_unique<GroupState>(info, settings, term, now)),
      bytes_(GroupBytes(info, settings)) {
  state_->publisher.Begin({term, 0});
}

void Group::RestoreLoads(std::span<const LoadHistory> stored, absl::Time now) {
  controller::RestoreLoads(*state_, stored, now);
}

void Group::TakeTerm(uint32_t term, Effects& effects) {
  EVENKEEL_CHECK(state_->term == 0);
  state_->term = term;
  state_->publisher.Begin({term, 0});
  state_->orders.SetTerm(term);
  WelcomeAll(*state_, effects);
  for (const MemberRecord& member : state_->members.members()) {
    if (member.attached()) welcomed_.insert(member.member);
  }
  needs_advance_ = true;
}

void Group::StayIn(Mode mode, std::string set_by) {
  state_->mode = mode;
  state_->mode_set_by = std::move(set_by);
}

void Group::StayPinned(std::vector<StandingPins> pins) { KeepPinsThatFit(*state_, std::move(pins)); }

// ---- Who is there

bool Group::MayBeReplaced(absl::Time now) const {
  if (!state_->members.waiters().empty()) return false;
  if (!state_->formed) return state_->members.NoneAttached();
  for (const MemberRecord& member : state_->members.members()) {
    if (!member.known()) continue;
    if (member.attached() || (member.engine.alive && now - member.changed < kForgetAfter)) return false;
  }
  return true;
}

Group::Numbers Group::numbers() const {
  return {.epoch = state_->publisher.epoch(),
          .highest_view = state_->highest_view,
          .next_move_id = state_->orders.next_id(),
          .num_operations = state_->num_operations};
}

void Group::ContinueFrom(const Numbers& numbers) {
  state_->publisher.Begin(numbers.epoch);
  state_->orders.ContinueAt(numbers.next_move_id);
  state_->highest_view = numbers.highest_view;
  state_->num_operations = numbers.num_operations;
}

void Group::StartOver(const GroupInfo& info, absl::Time now) {
  for (const auto& [id, plan] : state_->plans) {
    if (!plan.dry_run) unfinished_ = {plan.policy, plan.layers, plan.for_operator};
  }
  const Numbers reached = numbers();
  const auto before = std::exchange(state_, std::make_unique<GroupState>(info, settings_, state_->term, now));
  ContinueFrom(reached);
  state_->alerts = before->alerts;
  state_->alerts.EndAll(now);
  state_->totals = before->totals;
  state_->pause = before->pause;
  state_->mode = before->mode;
  state_->mode_set_by = before->mode_set_by;
  KeepPinsThatFit(*state_, before->pins);
  bytes_ = GroupBytes(info, settings_);
}

absl::Status Group::OnAttach(SessionId session, const Attach& attach, absl::Time now, Effects& effects) {
  state_->clock = now;
  if (CheckSameGroup(state_->info, attach.group) != absl::OkStatus() && MayBeReplaced(now)) {
    CloseOperations("the group was replaced by another", now, effects);
    StartOver(attach.group, now);
  }
  const absl::StatusOr<Membership::Admission> admission = AdmitAgent(*state_, session, attach, now, effects);
  // Also where it is no member any more: it obeys this term, and comes back with it.
  const bool welcomed = std::ranges::any_of(effects, [&](const Effect& effect) { return Welcomes(effect, session); });
  if (welcomed) welcomed_.insert(attach.member);
  if (!admission.ok()) return admission.status();
  AdmitWaiters(now, effects);
  needs_advance_ = true;
  return absl::OkStatus();
}

bool Group::AllFirstRanksWait() const {
  for (int r = 0; r < state_->info.num_first_ranks(); ++r) {
    if (!state_->members.waiters().contains(RankId(r))) return false;
  }
  return true;
}

void Group::AdmitWaiters(absl::Time now, Effects& effects) {
  const size_t num_ranks = state_->members.members().size();
  std::vector<Waiter> admitted;
  const bool known = state_->told_view.number > 0;
  if (!state_->formed && !(known && AllFirstRanksWait() && state_->members.AllGone())) {
    for (size_t r = 0; r < num_ranks; ++r) {
      const RankId rank(static_cast<int32_t>(r));
      if (!state_->members.at(rank).in_view() || !state_->members.Gone(rank)) continue;
      const auto waits = state_->members.waiters().find(rank);
      // Where a view says who the members are, they alone: they may have come before it was known.
      if (known && (waits == state_->members.waiters().end() ||
                    waits->second.attach.member != state_->members.at(rank).member)) {
        continue;
      }
      if (std::optional<Waiter> waiter = state_->members.TakeWaiter(rank)) admitted.push_back(*std::move(waiter));
    }
  } else if (AllFirstRanksWait() && state_->members.AllGone()) {
    CloseOperations("all engines of the group were started anew", now, effects);
    for (const MemberRecord& member : state_->members.members()) {
      if (!member.attached()) continue;
      effects.push_back(SendToAgent{*member.session, Refused{absl::FailedPreconditionError(absl::StrCat(
                                                         "rank ", member.member.rank.value(), " incarnation ",
                                                         member.member.incarnation, " was replaced"))}});
      effects.push_back(CloseSession{*member.session});
    }
    for (size_t r = 0; r < num_ranks; ++r) {
      std::optional<Waiter> waiter = state_->members.TakeWaiter(RankId(static_cast<int32_t>(r)));
      if (waiter.has_value()) admitted.push_back(*std::move(waiter));
    }
    StartOver(state_->info, now);
  }
  for (const Waiter& waiter : admitted) {
    const auto admission = AdmitAgent(*state_, waiter.session, waiter.attach, now, effects);
    EVENKEEL_CHECK(admission.ok());
    if (*admission == Membership::Admission::kMember && state_->term > 0) welcomed_.insert(waiter.attach.member);
  }
}

absl::Time Group::IdleSince() const {
  if (state_->running.has_value() || !state_->plans.empty() || !state_->members.waiters().empty() ||
      !state_->changes.open.empty()) {
    return absl::InfiniteFuture();
  }
  absl::Time since = made_;
  for (const MemberRecord& member : state_->members.members()) {
    if (member.attached()) return absl::InfiniteFuture();
    if (member.known()) since = std::max(since, member.changed);
  }
  return since;
}

void Group::CloseOperations(const std::string& why, absl::Time now, Effects& effects) {
  for (const auto& [id, plan] : state_->plans) {
    operations_.Close(plan.operation_id, OperationState::kSuperseded, why, now, effects);
  }
  if (state_->running.has_value()) {
    operations_.Close(state_->running->id, OperationState::kSuperseded, why, now, effects);
  }
  for (const RankChange& change : state_->changes.open) {
    operations_.Close(change.operation_id, OperationState::kSuperseded, why, now, effects);
  }
}

void Group::OnDetach(SessionId session, absl::Time now, Effects& effects) {
  state_->members.Detach(session, now);
  AdmitWaiters(now, effects);
  needs_advance_ = true;
}

// ---- Operators and plans

void Group::OnRearrange(const RearrangeRequested& request, absl::Time now, Effects& effects) {
  Rearrange({*state_, operations_, next_plan_id_}, request, now, effects);
  needs_advance_ = true;
}

void Group::OnAdmit(const AdmitRequested& request, absl::Time now, Effects& effects) {
  Admit({*state_, operations_, next_plan_id_}, request, now, effects);
  needs_advance_ = true;
}

void Group::OnDrain(const DrainRequested& request, absl::Time now, Effects& effects) {
  Drain({*state_, operations_, next_plan_id_}, request, now, effects);
  needs_advance_ = true;
}

void Group::OnPause(const PauseRequested& request, absl::Time now, Effects& effects) {
  PauseGroup({*state_, operations_, next_plan_id_}, request, now, effects);
  needs_advance_ = true;
}

void Group::OnResume(absl::Time now, Effects& effects) {
  EndPause({*state_, operations_, next_plan_id_}, OperationState::kDone, now, effects);
  needs_advance_ = true;
}

void Group::OnSetMode(const SetModeRequested& request, absl::Time now, Effects& effects) {
  SetMode({*state_, operations_, next_plan_id_}, request, now, effects);
  needs_advance_ = true;
}

void Group::OnPin(const PinRequested& request, absl::Time now, Effects& effects) {
  PinGroup({*state_, operations_, next_plan_id_}, request, now, effects);
  needs_advance_ = true;
}

void Group::OnUnpin(const std::string& operation_id, absl::Time now, Effects& effects) {
  EndPins({*state_, operations_, next_plan_id_}, operation_id, OperationState::kDone, now, effects);
  needs_advance_ = true;
}

void Group::OnCancel(const std::string& operation_id, absl::Time now, Effects& effects) {
  if (state_->mode_set_by == operation_id) {
    UnsetMode({*state_, operations_, next_plan_id_}, OperationState::kCancelled, now, effects);
  }
  EndPins({*state_, operations_, next_plan_id_}, operation_id, OperationState::kCancelled, now, effects);
  if (state_->pause.has_value() && state_->pause->operation_id == operation_id) {
    EndPause({*state_, operations_, next_plan_id_}, OperationState::kCancelled, now, effects);
  }
  CancelRankChange({*state_, operations_, next_plan_id_}, operation_id, now, effects);
  Cancel({*state_, operations_, next_plan_id_}, operation_id, now, effects);
  needs_advance_ = true;
}

bool Group::OnPlan(const PlanComputed& plan, absl::Time now, Effects& effects) {
  if (!TakePlan({*state_, operations_, next_plan_id_}, plan, now, effects)) return false;
  needs_advance_ = true;
  return true;
}

// ---- Going on

void Group::Advance(absl::Time now, Effects& effects) {
  GroupState& group = *state_;
  needs_advance_ = false;
  group.clock = now;
  group.loads.SetExpected(group.members.AttachedRanks());
  const int num_closed = group.loads.Advance(now, group.predicted);
  ObserveWindows(group, num_closed);
  KeepLoads(group, num_closed, effects);
  group.num_windows_closed += num_closed;
  if (num_closed > 0) {
    windows_closed_ = true;
    if (group.loads.Window(0).has_value()) group.last_load = now;
    WakeBySteps(group, now);
    WatchGap(group, effects);
  }
  group.fast_loop.SetAbsent(group.members.AbsentRanks());
  group.loads.SetAbsent(group.members.AbsentRanks());
  if (group.term > 0) ExpelLost({group, operations_, next_plan_id_}, now, effects);
  AdvanceWeights(group, now, effects);
  if (FormGroup(group, effects)) {
    ResumeRankChanges(group, std::exchange(rank_changes_, {}), std::exchange(left_before_, {}), now);
    AfterForming(now);
    AnnounceSurvival(group, now, effects);
  }
  if (group.formed) {
    const Planning planning{group, operations_, next_plan_id_};
    group.publisher.Tick(now, group.members, effects);
    group.orders.Tick(group.members, group.slots, now, effects);
    PlanRestores(planning, now, effects);
    Publisher::LayerMaps undone = AdvanceGuard(planning, now, effects);
    group.rollouts.Plan(now, SlotLoadsNow(group), effects);
    Publish(undone.empty() ? SharesIfDue(now) : std::move(undone), now, effects);
    group.restores.SendOrders(now, group.publisher.view().number, effects);
    group.rollouts.SendOrders(now, group.publisher.view().number, effects);
    BookRollouts(group, operations_, now, effects);
    AdvanceRanks(planning, now, effects);
    for (const auto& [rank, view] : group.changes.newcomers) welcomed_.insert(group.members.at(rank).member);
    if (group.StaticReason().empty()) PlanIfDue(planning, now, effects);
  }
  for (std::string& over : group.alerts.End(group, now)) {
    effects.push_back(Note{group.info.name, absl::StrCat("is over: ", over)});
  }
  SetWakeup(now);
}

void Group::AfterForming(absl::Time now) {
  GroupState& group = *state_;
  if (group.PlacementOn()) group.next_placement = now + settings_.placement_interval;
  std::optional<Unfinished> unfinished = std::exchange(unfinished_, std::nullopt);
  if (!unfinished.has_value() || !(unfinished->for_operator || group.PlacementOn())) return;
  // Of a group that was replaced by a smaller one, not all layers are left.
  const bool all = unfinished->layers.empty();
  std::erase_if(unfinished->layers, [&](LayerId layer) { return layer.value() >= group.info.num_layers; });
  if (!all && unfinished->layers.empty()) return;
  group.next = std::move(unfinished);
  group.next_placement = std::min(group.next_placement, now + 3 * settings_.window);
}

Publisher::LayerMaps Group::SharesIfDue(absl::Time now) {
  GroupState& group = *state_;
  if (!std::exchange(windows_closed_, false) || !group.SharesOn() || !group.publisher.published()) return {};
  if (!group.weights.text.empty()) return {};  // replicas may differ
  if (group.Held()) return {};
  if (now < group.next_shares || !group.StaticReason().empty()) {
    windows_closed_ = true;
    return {};
  }
  group.next_shares = now + settings_.shares_interval * 9 / 10;
  if (!Acts(group.mode)) {
    LookAtShares(group);
    return {};
  }
  Publisher::LayerMaps improved = ImprovedShares(group);
  if (!improved.empty()) {
    group.totals.shares_latency.Add(std::max(now - group.loads.newest_end(), absl::ZeroDuration()));
  }
  return improved;
}

void Group::Publish(Publisher::LayerMaps improved, absl::Time now, Effects& effects) {
  GroupState& group = *state_;
  if (!group.MayPublish() || (improved.empty() && !group.slots.dirty())) return;
  const std::vector<LayerId> changed = group.slots.Commit(group.publisher.next_epoch());
  std::erase_if(improved, [&](const auto& entry) { return std::ranges::binary_search(changed, entry.first); });
  group.totals.shares_updates += !improved.empty();
  for (auto& entry : FirstShares(group, changed)) improved.push_back(std::move(entry));
  if (improved.empty()) return;
  NoteMapChange(group, !changed.empty(), now);
  std::ranges::sort(improved, {}, [](const auto& entry) { return entry.first; });
  for (const auto& [layer, map] : improved) {
    EVENKEEL_CHECK(algos::Validate(map, group.info.shape, {.allow_dead_experts = true}).ok());
  }
  ++group.totals.publishes;
  group.publisher.Publish(std::move(improved), group.members, effects);
  NotePublish(group, now);
}

void Group::SetWakeup(absl::Time now) {
  const GroupState& group = *state_;
  next_wakeup_ = std::min({group.loads.NextEdge(), NextLook(group, now), NextWeightsLook(group, now)});
  if (!group.formed) return;
  next_wakeup_ =
      std::min({next_wakeup_, group.restores.NextWakeup(), group.publisher.NextWakeup(), group.orders.NextWakeup(),
                group.rollouts.NextWakeup(), group.changes.next_wakeup, NextGuardLook(group)});
  if (!group.StaticReason().empty()) return;
  next_wakeup_ = std::min(next_wakeup_, group.next_placement);
  if (windows_closed_) next_wakeup_ = std::min(next_wakeup_, group.next_shares);  // the fast loop waits for its turn
}

}  // namespace evenkeel::controller
