// SPDX-License-Identifier: Apache-2.0
//
// Store: what a controller keeps beyond its life: the term, operations, and the load of late. Slots and maps are not here: the
// agents' inventories are the truth about them.
//
// Threads:   one at a time: at the start the caller's, then the StoreWriter's.
// Errors:    kUnavailable another process holds the store; kResourceExhausted the disk is full;
//            kPermissionDenied it is read-only; kDataLoss it is damaged; kFailedPrecondition it was written by
//            a newer version. Messages name the store.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "controller/core/event.h"

namespace evenkeel::controller {

class Store {
 public:
  virtual ~Store() = default;

  // 0 if none was saved.
  virtual absl::StatusOr<uint32_t> LoadTerm() = 0;

  // Durable on return: it survives the machine. A lower term than the saved one changes nothing.
  virtual absl::Status SaveTerm(uint32_t term) = 0;

  // Replaces the operation of this id. Survives the process; the newest may be lost with the machine.
  virtual absl::Status SaveOperation(const OperationProgress& operation) = 0;

  // Newest first by the time of their last change, as many as the store keeps.
  virtual absl::StatusOr<std::vector<OperationProgress>> LoadOperations() = 0;

  // Adds windows to what is kept of their group, and lets those go that are `kept_for` older than the newest. Survives
  // the process; the newest may be lost with the machine.
  virtual absl::Status SaveLoad(const LoadHistory& load) = 0;

  // By group and time; what cannot be read is left out.
  virtual absl::StatusOr<std::vector<LoadHistory>> LoadLoads() = 0;
};

}  // namespace evenkeel::controller
