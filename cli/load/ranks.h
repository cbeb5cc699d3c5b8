// SPDX-License-Identifier: Apache-2.0
//
// Ranks: where each rank of a group takes requests, and which of them may be sent any now.
//
// Threads:   any.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace evenkeel::cli {

// URLs by rank, as people write them:
//   http://HOST:PORT                    of rank 0
//   http://HOST:{8100+rank}             a port, or part of a name, counted on by rank; {rank} alone counts from 0
//   0=http://HOST:PORT,3=http://...     of these ranks
//   @FILE                               a JSON object {"0": "http://...", ...}; read again whenever a rank is looked for
class RankUrls {
 public:
  // kInvalidArgument naming the part that is wrong; kNotFound for a file that is not there.
  static absl::StatusOr<RankUrls> Parse(const std::string& text);

  // kNotFound where none is known of `rank`.
  absl::StatusOr<std::string> Of(int rank) const;
  // Whose URLs are listed; empty where a pattern gives one to every rank.
  absl::StatusOr<std::set<int>> Listed() const;

 private:
  absl::StatusOr<std::map<int, std::string>> List() const;

  std::string file_;
  std::string before_, after_;  // of a pattern
  int64_t first_ = 0;
  bool pattern_ = false;
  std::map<int, std::string> list_;
};

// Which ranks take requests, in turns.
class Ranks {
 public:
  // Replaces what was known.
  void Set(std::set<int> serving);
  std::set<int> serving() const;
  // The next one in turn, if possible another than `but`; none where no rank serves.
  std::optional<int> Next(std::optional<int> but);
  // The same, waiting until `deadline` while no rank serves.
  std::optional<int> Await(std::optional<int> but, absl::Time deadline);

 private:
  std::optional<int> Take(std::optional<int> but) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  std::set<int> serving_ ABSL_GUARDED_BY(mutex_);
  int last_ ABSL_GUARDED_BY(mutex_) = -1;
};

}  // namespace evenkeel::cli
