// SPDX-License-Identifier: Apache-2.0
//
// FakeController: a real gRPC server on a free port that keeps what agents say and says what the test wants.
//
// Threads:   the test's; gRPC's threads only append to what was heard. One stream at a time is spoken to: the newest.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/server.h"

#include "algos/protocol/messages.h"

namespace evenkeel::agent {

class FakeController {
 public:
  // Listens on `port`; 0: a free one.
  explicit FakeController(int port = 0);
  ~FakeController();

  int port() const { return port_; }
  std::string address() const;

  // The next message of that type that fits, among those not looked at yet; waits for it.
  template <typename Message>
  std::optional<Message> Await(
      std::function<bool(const Message&)> fits = [](const Message&) { return true; },
      absl::Duration at_most = absl::Seconds(20)) {
    std::optional<Message> found;
    absl::MutexLock lock(&mutex_);
    const auto arrived = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      for (; !found && looked_at_ < heard_.size(); ++looked_at_) {
        const auto* message = std::get_if<Message>(&heard_[looked_at_]);
        if (message == nullptr || !fits(*message)) continue;
        found = *message;
      }
      return found.has_value();
    };
    mutex_.AwaitWithTimeout(absl::Condition(&arrived), at_most);
    return found;
  }
  // Looks at all that was heard again.
  void Rewind();
  int num_streams() const;

  // To the newest stream; false if there is none.
  bool Say(const ControllerMessage& message);
  // Ends all streams, and the server.
  void Stop();

 private:
  class Service;

  mutable absl::Mutex mutex_;
  std::vector<AgentMessage> heard_ ABSL_GUARDED_BY(mutex_);
  size_t looked_at_ ABSL_GUARDED_BY(mutex_) = 0;
  int num_streams_ ABSL_GUARDED_BY(mutex_) = 0;
  std::function<bool(const ControllerMessage&)> say_ ABSL_GUARDED_BY(mutex_);
  int port_ = 0;
  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace evenkeel::agent
