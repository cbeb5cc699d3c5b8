// SPDX-License-Identifier: Apache-2.0
//
// RequestServer: lets programs ask the engine for text over HTTP.
//
//   POST /v1/completions {"prompt": "def f(", "max_tokens": 32}  ->  {"text": ..., "rank": 3, "incarnation": "..."}
//   GET  /healthz                                                ->  200 while requests are taken, else 503
//
// A token is a byte. Bytes of the text that are no UTF-8 come as U+FFFD. Errors are {"error": ...} with 400 (what was
// sent is wrong), 429 (too many wait), 503 (none are taken now) or 504 (not done in time).
//
// Threads:   its own.
// Limits:    kThreads connections at a time, kBodyBytesMax bytes of a request, kDeadline for an answer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "engine/reference/requests.h"

namespace evenkeel::engine {

class RequestServer {
 public:
  static constexpr int kThreads = 32;
  static constexpr size_t kBodyBytesMax = 64 << 10;
  static constexpr absl::Duration kDeadline = absl::Seconds(300);

  struct Options {
    std::string host = "127.0.0.1";
    int port = 0;  // 0: any free one
    int rank = 0;
    uint64_t incarnation = 0;
  };

  // Borrows `requests`. kUnavailable where the port cannot be had.
  static absl::StatusOr<std::unique_ptr<RequestServer>> Start(const Options& options, Requests& requests);
  // Requests under way are to have ended before: see Requests::Close.
  ~RequestServer();

  // "http://127.0.0.1:PORT"
  const std::string& url() const { return url_; }

 private:
  struct Server;
  RequestServer(std::unique_ptr<Server> server, std::string url);

  const std::unique_ptr<Server> server_;
  const std::string url_;
};

}  // namespace evenkeel::engine
