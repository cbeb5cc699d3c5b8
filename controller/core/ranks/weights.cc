// SPDX-License-Identifier: Apache-2.0
#include "controller/core/ranks/weights.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace evenkeel::controller {

namespace {

// Alerts about experts of one version that disagree, beyond which only their number is told.
constexpr size_t kConflictsNamed = 8;

std::string Listed(const std::vector<RankId>& ranks) {
  return absl::StrCat(
      ranks.size() == 1 ? "rank " : "ranks ",
      absl::StrJoin(ranks, ", ", [](std::string* out, RankId rank) { absl::StrAppend(out, rank.value()); }));
}

bool AnySuspended(const Membership& members) {
  return std::ranges::any_of(members.members(),
                             [](const MemberRecord& record) { return record.in_view() && record.suspended; });
}

// All moves end: also those among other ranks, so that no wave is left half done when versions come to differ.
void GiveMovesUp(GroupState& group, absl::Time now, Effects& effects) {
  group.rollouts.Pause(now, effects);
  std::vector<std::pair<LayerId, SlotIdx>> open;
  for (const auto& [id, order] : group.orders.open()) {
    if (!order.cancelled) open.emplace_back(order.layer, order.slot);
  }
  for (const auto& [layer, slot] : open) {
    group.orders.Cancel(layer, slot, group.members, group.slots, now, effects);
  }
}

// Whether anything may still be copied into or out of the rank's slots. Orders of a controller before may read from
// any rank.
bool IsCopied(const GroupState& group, RankId rank, absl::Time now) {
  const algos::Shape& shape = group.info.shape;
  for (const auto& [id, order] : group.orders.open()) {
    if (shape.RankOf(order.slot) == rank) return true;
    const bool reads = std::ranges::any_of(order.sources, [&](SlotIdx source) { return shape.RankOf(source) == rank; });
    if (reads && order.readable_until > now) return true;
  }
  for (int l = 0; l < group.info.num_layers; ++l) {
    for (const Slot& slot : group.slots.layer(LayerId(l))) {
      if (slot.use == SlotUse::kWriting && slot.move_id == 0) return true;
    }
  }
  return false;
}

void Release(GroupState& group, absl::Time now, Effects& effects) {
  for (const MemberRecord& record : group.members.members()) {
    if (!record.suspended || record.released || !record.in_view() || !record.attached()) continue;
    const RankId rank = record.member.rank;
    if (IsCopied(group, rank, now)) continue;
    group.members.at(rank).released = true;
    effects.push_back(SendToAgent{*record.session, SlotsReleased{}});
  }
}

void TakeCommonWeights(GroupState& group, Effects& effects) {
  const std::optional<uint64_t> common = group.members.CommonWeights();
  if (!common.has_value()) return;
  const bool another = *common != group.info.weights_version;
  if (!another && !group.slots.AnyRenewed()) return;
  group.info.weights_version = *common;
  if (!group.formed) return;
  AlertConflicts(group, group.slots.Refix(another ? SlotTable::Version::kAnother : SlotTable::Version::kSame), effects);
  group.restores.Look();
  effects.push_back(Note{group.info.name, absl::StrCat("all ranks have weights version ", *common, ": moves go on")});
}

Alerts::Lasts StaysInConflict(const FingerprintConflict& conflict) {
  return [layer = conflict.layer, expert = conflict.expert](const GroupState& group) {
    return group.slots.FindConflict(layer, expert) != nullptr;
  };
}

void Watch(GroupState& group, absl::Time now, Effects& effects) {
  WeightsWatch& watch = group.weights;
  std::string text = UnsettledText(group);
  if (text != watch.text) {
    watch = {std::move(text), now, false};
    if (!watch.text.empty()) effects.push_back(Note{group.info.name, absl::StrCat(watch.text, ": nothing is moved")});
  }
  if (watch.text.empty() || watch.alerted || AnySuspended(group.members) || now - watch.since < kWeightsDifferFor)
    return;
  watch.alerted = true;
  group.Alert(
      absl::StrCat("weights versions differ: ", watch.text, "; nothing is moved until they are equal"),
      [](const GroupState& g) { return !g.weights.text.empty(); }, effects);
}

}  // namespace

std::string UnsettledText(const GroupState& group) {
  if (!group.members.FirstUnsettled(group.info.weights_version).has_value()) return {};
  std::vector<RankId> suspended;
  absl::btree_map<uint64_t, std::vector<RankId>> versions;
  for (const MemberRecord& record : group.members.members()) {
    if (!record.counts() || !record.weights_version.has_value()) continue;
    if (record.suspended) suspended.push_back(record.member.rank);
    versions[*record.weights_version].push_back(record.member.rank);
  }
  std::vector<std::string> parts;
  if (!suspended.empty()) {
    parts.push_back(absl::StrCat(Listed(suspended), suspended.size() == 1 ? " is" : " are", " suspended"));
  }
  for (const auto& [version, ranks] : versions) {
    if (versions.size() > 1) parts.push_back(absl::StrCat("version ", version, " on ", Listed(ranks)));
  }
  return absl::StrJoin(parts, "; ");
}

void AlertConflicts(GroupState& group, const std::vector<FingerprintConflict>& conflicts, Effects& effects) {
  for (size_t i = 0; i < std::min(conflicts.size(), kConflictsNamed); ++i) {
    const FingerprintConflict& conflict = conflicts[i];
    group.Alert(absl::StrCat("replicas of expert ", conflict.expert.value(), " of layer ", conflict.layer.value(), " ",
                             Describe(conflict), "; the first is used, and not moved"),
                StaysInConflict(conflict), effects);
  }
  if (conflicts.size() <= kConflictsNamed) return;
  group.Alert(
      absl::StrCat(conflicts.size() - kConflictsNamed, " more replicas disagree with the others of their expert"),
      StaysInConflict(conflicts[kConflictsNamed]), effects);
}

void NoteSuspended(GroupState& group, MemberRecord& member, absl::Time now, Effects& effects) {
  if (std::exchange(member.suspended, true)) return;
  member.released = false;
  if (group.formed) GiveMovesUp(group, now, effects);
}

void AdvanceWeights(GroupState& group, absl::Time now, Effects& effects) {
  if (AnySuspended(group.members)) {
    if (group.formed) GiveMovesUp(group, now, effects);
    if (group.term > 0) Release(group, now, effects);
  }
  TakeCommonWeights(group, effects);
  Watch(group, now, effects);
}

absl::Time NextWeightsLook(const GroupState& group, absl::Time now) {
  absl::Time next = absl::InfiniteFuture();
  if (group.weights.text.empty()) return next;
  // A suspension may last: its end is told, and what differs then is timed from there on.
  if (!group.weights.alerted && !AnySuspended(group.members)) next = group.weights.since + kWeightsDifferFor;
  for (const auto& [id, order] : group.orders.open()) {
    if (order.cancelled && order.readable_until > now) next = std::min(next, order.readable_until);
  }
  return next;
}

}  // namespace evenkeel::controller
