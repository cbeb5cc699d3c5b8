// SPDX-License-Identifier: Apache-2.0
//
// Coordinator: the controller as a state machine. It hears agents and operators, and has maps published,
// weights moved and operations kept, so that no slot is ever written while a map in use names it
// (docs/protocol.md).
//
// It begins by listening for `listen_interval`, then takes a term above every one it heard and welcomes the
// agents; a group publishes its first view and maps once all ranks of its world have attached under that
// term. After StepDown it does nothing more. The same settings and events give the same effects.
//
// Threads:   none. Owned by the controller's strand (or the simulator).
// Limits:    CoordinatorSettings::num_groups_max groups, num_operations_kept operations (oldest finished ones
// go). Order:     Requires `now` not before any earlier one. Effects are carried out in the order given.
// Errors:    queries return kNotFound naming what is unknown.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "controller/core/event.h"
#include "controller/core/planning/map_diff.h"
#include "controller/core/ranks/rank_status.h"
#include "controller/core/status.h"

namespace evenkeel::controller {

class Coordinator {
 public:
  explicit Coordinator(CoordinatorSettings settings);
  ~Coordinator();
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  Effects Step(absl::Time now, const Event& event);

  // When a Tick is due; InfiniteFuture if nothing waits for time alone. Changes with every Step.
  absl::Time NextWakeup() const;

  bool listening() const;     // no term yet
  bool stepped_down() const;  // a higher term was heard
  uint32_t term() const;      // 0 while listening

  std::vector<std::string> ListGroups() const;
  absl::StatusOr<GroupStatus> GetGroup(std::string_view group, absl::Time now,
                                       GroupDetail detail = GroupDetail::kAll) const;
  absl::StatusOr<GroupStats> GetStats(std::string_view group, const StatsQuery& query, absl::Time now) const;
  // Empty `layers`: all.
  absl::StatusOr<GroupMaps> GetMaps(std::string_view group, std::span<const LayerId> layers = {}) const;
  absl::StatusOr<RedundancyReport> CheckRedundancy(std::string_view group) const;
  absl::StatusOr<MembershipStatus> GetMembership(std::string_view group, absl::Time now) const;
  // What `wanted` would move; and what a rollback would put the group on (map_diff.h).
  absl::StatusOr<MapDiff> Diff(std::string_view group, const NamedPlacements& wanted) const;
  absl::StatusOr<NamedPlacements> PlacementsOf(std::string_view group, const RollbackTarget& target) const;
  absl::Status CheckPin(const PinRequested& request) const;
  // Whether the request would be begun now, and why not (rank_requests.h).
  absl::Status CheckAdmit(const AdmitRequested& request) const;
  absl::Status CheckDrain(const DrainRequested& request) const;

  // Newest first. Empty `group`: of all groups.
  std::vector<OperationProgress> ListOperations(std::string_view group = {}) const;
  absl::StatusOr<OperationProgress> GetOperation(std::string_view operation_id) const;

 private:
  struct State;

  std::unique_ptr<State> state_;
};

}  // namespace evenkeel::controller
