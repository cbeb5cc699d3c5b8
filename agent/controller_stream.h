// SPDX-License-Identifier: Apache-2.0
//
// ControllerStream: the agent's one stream to its controller, made again with back-off whenever it ends.
//
// Every stream has a number, never used twice, by which its events are told apart. Until a stream ends all that is
// sent goes out in order; load reports and engine states that still wait are merged, so that a slow controller
// gets fewer and larger ones.
//
// Threads:   all calls on the strand, where the listener is called too. gRPC's threads only post to the strand.
// Limits:    kQueueMax messages wait; beyond them, or when one write takes longer than kWriteMax, the stream is
//            ended.
// Order:     opened, received..., ended, for each stream; then the next is tried after the back-off: doubling from
//            backoff_min to backoff_max, each less up to half of it by chance, beginning anew after a message was
//            received.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "grpcpp/channel.h"

#include "algos/base/rng.h"
#include "algos/protocol/messages.h"
#include "runtime/client_credentials.h"
#include "runtime/strand.h"

namespace evenkeel::agent {

class ControllerStream {
 public:
  static constexpr size_t kQueueMax = 4096;
  static constexpr absl::Duration kWriteMax = absl::Seconds(10);

  struct Options {
    std::string controller;  // host:port
    runtime::ClientCredentials credentials;
    GroupInfo group;
    absl::Duration backoff_min = absl::Milliseconds(50);
    absl::Duration backoff_max = absl::Seconds(1);  // until SetBackoffMax
    absl::Duration answer_max = absl::Seconds(30);  // from opening to the first message
    uint64_t seed = 0;                              // of the jitter
  };
  struct Listener {
    std::function<void(uint64_t stream)> opened;
    std::function<void(uint64_t stream, ControllerMessage message)> received;
    std::function<void(uint64_t stream, absl::Status why)> ended;
  };

  // Both outlive it: the strand, and what the listener refers to.
  ControllerStream(runtime::Strand& strand, Options options, Listener listener);
  ~ControllerStream();

  // Opens a stream if one is due, ends one that is stuck or was never answered.
  void Advance(absl::Time now);
  absl::Time NextWakeup() const;

  // From now on; never less than backoff_min.
  void SetBackoffMax(absl::Duration backoff_max);

  // Dropped where no stream is open.
  void Send(AgentMessage message);
  // Ends the stream, if any; the next follows after a back-off.
  void Disconnect(absl::Status why);
  // Ends the stream for good. `done` is called on the strand when gRPC refers to nothing here any more.
  void Shut(std::function<void()> done);

 private:
  class Call;

  void Open() ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void WriteNext(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void OnRead(uint64_t stream, bool ok) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void OnWritten(uint64_t stream, bool ok) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void OnDone(uint64_t stream, absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // Constant after construction.
  runtime::Strand& strand_;
  const Options options_;
  const Listener listener_;
  const std::shared_ptr<grpc::Channel> channel_;

  uint64_t num_streams_ ABSL_GUARDED_BY(strand_) = 0;  // also the number of the newest
  Call* call_ ABSL_GUARDED_BY(strand_) = nullptr;      // deletes itself after it was let go
  bool alive_ ABSL_GUARDED_BY(strand_) = false;        // gRPC still refers to a call
  absl::Status why_ ABSL_GUARDED_BY(strand_);          // given to Disconnect
  bool writing_ ABSL_GUARDED_BY(strand_) = false;
  absl::Time write_began_ ABSL_GUARDED_BY(strand_);
  absl::Time answer_due_ ABSL_GUARDED_BY(strand_);  // InfiniteFuture once something was heard
  std::deque<AgentMessage> queue_ ABSL_GUARDED_BY(strand_);
  absl::Time next_attempt_ ABSL_GUARDED_BY(strand_) = absl::InfinitePast();
  absl::Duration backoff_ ABSL_GUARDED_BY(strand_);
  absl::Duration backoff_max_ ABSL_GUARDED_BY(strand_);
  Rng rng_ ABSL_GUARDED_BY(strand_);
  bool shut_ ABSL_GUARDED_BY(strand_) = false;
  std::function<void()> shut_done_ ABSL_GUARDED_BY(strand_);
};

// Adds `more`, the later one, to `report`.
void MergeReports(const LoadReport& more, LoadReport& report);

}  // namespace evenkeel::agent
