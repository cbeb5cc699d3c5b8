// SPDX-License-Identifier: Apache-2.0
//
// FastDeploy: the three routes that FastDeploy's users call, answered from a group's real state.
//
// Fields, actions, codes and errors are those of its PR 4782. What differs: one controller answers for all ranks, so
// the lists "per TP rank" have one entry; the group's load is counted here, so `ips` are taken but nobody there is
// asked; experts go live as they arrive, so LOAD_SUCC never comes; an unknown action of /check_redundant and a
// rearrangement that failed are said to be what they are, where the original answered 200 or FREE without a word.
//
// Threads:   any.
// Errors:    as replies; what the controller refuses has its message in `msg`.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"

#include "controller/config.h"

namespace evenkeel::controller {

class FastDeploy {
 public:
  // Of the joined `ips`.
  static constexpr size_t kIpsBytesMax = 1024;
  // So long the status stays DONE.
  static constexpr int64_t kDoneSeconds = 30;

  struct Reply {
    int http_status = 200;
    std::string body;  // JSON
  };
  // Calls a method of Control with the JSON of its request; of a stream gives the first message.
  using Control = std::function<absl::StatusOr<std::string>(const std::string& method, const std::string& json)>;

  FastDeploy(FastDeploySettings settings, Control control);

  Reply RearrangeExperts(const std::string& body);
  Reply TokensStats(const std::string& body);
  Reply CheckRedundant(const std::string& body);

 private:
  const FastDeploySettings settings_;
  const Control control_;
  std::atomic<int64_t> cleared_unix_us_ = 0;  // load counted before is left out
};

}  // namespace evenkeel::controller
