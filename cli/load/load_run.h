// SPDX-License-Identifier: Apache-2.0
//
// LoadRun: many requests to the ranks of a group, some at a time, each re-sent once to another rank where it failed.
//
// Threads:   RunLoad waits in the caller's thread for its own, `options.concurrency` of them.
// Limits:    every attempt ends by `options.timeout`.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "nlohmann/json_fwd.hpp"

#include "cli/load/prompts.h"
#include "cli/load/ranks.h"

namespace evenkeel::cli {

struct LoadOptions {
  int concurrency = 10;
  int num_requests = 100;
  absl::Duration timeout = absl::Seconds(300);  // of one attempt
  bool retry = true;
};

struct Attempt {
  int rank = -1;      // -1: no rank took requests
  int status = 0;     // of HTTP; 0: no answer
  std::string error;  // empty: it was answered
  double seconds = 0;
};

struct LoadRecord {
  int request = 0;                // from 0, in the order sent; asks for prompt number `request` modulo their number
  std::vector<Attempt> attempts;  // one or two
  std::string text;               // the answer
  bool ok() const { return !attempts.empty() && attempts.back().error.empty(); }
};

struct LoadTotals {
  int num_requests = 0;
  int num_ok = 0;
  int num_ok_at_once = 0;  // without being re-sent
  int num_failed = 0;
  double seconds = 0;                                                                           // of the run
  double mean_seconds = 0, min_seconds = 0, max_seconds = 0, p50_seconds = 0, p99_seconds = 0;  // of those answered
  std::map<int, int> ok_of_rank;                                                                // by who answered
};

struct LoadParts {
  const std::vector<Prompt>* prompts = nullptr;
  const RankUrls* urls = nullptr;
  Ranks* ranks = nullptr;
  std::function<void(const LoadRecord&)> on_done;  // one at a time; may be empty
};

// Records by request.
std::vector<LoadRecord> RunLoad(const LoadOptions& options, const LoadParts& parts);

LoadTotals TotalsOf(const std::vector<LoadRecord>& records, double seconds);

// {"totals": {...}, "requests": [...]}
nlohmann::ordered_json ToJson(const LoadTotals& totals, const std::vector<LoadRecord>& records);

}  // namespace evenkeel::cli
