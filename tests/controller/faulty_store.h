// SPDX-License-Identifier: Apache-2.0
//
// FaultyStore: a store that fails or stalls on order, around another; and one in memory to put it around.
//
// Threads:   any.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "controller/store.h"

namespace evenkeel::controller {

class MemoryStore : public Store {
 public:
  absl::StatusOr<uint32_t> LoadTerm() override { return term; }
  absl::Status SaveTerm(uint32_t new_term) override {
    term = std::max(term, new_term);
    return absl::OkStatus();
  }
  absl::Status SaveOperation(const OperationProgress& operation) override {
    std::erase_if(operations, [&](const OperationProgress& known) { return known.id == operation.id; });
    operations.insert(operations.begin(), operation);
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<OperationProgress>> LoadOperations() override { return operations; }

  absl::Status SaveLoad(const LoadHistory& load) override {
    loads.push_back(load);
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<LoadHistory>> LoadLoads() override { return loads; }

  uint32_t term = 7;
  std::vector<OperationProgress> operations;  // newest first
  std::vector<LoadHistory> loads;             // oldest first
};

class FaultyStore : public Store {
 public:
  explicit FaultyStore(Store& inner) : inner_(inner) {}

  absl::StatusOr<uint32_t> LoadTerm() override {
    absl::MutexLock lock(&mutex_);
    return inner_.LoadTerm();
  }
  absl::Status SaveTerm(uint32_t term) override {
    absl::MutexLock lock(&mutex_, absl::Condition(this, &FaultyStore::flowing));
    return term_fault_.ok() ? inner_.SaveTerm(term) : term_fault_;
  }
  absl::Status SaveOperation(const OperationProgress& operation) override {
    absl::MutexLock lock(&mutex_, absl::Condition(this, &FaultyStore::flowing));
    return operation_fault_.ok() ? inner_.SaveOperation(operation) : operation_fault_;
  }
  absl::StatusOr<std::vector<OperationProgress>> LoadOperations() override {
    absl::MutexLock lock(&mutex_);
    return inner_.LoadOperations();
  }

  absl::Status SaveLoad(const LoadHistory& load) override {
    absl::MutexLock lock(&mutex_, absl::Condition(this, &FaultyStore::flowing));
    return operation_fault_.ok() ? inner_.SaveLoad(load) : operation_fault_;
  }
  absl::StatusOr<std::vector<LoadHistory>> LoadLoads() override {
    absl::MutexLock lock(&mutex_);
    return inner_.LoadLoads();
  }

  void Stall(bool stalled) {
    absl::MutexLock lock(&mutex_);
    stalled_ = stalled;
  }
  void FailTerms(absl::Status fault) {
    absl::MutexLock lock(&mutex_);
    term_fault_ = std::move(fault);
  }
  void FailOperations(absl::Status fault) {
    absl::MutexLock lock(&mutex_);
    operation_fault_ = std::move(fault);
  }
  bool Has(const std::string& id, OperationState state) {
    absl::MutexLock lock(&mutex_);
    const auto operations = inner_.LoadOperations();
    return operations.ok() && std::ranges::any_of(*operations, [&](const OperationProgress& operation) {
             return operation.id == id && operation.state == state;
           });
  }

 private:
  bool flowing() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !stalled_; }

  absl::Mutex mutex_;
  Store& inner_;
  bool stalled_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status term_fault_ ABSL_GUARDED_BY(mutex_);
  absl::Status operation_fault_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace evenkeel::controller
