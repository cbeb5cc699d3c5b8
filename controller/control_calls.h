// SPDX-License-Identifier: Apache-2.0
//
// ControlCalls: what all calls of the Control service need: to be answered on the strand, to watch, to tell an
// operation's progress. Its subclasses are the calls.
//
// Threads:   gRPC's enter the calls; everything else is on the strand (annotated).
// Owns:      its share of the watchers' streams. Strand and conductor outlive the calls; these outlive the strand's
//            last task.
// Limits:    Access::watches_max watching calls.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "controller/access/gate.h"
#include "controller/conductor.h"
#include "controller/watch_stream.h"
#include "proto/evenkeel/v1/control.grpc.pb.h"
#include "runtime/strand.h"

namespace evenkeel::controller {

class ControlCalls : public v1::Control::CallbackService {
 public:
  using Unary = grpc::ServerUnaryReactor;
  using Context = grpc::CallbackServerContext;
  using OperationStream = WatchStream<v1::Operation>;

  // Who is told apart by whom, and how many may watch.
  struct Access {
    Gate& gate;
    int watches_max;
  };

  // Ends every watching call, on the strand; new ones are refused.
  void EndWatches(absl::Status why);

  runtime::Strand& strand;
  Conductor& conductor;

 protected:
  ControlCalls(runtime::Strand& the_strand, Conductor& the_conductor, const Access& access)
      : strand(the_strand), conductor(the_conductor), access_(access) {}

  // Who calls: the verified name, the one that the caller gives itself, which nobody has checked, and its address.
  std::string CallerOf(const Context& context) const;

  // Runs `answer` on the strand and finishes the call with its status.
  Unary* Answer(Context* context, std::function<absl::Status()> answer);

  // Answers with the operation that `change` changed on the strand, once the store has it.
  Unary* AnswerKept(Context* context, v1::Operation* response,
                    std::function<absl::StatusOr<OperationProgress>()> change);

  // A watching call: `begin` runs on the strand and may refuse; Forgotten follows on the strand when it is over.
  template <typename Message>
  WatchStream<Message>* Watch(
      std::function<absl::Status(uint64_t, const std::shared_ptr<WatchStream<Message>>&)> begin) {
    const uint64_t call = ++next_call_;
    auto stream = WatchStream<Message>::Create([this, call] {
      (void)strand.PostEssential([this, call] {
        strand.AssertHeld();
        Forgotten(call);
      });
    });
    stream->StartSendInitialMetadata();  // so that the caller knows the call was taken
    const absl::Status posted = strand.Post([this, stream, call, begin = std::move(begin)] {
      strand.AssertHeld();
      absl::Status status = MayWatch();
      if (status.ok()) {
        enders_[call] = [stream](const absl::Status& why) { stream->End(why); };
        status = begin(call, stream);
      }
      if (!status.ok()) stream->End(status);
    });
    if (!posted.ok()) stream->End(posted);
    return stream.get();
  }

  // Starts an operation, on the strand, and tells its progress once the store has it. `start` returns its id.
  OperationStream* Start(std::function<absl::StatusOr<std::string>()> start);

  // Tells `stream` of every change of operations that `wanted` accepts.
  void Follow(uint64_t call, const std::shared_ptr<OperationStream>& stream,
              std::function<bool(const OperationProgress&)> wanted, bool end_when_final)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand);
  // Tells `stream` how the operation is, then of its changes until it ends.
  absl::Status FollowOne(uint64_t call, const std::shared_ptr<OperationStream>& stream, const std::string& id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand);
  static absl::Status NotKept(const std::string& id, const absl::Status& why);

  // The call is over.
  virtual void Forgotten(uint64_t call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand);

 private:
  absl::Status MayWatch() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand);

  const Access access_;
  std::atomic<uint64_t> next_call_ = 0;
  // Of the watching calls, by call.
  absl::btree_map<uint64_t, std::function<void(const absl::Status&)>> enders_ ABSL_GUARDED_BY(strand);
  absl::btree_map<uint64_t, Conductor::WatcherId> watches_ ABSL_GUARDED_BY(strand);
  absl::Status ended_ ABSL_GUARDED_BY(strand);  // why new ones are refused; OK: they are not
};

}  // namespace evenkeel::controller
