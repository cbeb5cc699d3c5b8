// SPDX-License-Identifier: Apache-2.0
//
// Operations: the record of everything the controller did or decided not to do.
//
// Threads:   none. Owned by Coordinator, shared by its groups.
// Limits:    `num_kept`; the oldest finished ones go first, running ones never. Of these, the decisions about
//            kDecisionsMax layers; those of the oldest operations go first.
// Order:     listings are newest first.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/time/time.h"

#include "controller/core/event.h"

namespace evenkeel::controller {

bool IsFinished(OperationState state);

class Operations {
 public:
  static constexpr size_t kDecisionsMax = 65536;

  explicit Operations(int num_kept) : num_kept_(num_kept) {}

  // Takes over what an earlier controller stored. Emits nothing.
  void Restore(OperationProgress operation);

  // A new operation; persisted. Requires: its id is unknown.
  void Begin(OperationProgress operation, absl::Time now, Effects& effects);

  // Changes an operation and persists it if that changed anything. Unknown ids are ignored.
  void Update(std::string_view id, absl::Time now, const std::function<void(OperationProgress&)>& change,
              Effects& effects);
  void Close(std::string_view id, OperationState state, std::string detail, absl::Time now, Effects& effects);

  // Null if unknown. Valid until the next change.
  const OperationProgress* Find(std::string_view id) const;
  // Empty `group`: of all.
  std::vector<OperationProgress> List(std::string_view group) const;

 private:
  void Trim();
  void TrimDecisions();

  const int num_kept_;
  uint64_t num_begun_ = 0;
  absl::btree_map<uint64_t, OperationProgress> by_age_;
  absl::btree_map<std::string, uint64_t, std::less<>> age_of_;
};

}  // namespace evenkeel::controller
