// SPDX-License-Identifier: Apache-2.0
//
// SqliteStore: the store in one SQLite file (write-ahead log beside it), or in memory alone.
//
// The file is locked for this process while open, so two controllers cannot share it by mistake. Opening writes
// once, so that a full or read-only disk stops the start instead of a later rollout.
//
// Owns:      the connection.
// Limits:    Options::num_operations_kept; the oldest go when there are a tenth more. Loads of groups that were counted
//            last a day before any other's go when the store is read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "controller/store.h"

struct sqlite3;

namespace evenkeel::controller {

class SqliteStore : public Store {
 public:
  struct Options {
    std::string path;  // empty: in memory, gone with the process
    int num_operations_kept = 1000;
  };

  static absl::StatusOr<std::unique_ptr<SqliteStore>> Open(const Options& options);
  ~SqliteStore() override;
  SqliteStore(const SqliteStore&) = delete;
  SqliteStore& operator=(const SqliteStore&) = delete;

  absl::StatusOr<uint32_t> LoadTerm() override;
  absl::Status SaveTerm(uint32_t term) override;
  absl::Status SaveOperation(const OperationProgress& operation) override;
  absl::StatusOr<std::vector<OperationProgress>> LoadOperations() override;
  absl::Status SaveLoad(const LoadHistory& load) override;
  absl::StatusOr<std::vector<LoadHistory>> LoadLoads() override;

 private:
  SqliteStore(const Options& options, sqlite3* db);

  absl::Status Prepare();
  absl::Status Execute(const char* sql, absl::string_view doing);
  absl::Status StatusOf(int code, absl::string_view doing) const;
  absl::Status Trim();

  const Options options_;
  sqlite3* const db_;  // closed by the destructor
  int num_saved_since_trim_ = 0;
};

}  // namespace evenkeel::controller
