// SPDX-License-Identifier: Apache-2.0
#include "controller/core/operations.h"

#include <utility>

#include "algos/base/check.h"

namespace evenkeel::controller {

bool IsFinished(OperationState state) {
  return state != OperationState::kPlanning && state != OperationState::kRunning;
}

void Operations::Restore(OperationProgress operation) {
  if (age_of_.contains(operation.id)) return;
  age_of_.emplace(operation.id, num_begun_);
  by_age_.emplace(num_begun_++, std::move(operation));
  Trim();
}

void Operations::Begin(OperationProgress operation, absl::Time now, Effects& effects) {
  EVENKEEL_CHECK(!age_of_.contains(operation.id));
  operation.started = operation.changed = now;
  effects.push_back(PersistOperation{operation});
  Restore(std::move(operation));
  TrimDecisions();
}

void Operations::Update(std::string_view id, absl::Time now, const std::function<void(OperationProgress&)>& change,
                        Effects& effects) {
  const auto found = age_of_.find(id);
  if (found == age_of_.end()) return;
  OperationProgress& operation = by_age_.at(found->second);
  const OperationProgress before = operation;
  change(operation);
  if (operation == before) return;
  operation.changed = now;
  effects.push_back(PersistOperation{operation});
  Trim();
}

void Operations::Close(std::string_view id, OperationState state, std::string detail, absl::Time now,
                       Effects& effects) {
  Update(
      id, now,
      [&](OperationProgress& operation) {
        operation.state = state;
        operation.detail = std::move(detail);
      },
      effects);
}

const OperationProgress* Operations::Find(std::string_view id) const {
  const auto found = age_of_.find(id);
  return found == age_of_.end() ? nullptr : &by_age_.at(found->second);
}

std::vector<OperationProgress> Operations::List(std::string_view group) const {
  std::vector<OperationProgress> list;
  for (auto operation = by_age_.rbegin(); operation != by_age_.rend(); ++operation) {
    if (group.empty() || operation->second.group == group) list.push_back(operation->second);
  }
  return list;
}

void Operations::TrimDecisions() {
  size_t kept = 0;
  for (auto operation = by_age_.rbegin(); operation != by_age_.rend(); ++operation) {
    LayerDecisions& decisions = operation->second.decisions;
    if (decisions == nullptr) continue;
    kept += decisions->size();
    if (kept > kDecisionsMax) decisions = nullptr;
  }
}

void Operations::Trim() {
  auto oldest = by_age_.begin();
  while (by_age_.size() > static_cast<size_t>(num_kept_) && oldest != by_age_.end()) {
    if (!IsFinished(oldest->second.state)) {
      ++oldest;
      continue;
    }
    age_of_.erase(oldest->second.id);
    oldest = by_age_.erase(oldest);
  }
}

}  // namespace evenkeel::controller
