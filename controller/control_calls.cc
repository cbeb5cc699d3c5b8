// SPDX-License-Identifier: Apache-2.0
#include "controller/control_calls.h"

#include "algos/base/status_macros.h"
#include "controller/convert_operation.h"
#include "controller/grpc_status.h"

namespace evenkeel::controller {

ControlCalls::Unary* ControlCalls::Answer(Context* context, std::function<absl::Status()> answer) {
  Unary* reactor = context->DefaultReactor();
  const absl::Status posted = strand.Post([this, reactor, answer = std::move(answer)] {
    strand.AssertHeld();
    reactor->Finish(ToGrpc(answer()));
  });
  if (!posted.ok()) reactor->Finish(ToGrpc(posted));
  return reactor;
}

absl::Status ControlCalls::MayWatch() const {
  if (!ended_.ok() || enders_.size() < static_cast<size_t>(kWatchersMax)) return ended_;
  return absl::ResourceExhaustedError(absl::StrCat("already ", kWatchersMax, " calls are watching"));
}

void ControlCalls::Forgotten(uint64_t call) {
  conductor.AssertHeld();
  enders_.erase(call);
  if (const auto watch = watches_.find(call); watch != watches_.end()) {
    conductor.Unwatch(watch->second);
    watches_.erase(watch);
  }
}

void ControlCalls::Follow(uint64_t call, const std::shared_ptr<OperationStream>& stream,
                          std::function<bool(const OperationProgress&)> wanted, bool end_when_final) {
  conductor.AssertHeld();
  watches_[call] = conductor.Watch([stream, wanted = std::move(wanted), end_when_final](const OperationProgress& o) {
    if (!wanted(o)) return;
    v1::Operation message;
    const bool ends = end_when_final && IsFinal(o.state);
    ToProto(o, ends ? Decisions::kIncluded : Decisions::kLeftOut, &message);
    stream->Push(o.id, std::move(message));
    if (ends) stream->End(absl::OkStatus());
  });
}

absl::Status ControlCalls::FollowOne(uint64_t call, const std::shared_ptr<OperationStream>& stream,
                                     const std::string& id) {
  conductor.AssertHeld();
  EVENKEEL_ASSIGN_OR_RETURN(const OperationProgress now, conductor.coordinator().GetOperation(id));
  Follow(
      call, stream, [id](const OperationProgress& o) { return o.id == id; }, /*end_when_final=*/true);
  v1::Operation message;
  ToProto(now, IsFinal(now.state) ? Decisions::kIncluded : Decisions::kLeftOut, &message);
  stream->Push(id, std::move(message));
  if (IsFinal(now.state)) stream->End(absl::OkStatus());
  return absl::OkStatus();
}

absl::Status ControlCalls::NotKept(const std::string& id, const absl::Status& why) {
  return absl::Status(why.code(), absl::StrCat("operation ", id, " is under way but not stored: ", why.message(),
                                               "; ask again with the same id"));
}

ControlCalls::OperationStream* ControlCalls::Start(std::function<absl::StatusOr<std::string>()> start) {
  return Watch<v1::Operation>([this, start = std::move(start)](uint64_t call, const auto& stream) -> absl::Status {
    strand.AssertHeld();
    conductor.AssertHeld();
    EVENKEEL_ASSIGN_OR_RETURN(const std::string id, start());
    conductor.WhenKept(id, [this, call, stream, id](const absl::Status& kept) {
      strand.AssertHeld();
      if (!enders_.contains(call)) return;  // the caller left
      const absl::Status told = kept.ok() ? FollowOne(call, stream, id) : NotKept(id, kept);
      if (!told.ok()) stream->End(told);
    });
    return absl::OkStatus();
  });
}

void ControlCalls::EndWatches(absl::Status why) {
  (void)strand.PostEssential([this, why = std::move(why)] {
    strand.AssertHeld();
    ended_ = why;
    for (const auto& [call, end] : enders_) end(why);
  });
}

}  // namespace evenkeel::controller
