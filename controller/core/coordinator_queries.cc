// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "controller/core/coordinator_state.h"
#include "controller/core/group_report.h"
#include "controller/core/pins.h"
#include "controller/core/planning/map_diff.h"
#include "controller/core/ranks/rank_changes.h"
#include "controller/core/ranks/rank_requests.h"

namespace evenkeel::controller {

absl::StatusOr<const Group*> Coordinator::State::FindGroup(std::string_view group) const {
  const auto found = groups.find(group);
  if (found != groups.end()) return found->second.get();
  return absl::NotFoundError(
      absl::StrCat("unknown group ", std::string(group), "; known: [",
                   absl::StrJoin(groups, ", ", [](std::string* out, const auto& entry) { *out += entry.first; }), "]"));
}

bool Coordinator::listening() const {
  return state_->phase == State::Phase::kNew || state_->phase == State::Phase::kListening;
}
bool Coordinator::stepped_down() const { return state_->phase == State::Phase::kSteppedDown; }
uint32_t Coordinator::term() const { return state_->term; }

std::vector<std::string> Coordinator::ListGroups() const {
  std::vector<std::string> names;
  for (const auto& [name, group] : state_->groups) names.push_back(name);
  return names;
}

absl::StatusOr<GroupStatus> Coordinator::GetGroup(std::string_view group, absl::Time now, GroupDetail detail) const {
  const auto found = state_->FindGroup(group);
  if (!found.ok()) return found.status();
  return ReportGroup((*found)->state(), now, detail);
}

absl::StatusOr<GroupStats> Coordinator::GetStats(std::string_view group, const StatsQuery& query,
                                                 absl::Time now) const {
  const auto found = state_->FindGroup(group);
  if (!found.ok()) return found.status();
  return ReportStats((*found)->state(), query, now);
}

absl::StatusOr<GroupMaps> Coordinator::GetMaps(std::string_view group, std::span<const LayerId> layers) const {
  const auto found = state_->FindGroup(group);
  if (!found.ok()) return found.status();
  return ReportMaps((*found)->state(), layers);
}

absl::StatusOr<RedundancyReport> Coordinator::CheckRedundancy(std::string_view group) const {
  const auto found = state_->FindGroup(group);
  if (!found.ok()) return found.status();
  return ReportRedundancy((*found)->state());
}

absl::StatusOr<MembershipStatus> Coordinator::GetMembership(std::string_view group, absl::Time now) const {
  const auto found = state_->FindGroup(group);
  if (!found.ok()) return found.status();
  return ReportMembership((*found)->state(), now);
}

absl::StatusOr<MapDiff> Coordinator::Diff(std::string_view group, const NamedPlacements& wanted) const {
  const auto found = state_->FindGroup(group);
  if (!found.ok()) return found.status();
  return DiffOf((*found)->state(), wanted);
}

absl::StatusOr<NamedPlacements> Coordinator::PlacementsOf(std::string_view group, const RollbackTarget& target) const {
  const auto found = state_->FindGroup(group);
  if (!found.ok()) return found.status();
  return controller::PlacementsOf((*found)->state(), target);
}

absl::Status Coordinator::CheckPin(const PinRequested& request) const {
  const auto found = state_->FindGroup(request.group);
  return found.ok() ? controller::CheckPin((*found)->state(), request) : found.status();
}

absl::Status Coordinator::CheckAdmit(const AdmitRequested& request) const {
  const auto found = state_->FindGroup(request.group);
  return found.ok() ? controller::CheckAdmit((*found)->state(), request) : found.status();
}

absl::Status Coordinator::CheckDrain(const DrainRequested& request) const {
  const auto found = state_->FindGroup(request.group);
  return found.ok() ? controller::CheckDrain((*found)->state(), request) : found.status();
}

std::vector<OperationProgress> Coordinator::ListOperations(std::string_view group) const {
  return state_->operations.List(group);
}

absl::StatusOr<OperationProgress> Coordinator::GetOperation(std::string_view operation_id) const {
  const OperationProgress* operation = state_->operations.Find(operation_id);
  if (operation == nullptr) return absl::NotFoundError(absl::StrCat("unknown operation ", std::string(operation_id)));
  return *operation;
}

}  // namespace evenkeel::controller
