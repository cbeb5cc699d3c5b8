// SPDX-License-Identifier: Apache-2.0
//
// WatchStream: one server-streaming call whose messages each replace the waiting one of the same key, so that a
// slow reader gets the newest state of everything and never an old one late.
//
// Threads:   Push and End from any. `on_done` is called on a gRPC thread, after the last use of the call.
// Owns:      itself until the call is over; others hold it by shared_ptr and may outlive the call: then nothing
//            happens any more.
// Limits:    kKeysMax keys waiting; then the call ends with RESOURCE_EXHAUSTED.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

#include "controller/grpc_status.h"

namespace evenkeel::controller {

template <typename Message>
class WatchStream : public grpc::ServerWriteReactor<Message> {
 public:
  static constexpr size_t kKeysMax = 20000;

  static std::shared_ptr<WatchStream> Create(std::function<void()> on_done) {
    auto stream = std::make_shared<WatchStream>();
    stream->on_done_ = std::move(on_done);
    stream->self_ = stream;
    return stream;
  }

  void Push(const std::string& key, Message message) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      if (end_.has_value()) return;
      const auto waiting = waiting_.find(key);
      if (waiting != waiting_.end()) {
        waiting->second = std::move(message);
      } else if (waiting_.size() >= kKeysMax) {
        end_ = absl::ResourceExhaustedError("the caller does not read");
      } else {
        waiting_.emplace(key, std::move(message));
        order_.push_back(key);
      }
    }
    Go();
  }

  // After what waits.
  void End(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      if (!end_.has_value()) end_ = std::move(status);
    }
    Go();
  }

  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      if (!ok) {
        Drop();
        if (!end_.has_value()) end_ = absl::CancelledError("the caller left");
      }
    }
    Go();
  }

  void OnCancel() override {
    {
      absl::MutexLock lock(&mutex_);
      Drop();
      if (!end_.has_value()) end_ = absl::CancelledError("the caller left");
    }
    Go();
  }

  void OnDone() override {
    on_done_();
    self_.reset();  // may delete this
  }

 private:
  void Drop() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    waiting_.clear();
    order_.clear();
  }

  // Starts the next write, or finishes where nothing is left to write.
  void Go() ABSL_LOCKS_EXCLUDED(mutex_) {
    bool finish = false;
    grpc::Status status;
    {
      absl::MutexLock lock(&mutex_);
      if (writing_ || finished_) return;
      if (!waiting_.empty()) {
        writing_ = true;
        const auto next = waiting_.find(order_.front());
        message_ = std::move(next->second);
        waiting_.erase(next);
        order_.pop_front();
      } else if (end_.has_value()) {
        finished_ = finish = true;
        status = ToGrpc(*end_);
      } else {
        return;
      }
    }
    // While writing_ holds, nobody else finishes; after finished_, nobody starts anything.
    if (finish) {
      this->Finish(status);
    } else {
      this->StartWrite(&message_);
    }
  }

  std::function<void()> on_done_;
  std::shared_ptr<WatchStream> self_;

  // Belongs to the write under way.
  Message message_;

  absl::Mutex mutex_;
  // By key, and the keys in the order of their first messages.
  absl::btree_map<std::string, Message> waiting_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::string> order_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace evenkeel::controller
