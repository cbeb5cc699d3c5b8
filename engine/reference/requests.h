// SPDX-License-Identifier: Apache-2.0
//
// Requests: what people ask the engine to write, on its way from the HTTP server's threads to the serving lanes.
//
// Threads:   any.
// Limits:    `capacity` requests wait; more are refused. Nobody waits longer than the deadline that is given.
// Errors:    kResourceExhausted: too many wait; kUnavailable: the engine takes none now, and why; kDeadlineExceeded;
//            kInvalidArgument: longer than the engine's sequences.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace evenkeel::engine {

// One request, shared by who asked and the lane that writes; a lane may drop it when `gone`.
class Request {
 public:
  Request(std::string prompt, int num_bytes) : prompt_(std::move(prompt)), num_bytes_(num_bytes) {}

  const std::string& prompt() const { return prompt_; }
  int num_bytes() const { return num_bytes_; }  // to be written after it

  // By the lane, once.
  void Finish(absl::StatusOr<std::string> text);
  // Nobody waits for it any more.
  bool gone() const;

  absl::StatusOr<std::string> Wait(absl::Time deadline);

 private:
  const std::string prompt_;
  const int num_bytes_;
  mutable absl::Mutex mutex_;
  std::optional<absl::StatusOr<std::string>> result_ ABSL_GUARDED_BY(mutex_);
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
};

class Requests {
 public:
  // A prompt and what is written after it may have num_bytes_max bytes together.
  Requests(int capacity, int num_bytes_max) : capacity_(capacity), num_bytes_max_(num_bytes_max) {}

  // What the model writes after `prompt`, num_bytes bytes of it; waits for it until `deadline`.
  absl::StatusOr<std::string> Generate(absl::string_view prompt, int num_bytes, absl::Time deadline);

  // The next one, or null. For lanes.
  std::shared_ptr<Request> Take();
  // Waits until there is one to take, the requests are closed, or `timeout` is over.
  void Await(absl::Duration timeout);

  // From now on, requests are refused with `why`, those that wait too; empty: they are taken again.
  void Close(const std::string& why);
  // Why requests are refused; empty: they are taken.
  std::string closed() const;

 private:
  const int capacity_;
  const int num_bytes_max_;
  mutable absl::Mutex mutex_;
  std::deque<std::shared_ptr<Request>> waiting_ ABSL_GUARDED_BY(mutex_);
  std::string closed_ ABSL_GUARDED_BY(mutex_);  // why; empty: open
};

}  // namespace evenkeel::engine
