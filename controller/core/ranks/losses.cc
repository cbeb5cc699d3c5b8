// SPDX-License-Identifier: Apache-2.0
#include "controller/core/ranks/losses.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "controller/core/planning/group_load.h"
#include "controller/core/ranks/rank_change.h"

namespace evenkeel::controller {

namespace {

std::string Listed(const std::vector<Loss>& lost) {
  return absl::StrCat(
      lost.size() == 1 ? "rank " : "ranks ",
      absl::StrJoin(lost, ", ", [](std::string* out, const Loss& loss) { absl::StrAppend(out, loss.rank.value()); }));
}

// The fewest ranks whose slots could hold every expert.
int RanksNeeded(const GroupState& group) {
  const algos::Shape& shape = group.info.shape;
  int condemned = 0;
  for (int l = 0; l < group.info.num_layers; ++l) {
    condemned = std::max(condemned, group.slots.NumCondemned(LayerId(l)));
  }
  return (shape.num_experts + condemned + shape.slots_per_rank - 1) / shape.slots_per_rank;
}

// No move goes into slots that are gone; those into slots that hold the last copy of an expert are given up, in case
// they have not begun (rule 26).
void FollowInOrders(GroupState& group, const std::vector<Loss>& lost, absl::Time now, Effects& effects) {
  std::vector<std::pair<LayerId, SlotIdx>> ended, cancelled;
  for (const auto& [id, order] : group.orders.open()) {
    const RankId rank = group.info.shape.RankOf(order.slot);
    const Slot& slot = group.slots.at(order.layer, order.slot);
    if (std::ranges::count(lost, rank, &Loss::rank) > 0) {
      ended.emplace_back(order.layer, order.slot);
    } else if (slot.expert.valid() && slot.expert != order.expert && !order.cancelled &&
               group.slots.NumLive(order.layer, slot.expert) == 0) {
      cancelled.emplace_back(order.layer, order.slot);
    }
  }
  for (const auto& [layer, slot] : ended) group.orders.End(layer, slot);
  for (const auto& [layer, slot] : cancelled) {
    group.orders.Cancel(layer, slot, group.members, group.slots, now, effects);
  }
}

// All that is planned or under way knows of ranks that are gone. Changes of ranks are planned anew under their own
// operation; the others end here, and what an operator asked for is gone on with.
void Overtake(Planning planning, const std::string& why, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  Unfinished next;
  next.cause = Cause::kEmergency;
  const auto overtaken = [&](const std::string& id, Cause cause) {
    if (IsRankChange(cause)) {
      if (RankChange* change = group.changes.Find(id)) change->needs_plan = true;
      return;
    }
    if (const OperationProgress* operation = planning.operations.Find(id); operation != nullptr) {
      if (operation->cause == Cause::kOperator || operation->for_operator) {
        next.for_operator = !operation->cancel_requested;
        next.policy = operation->policy;
        next.layers = operation->layers;
      }
    }
    planning.operations.Close(id, OperationState::kSuperseded, absl::StrCat("overtaken: ", why), now, effects);
  };
  absl::erase_if(group.plans, [&](const auto& entry) {
    if (entry.second.dry_run) return false;
    overtaken(entry.second.operation_id, entry.second.cause);
    return true;
  });
  for (int l = 0; l < group.info.num_layers; ++l) group.rollouts.Stop(LayerId(l));
  group.planned_shares.clear();
  if (group.running.has_value()) overtaken(group.running->id, group.running->cause);
  group.running.reset();
  if (!next.for_operator && !group.PlacementOn()) return;
  group.next = std::move(next);
  group.next_placement = now;
}

void PublishLosses(Planning planning, const std::vector<Loss>& lost, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  group.publisher.PublishView({++group.highest_view, group.members.Members()}, group.members, effects);
  Overtake(planning, absl::StrCat(Listed(lost), lost.size() == 1 ? " was lost" : " were lost"), now, effects);
  for (const Loss& loss : lost) group.slots.Drop(loss.rank);
  FollowInOrders(group, lost, now, effects);
  group.restores.Look();
  OperationProgress operation;
  operation.id = OwnId(planning);
  operation.group = group.info.name;
  operation.cause = Cause::kEmergency;
  for (const Loss& loss : lost) operation.ranks.push_back(loss.rank);
  operation.state = OperationState::kRunning;
  operation.detail =
      absl::StrCat(Listed(lost), lost.size() == 1 ? " was lost" : " were lost", ": view ", group.highest_view);
  if (group.emergency.has_value()) {
    planning.operations.Close(group.emergency->operation_id, OperationState::kSuperseded,
                              absl::StrCat("goes on as ", operation.id, ": ", operation.detail), now, effects);
  }
  group.emergency = {operation.id, operation.detail, group.restores.num_begun(), group.restores.num_restored(),
                     group.restores.num_failed()};
  planning.operations.Begin(std::move(operation), now, effects);
}

std::string DeadText(const GroupState& group) {
  constexpr size_t kLayersNamed = 4, kExpertsNamed = 8;
  const auto& dead = group.restores.dead();
  std::string text;
  size_t num_layers = 0, num_experts = 0;
  for (size_t i = 0; i < dead.size(); ++i) {
    const bool new_layer = i == 0 || dead[i].first != dead[i - 1].first;
    num_layers += new_layer;
    num_experts = new_layer ? 1 : num_experts + 1;
    if (num_layers > kLayersNamed || num_experts > kExpertsNamed) continue;
    absl::StrAppend(&text, !new_layer ? ", " : absl::StrCat(i == 0 ? "" : "; ", "layer ", dead[i].first.value(), " "),
                    dead[i].second.value());
  }
  return absl::StrCat(dead.size(), " experts have no live replica: ", text, num_layers > kLayersNamed ? "; ..." : "");
}

}  // namespace

EvidenceRules RulesOf(const GroupSettings& settings) {
  return {.agent_lease = settings.agent_lease,
          .engine_lease = settings.engine_lease,
          .agent_reconnect_max = settings.agent.reconnect_max,
          .num_witnesses = settings.witnesses};
}

void ExpelLost(Planning planning, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  const EvidenceRules rules = RulesOf(group.settings);
  group.evidence.Look(now, rules);
  Verdict verdict = group.evidence.Judge(group.members, RanksNeeded(group), rules, now);
  // Whom no view can name yet is waited for.
  std::erase_if(verdict.lost, [&](const Loss& loss) { return !group.members.at(loss.rank).known(); });
  if (std::exchange(group.held_back, verdict.held_back) != verdict.held_back && !verdict.held_back.empty()) {
    group.Alert(
        verdict.held_back, [](const GroupState& g) { return !g.held_back.empty(); }, effects);
  }
  // A group that no view was made of yet waits for whoever takes the place of one that ended.
  if (verdict.lost.empty() || (!group.formed && group.told_view.number == 0)) return;
  for (const Loss& loss : verdict.lost) {
    group.members.SetStanding(loss.rank, Standing::kLost, now);
    group.loads.Restart(loss.rank);
    group.evidence.Forget(loss.rank, now);
    if (loss.kind == Loss::Kind::kSilent) group.evidence.NoteExpelled(loss.rank);
    ++group.totals.ranks_lost;
    group.Alert(
        absl::StrCat("rank ", loss.rank.value(), " is lost: ", loss.why),
        [rank = loss.rank](const GroupState& g) { return g.members.at(rank).standing == Standing::kLost; }, effects);
  }
  if (group.formed) {
    PublishLosses(planning, verdict.lost, now, effects);
  } else {
    for (const Loss& loss : verdict.lost) group.slots.Drop(loss.rank);
  }
}

void PlanRestores(Planning planning, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  const size_t num_dead = group.restores.dead().size();
  if (group.MayPublish()) group.restores.Plan(now, SlotLoadsNow(group));
  const auto& dead = group.restores.dead();
  if (dead.size() > num_dead) {
    group.Alert(
        absl::StrCat("degraded: ", DeadText(group)), [](const GroupState& g) { return !g.restores.dead().empty(); },
        effects);
  }
  if (dead.empty() && num_dead > 0) effects.push_back(Note{group.info.name, "every expert has a live replica again"});
  group.totals.experts_restored = static_cast<uint64_t>(group.restores.num_restored());
  if (!group.emergency.has_value()) return;
  const Emergency& emergency = *group.emergency;
  const bool ends = !group.restores.running();
  planning.operations.Update(
      emergency.operation_id, now,
      [&](OperationProgress& operation) {
        operation.num_moves = group.restores.num_begun() - emergency.num_begun;
        operation.num_moves_done = group.restores.num_restored() - emergency.num_restored;
        operation.num_moves_failed = group.restores.num_failed() - emergency.num_failed;
        operation.bytes_done = static_cast<uint64_t>(operation.num_moves_done) * group.info.expert_bytes;
        operation.detail = absl::StrCat(
            emergency.text, dead.empty() ? operation.num_moves > 0 ? "; every expert has a live replica again"
                                                                   : "; every expert has a live replica"
                                         : absl::StrCat("; ", DeadText(group),
                                                        ends ? ", and no store that could be read holds them" : ""));
        if (ends) operation.state = dead.empty() ? OperationState::kDone : OperationState::kFailed;
      },
      effects);
  if (ends) group.emergency.reset();
}

absl::Time NextLook(const GroupState& group, absl::Time now) {
  if (group.term == 0 || group.members.NoneAttached()) return absl::InfiniteFuture();
  return now + Evidence::LookInterval(RulesOf(group.settings));
}

}  // namespace evenkeel::controller
