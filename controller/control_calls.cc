// SPDX-License-Identifier: Apache-2.0
#include "controller/control_calls.h"

#include <algorithm>
#include <utility>

#include "algos/base/status_macros.h"
#include "controller/access/grpc_caller.h"
#include "controller/convert_operation.h"
#include "controller/grpc_status.h"

namespace evenkeel::controller {

namespace {

constexpr size_t kCallerBytesMax = 128;

// Empty where it is not given; what is not printable becomes '?'.
std::string Metadata(const grpc::CallbackServerContext& context, const char* name) {
  const auto found = context.client_metadata().find(name);
  if (found == context.client_metadata().end()) return {};
  std::string text(found->second.data(), std::min(found->second.size(), kCallerBytesMax));
  for (char& c : text) {
    if (c < 0x20 || c >= 0x7F) c = '?';
  }
  return text;
}

}  // namespace

std::string ControlCalls::CallerOf(const Context& context) const {
  std::string address = context.peer();
  const std::string said = Metadata(context, "evenkeel-user");
  std::string verified;
  // Calls by HTTP come from within, and bring along who their own peer is.
  if (access_.gate.IsPass(controller::MetadataOf(context, "evenkeel-pass"))) {
    address = absl::StrCat("http:", Metadata(context, "evenkeel-peer"));
    verified = Metadata(context, "evenkeel-caller");
  } else {
    verified = access_.gate.NameOf(CredentialsOf(context));
  }
  const std::string name = verified.empty() || said.empty() || said == verified
                               ? absl::StrCat(verified, verified.empty() ? said : "")
                               : absl::StrCat(verified, " as ", said);
  return name.empty() ? address : absl::StrCat(name, " (", address, ")");
}

ControlCalls::Unary* ControlCalls::Answer(Context* context, std::function<absl::Status()> answer) {
  Unary* reactor = context->DefaultReactor();
  const absl::Status posted = strand.Post([this, reactor, answer = std::move(answer)] {
    strand.AssertHeld();
    reactor->Finish(ToGrpc(answer()));
  });
  if (!posted.ok()) reactor->Finish(ToGrpc(posted));
  return reactor;
}

ControlCalls::Unary* ControlCalls::AnswerKept(Context* context, v1::Operation* response,
                                              std::function<absl::StatusOr<OperationProgress>()> change) {
  Unary* reactor = context->DefaultReactor();
  const absl::Status posted = strand.Post([this, reactor, response, change = std::move(change)] {
    strand.AssertHeld();
    conductor.AssertHeld();
    const absl::StatusOr<OperationProgress> operation = change();
    if (!operation.ok()) return reactor->Finish(ToGrpc(operation.status()));
    ToProto(*operation, Decisions::kLeftOut, response);
    conductor.WhenKept(operation->id, [reactor, id = operation->id](const absl::Status& kept) {
      reactor->Finish(ToGrpc(kept.ok() ? kept : NotKept(id, kept)));
    });
  });
  if (!posted.ok()) reactor->Finish(ToGrpc(posted));
  return reactor;
}

absl::Status ControlCalls::MayWatch() const {
  if (!ended_.ok() || enders_.size() < static_cast<size_t>(access_.watches_max)) return ended_;
  return access_.gate.Refuse(Refusal::kWatches, absl::StrCat("already ", access_.watches_max, " calls are watching"));
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
