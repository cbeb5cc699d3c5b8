// SPDX-License-Identifier: Apache-2.0
#include "controller/core/group_report.h"

#include <algorithm>
#include <cstdint>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "algos/problem.h"
#include "controller/core/planning/effectiveness.h"
#include "controller/core/planning/holding.h"
#include "controller/core/planning/pins_in_force.h"
#include "controller/core/ranks/losses.h"
#include "controller/core/ranks/survival.h"
#include "controller/core/rollout/publish_times.h"

namespace evenkeel::controller {

namespace {

std::vector<std::string> MissingCalls(const MemberRecord& member, absl::Time now) {
  std::vector<std::string> missing;
  if (!member.attached() || now - member.first_attached < kMissingCallAfter) return missing;
  if (!member.engine.called_begin_step) missing.push_back("never called begin_step");
  if (!member.engine.called_end_step) missing.push_back("never called end_step");
  if (!member.engine.called_route) missing.push_back("never called route");
  return missing;
}

MemberStatus ReportMember(const GroupState& group, const MemberRecord& member, RankId rank, absl::Time now) {
  MemberStatus status;
  status.member = {rank, member.member.incarnation};
  status.attached = member.attached();
  status.alive = member.known() && member.engine.alive;
  status.idle = member.engine.idle;
  status.accepted_epoch = std::max(group.publisher.sent(rank), member.quiesced_epoch);
  status.quiesced_epoch = member.quiesced_epoch;
  status.quiesced_view = member.quiesced_view;
  status.num_steps = member.engine.num_steps;
  status.num_calls_waited = member.engine.num_calls_waited;
  status.oldest_open_step = member.engine.oldest_open_step;
  if (member.counts()) status.quiescence_lag = LagOf(group, member.quiesced_epoch, now);
  const EvidenceRules rules = RulesOf(group.settings);
  status.silent = member.counts() && group.evidence.IsSilent(rank, rules, now);
  status.num_suspecting = group.evidence.NumSuspecting(rank, now - rules.agent_lease);
  status.changed = member.changed;
  status.takes_part = member.in_view();
  status.missing_calls = MissingCalls(member, now);
  if (!member.known()) {
    status.note = "has not attached yet";
  } else if (!member.attached()) {
    status.note = "its agent is away";
  } else if (!member.engine.alive) {
    status.note = "its engine has ended";
  } else if (member.suspended) {
    status.note = "is suspended: its weights change";
  } else if (!group.weights.text.empty()) {
    status.note = absl::StrCat("has weights version ", member.weights_version.value_or(0));
  }
  return status;
}

MemberStatus ReportWaiter(const GroupState& group, RankId rank, const Waiter& waiter) {
  MemberStatus status;
  status.member = waiter.attach.member;
  status.attached = true;
  status.alive = true;
  status.accepted_epoch = waiter.attach.epoch;
  status.quiesced_epoch = waiter.attach.quiesced_epoch;
  status.changed = waiter.since;
  status.note =
      group.members.at(rank).in_view()
          ? absl::StrCat("waits outside the set: the member of rank ", rank.value(), " is incarnation ",
                         group.members.at(rank).member.incarnation,
                         "; the group starts over once all its engines were started anew")
          : absl::StrCat("waits outside the set to be admitted: 'keelctl admit ", rank.value(), "' takes it in");
  return status;
}

// Pins of the configuration were written without the group at hand.
bool Fits(const GroupState& group, const algos::Pin& pin) {
  const auto is_below = [](auto id, int count) { return id.value() >= 0 && id.value() < count; };
  const algos::Shape& shape = group.info.shape;
  return is_below(pin.layer, group.info.num_layers) && is_below(pin.expert, shape.num_experts) &&
         is_below(pin.rank, shape.num_ranks);
}

// What the layers of a group must hold, of the ranks that take part (rule 27).
class Required {
 public:
  explicit Required(const GroupState& group)
      : num_experts_(group.info.shape.num_experts), pinned_(static_cast<size_t>(group.info.num_layers)) {
    for (const algos::Pin& pin : PinsInForce(group)) {
      if (Fits(group, pin) && group.members.at(pin.rank).in_view()) ++pinned_[pin.layer.idx()][pin.expert];
    }
    const algos::Survive& survive = group.settings.planning.survive;
    if (!survive.any()) return;
    absl::btree_set<int32_t> hosts;
    const std::vector<int32_t> host_of_rank = HostsOf(group);
    for (size_t r = 0; r < host_of_rank.size(); ++r) {
      if (group.members.members()[r].in_view()) hosts.insert(host_of_rank[r]);
    }
    survive_ = std::max({survive_, std::min(survive.ranks + 1, group.members.NumInView()),
                         std::min(survive.hosts + 1, static_cast<int>(hosts.size()))});
  }

  // For its experts and pins.
  int WithPins(LayerId layer) const { return Sum(layer, 1); }
  // And for what the group is to survive, as far as there are ranks and hosts.
  int All(LayerId layer) const { return Sum(layer, survive_); }

 private:
  int Sum(LayerId layer, int of_each) const {
    int sum = num_experts_ * of_each;
    for (const auto& [expert, num_pinned] : pinned_[layer.idx()]) sum += std::max(num_pinned - of_each, 0);
    return sum;
  }

  const int num_experts_;
  int survive_ = 1;                                     // replicas of each expert
  std::vector<absl::btree_map<ExpertId, int>> pinned_;  // by layer; ranks on which an expert must be
};

// Slots of ranks that take part, without condemned ones.
int UsableSlots(const GroupState& group, LayerId layer) {
  const algos::Shape& shape = group.info.shape;
  int usable = 0;
  for (int rank = 0; rank < shape.num_ranks; ++rank) {
    if (!group.members.at(RankId(rank)).in_view()) continue;
    for (int local = 0; local < shape.slots_per_rank; ++local) {
      const Slot& slot = group.slots.at(layer, shape.SlotAt(RankId(rank), local));
      usable += slot.use == SlotUse::kCondemned ? 0 : 1;
    }
  }
  return usable;
}

LayerStatus ReportLayer(const GroupState& group, LayerId layer, const LoadBook::Balance& balance,
                        const Required& required) {
  LayerStatus status;
  status.layer = layer;
  status.epoch = group.publisher.changed(layer);
  status.phase = std::string(group.rollouts.PhaseOf(layer));
  status.imbalance_now = balance.realised[layer.idx()];
  status.imbalance_initial = balance.initial[layer.idx()];
  status.imbalance_predicted = group.predicted[layer.idx()];
  const auto count = [&](SlotUse use) {
    return static_cast<int>(std::ranges::count(group.slots.layer(layer), use, &Slot::use));
  };
  status.num_slots_live = count(SlotUse::kLive);
  status.num_slots_retired = count(SlotUse::kRetired);
  status.num_slots_writing = count(SlotUse::kWriting);
  status.num_slots_verified = count(SlotUse::kVerified);
  status.num_slots_free = count(SlotUse::kFree);
  status.num_slots_condemned = count(SlotUse::kCondemned);
  status.free_redundancy = UsableSlots(group, layer) - required.All(layer);
  for (int e = 0; group.publisher.published() && e < group.info.shape.num_experts; ++e) {
    if (group.slots.NumLive(layer, ExpertId(e)) == 0) status.experts_lost.push_back(ExpertId(e));
  }
  return status;
}

// The most ranks that can go, whichever they are, one rank staying at least: with a slot for each expert left, or to be
// `rebalancing` one more than experts and pins take. What the group is to survive is then out of reach, and not asked.
int RanksThatMayGo(const GroupState& group, const Required& required, bool rebalancing) {
  const algos::Shape& shape = group.info.shape;
  int may_go = group.members.NumInView() - 1;
  for (int l = 0; l < group.info.num_layers; ++l) {
    const LayerId layer(l);
    const int needed = rebalancing ? required.WithPins(layer) + 1 : shape.num_experts;
    may_go = std::min(may_go, (UsableSlots(group, layer) - needed) / shape.slots_per_rank);
  }
  return std::max(may_go, 0);
}

void AddLostExperts(const LayerRedundancy& layer, RedundancyReport& report) {
  constexpr size_t kNamedMax = 16;
  std::vector<size_t> lost;
  for (size_t e = 0; e < layer.replicas_of_expert.size(); ++e) {
    if (layer.replicas_of_expert[e] == 0) lost.push_back(e);
  }
  if (lost.empty()) return;
  const size_t num_lost = lost.size();
  lost.resize(std::min(num_lost, kNamedMax));
  report.problems.push_back(absl::StrCat("layer ", layer.layer.value(), " has ", num_lost,
                                         " experts without a live replica: ", absl::StrJoin(lost, ", "),
                                         num_lost > kNamedMax ? ", ..." : ""));
}

void AddProblems(const GroupState& group, const Required& required, RedundancyReport& report) {
  if (const std::string reason = group.StaticReason(); !reason.empty()) report.problems.push_back(reason);
  if (!group.weights.text.empty()) {
    report.problems.push_back(absl::StrCat(group.weights.text, ": nothing is moved until all have the same weights"));
  }
  for (size_t r = 0; r < group.members.members().size(); ++r) {
    const MemberRecord& member = group.members.members()[r];
    if (member.standing == Standing::kLost) report.problems.push_back(absl::StrCat("rank ", r, " was lost"));
    if (!member.in_view() || (member.attached() && member.engine.alive)) continue;
    report.problems.push_back(absl::StrCat("rank ", r,
                                           !member.known()      ? " has not attached"
                                           : !member.attached() ? " is away: its agent does not speak"
                                                                : ": its engine has ended"));
  }
  for (const LayerRedundancy& layer : report.layers) {
    if (layer.num_slots_condemned > 0) {
      report.problems.push_back(
          absl::StrCat("layer ", layer.layer.value(), " has ", layer.num_slots_condemned, " condemned slots"));
    }
    if (UsableSlots(group, layer.layer) <= required.WithPins(layer.layer) && group.StaticReason().empty()) {
      const bool for_pins = required.WithPins(layer.layer) > group.info.shape.num_experts;
      report.problems.push_back(absl::StrCat("layer ", layer.layer.value(), " has no free slot left",
                                             for_pins ? " beside experts and pins" : "",
                                             ": only its shares can change"));
    }
    AddLostExperts(layer, report);
  }
}

}  // namespace

namespace {

// All but members, waiting, layers, waves_blocked and what follows from them.
GroupStatus Summarise(const GroupState& group, absl::Time now, const LoadBook::Balance& balance) {
  GroupStatus status;
  status.name = group.info.name;
  status.model = group.info.model;
  status.info = group.info;
  status.policy = group.settings.policy;
  status.term = group.term;
  if (group.publisher.published()) status.epoch = group.publisher.epoch();
  status.view = group.publisher.view();
  status.forming = !group.formed;
  status.static_reason = group.StaticReason();
  if (group.running.has_value()) status.running_operation = group.running->id;
  status.imbalance_now = MeanOfKnown(balance.realised);
  status.imbalance_initial = MeanOfKnown(balance.initial);
  status.imbalance_predicted = MeanOfKnown(group.predicted);
  status.alerts = group.alerts.list();
  status.mode = group.mode;
  status.mode_set_by = group.mode_set_by;
  status.shadow_time = group.shadow_shares.time;
  status.shadow_layers = group.shadow_shares.num_layers;
  status.shadow_before = group.shadow_shares.imbalance_before;
  status.shadow_after = group.shadow_shares.imbalance_after;
  status.imbalance_gap = group.gap.text();
  if (group.pause.has_value()) {
    status.paused_by = group.pause->operation_id;
    status.pause_reason = group.pause->reason;
  }
  status.held = WhyHeld(group, now);
  if (group.guard.on()) {
    status.guard_pace = NameOf(group.guard.pace());
    status.guarded_p50 = group.guard.last_look().p50;
    status.guarded_p99 = group.guard.last_look().p99;
  }
  if (group.publisher.published()) status.map_age = now - group.last_publish;
  status.step_time_p99 = group.step_times.P99();
  status.wave_deadline = group.rollouts.WaveDeadline();
  status.totals = group.totals;
  status.totals.tokens = group.loads.num_tokens();
  status.totals.unrouted_tokens = group.loads.num_unrouted_tokens();
  status.totals.load_reports = group.loads.num_reports();
  return status;
}

}  // namespace

GroupStatus ReportGroup(const GroupState& group, absl::Time now, GroupDetail detail) {
  const LoadBook::Balance balance = group.loads.BalanceOf(group.settings.num_windows_for_shares);
  GroupStatus status = Summarise(group, now, balance);
  if (detail == GroupDetail::kSummary) return status;
  for (size_t r = 0; r < group.members.members().size(); ++r) {
    const RankId rank(static_cast<int32_t>(r));
    const MemberRecord& member = group.members.at(rank);
    if (member.in_view() || member.known()) status.members.push_back(ReportMember(group, member, rank, now));
  }
  for (const auto& [rank, waiter] : group.members.waiters()) {
    status.waiting.push_back(ReportWaiter(group, rank, waiter));
  }
  const Required required(group);
  for (int l = 0; l < group.info.num_layers; ++l) {
    status.layers.push_back(ReportLayer(group, LayerId(l), balance, required));
  }
  status.waves_blocked = group.rollouts.Blocked(now, group.publisher.view().number);
  status.ineffective = WhyIneffective(group, status, now);
  for (const StandingPins& pins : group.pins) {
    status.pins.push_back({pins.operation_id, pins.pins, pins.frozen, pins.reason});
  }
  for (const PlacementHistory::Entry& entry : group.history.entries()) {
    status.rollback_points.push_back(
        {entry.operation_id, entry.epoch, entry.time, static_cast<int>(entry.before.size())});
  }
  return status;
}

GroupStats ReportStats(const GroupState& group, const StatsQuery& query, absl::Time now) {
  GroupStats stats = group.loads.Stats(query, group.predicted, now);
  stats.group = group.info.name;
  return stats;
}

absl::StatusOr<GroupMaps> ReportMaps(const GroupState& group, std::span<const LayerId> layers) {
  GroupMaps maps;
  maps.group = group.info.name;
  if (group.publisher.published()) maps.epoch = group.publisher.epoch();
  maps.view_number = group.publisher.view().number;
  maps.digest = group.publisher.digest();
  std::vector<LayerId> wanted(layers.begin(), layers.end());
  for (int l = 0; layers.empty() && l < group.info.num_layers; ++l) wanted.push_back(LayerId(l));
  for (LayerId layer : wanted) {
    if (!layer.valid() || layer.value() >= group.info.num_layers) {
      return absl::NotFoundError(absl::StrCat("map: unknown layer ", layer.value(), "; group ", group.info.name,
                                              " has ", group.info.num_layers, " layers"));
    }
    LayerMapStatus status;
    status.layer = layer;
    status.epoch = group.publisher.changed(layer);
    status.map = MapInForce(group, layer);
    status.placement = algos::PlacementOf(status.map, group.info.shape.num_slots());
    for (const Slot& slot : group.slots.layer(layer)) {
      status.slots.push_back({slot.use, slot.use == SlotUse::kWriting ? slot.incoming : slot.expert, slot.generation});
    }
    maps.layers.push_back(std::move(status));
  }
  return maps;
}

RedundancyReport ReportRedundancy(const GroupState& group) {
  const algos::Shape& shape = group.info.shape;
  RedundancyReport report;
  report.group = group.info.name;
  const Required required(group);
  report.ranks_may_be_lost_serving = RanksThatMayGo(group, required, /*rebalancing=*/false);
  report.ranks_may_be_lost_rebalancing = RanksThatMayGo(group, required, /*rebalancing=*/true);
  for (int l = 0; l < group.info.num_layers; ++l) {
    const LayerId layer(l);
    LayerRedundancy redundancy;
    redundancy.layer = layer;
    redundancy.num_slots_condemned = group.slots.NumCondemned(layer);
    redundancy.free_redundancy = UsableSlots(group, layer) - required.All(layer);
    const algos::LayerMap map = MapInForce(group, layer);
    for (int e = 0; e < shape.num_experts; ++e) {
      redundancy.replicas_of_expert.push_back(map.num_replicas(ExpertId(e)));
    }
    report.layers.push_back(std::move(redundancy));
  }
  AddProblems(group, required, report);
  ReportSurvival(group, report);
  return report;
}

}  // namespace evenkeel::controller
