// SPDX-License-Identifier: Apache-2.0
#include "agent/controller_stream.h"

#include <algorithm>
#include <tuple>
#include <utility>
#include <variant>

#include "absl/container/btree_map.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/support/channel_arguments.h"
#include "grpcpp/support/client_callback.h"

#include "algos/base/check.h"
#include "proto/convert_agent.h"
#include "proto/convert_common.h"
#include "proto/convert_controller.h"
#include "proto/evenkeel/v1/agent.grpc.pb.h"
#include "proto/evenkeel/v1/agent.pb.h"
#include "runtime/clock.h"

namespace evenkeel::agent {

namespace {

std::shared_ptr<grpc::Channel> MakeChannel(const ControllerStream::Options& options) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(proto::kMessageBytesMax);
  arguments.SetMaxSendMessageSize(proto::kMessageBytesMax);
  // A restarted controller is to be found within our own back-off, which is not known yet: gRPC adds none of its own.
  const int least_ms = static_cast<int>(absl::ToInt64Milliseconds(options.backoff_min));
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, least_ms);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, least_ms);
  // Each incarnation's connection is its own.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  SetServerName(options.credentials, arguments);
  return grpc::CreateCustomChannel(options.controller, MakeChannelCredentials(options.credentials), arguments);
}

absl::Status FromGrpc(const grpc::Status& status) {
  return {static_cast<absl::StatusCode>(status.error_code()), status.error_message()};
}

// Whether `message` could be merged into `waiting`; done if so.
bool Merge(const AgentMessage& message, AgentMessage& waiting) {
  if (message.index() != waiting.index()) return false;
  if (const auto* report = std::get_if<LoadReport>(&message)) {
    MergeReports(*report, std::get<LoadReport>(waiting));
    return true;
  }
  if (std::holds_alternative<EngineStatus>(message)) {
    waiting = message;
    return true;
  }
  return false;
}

}  // namespace

void MergeReports(const LoadReport& more, LoadReport& report) {
  absl::btree_map<std::tuple<LayerId, SlotIdx, ExpertId>, size_t> known;
  for (size_t i = 0; i < report.entries.size(); ++i) {
    const LoadReport::Entry& entry = report.entries[i];
    known[{entry.layer, entry.slot, entry.expert}] = i;
  }
  for (const LoadReport::Entry& entry : more.entries) {
    const auto found = known.find({entry.layer, entry.slot, entry.expert});
    if (found == known.end()) {
      report.entries.push_back(entry);
    } else {
      LoadReport::Entry& sum = report.entries[found->second];
      sum.tokens += entry.tokens;
      sum.prefill_tokens += entry.prefill_tokens;
      sum.decode_tokens += entry.decode_tokens;
    }
  }
  report.time = more.time;
  report.last_step = more.last_step;
  report.num_unrouted_tokens += more.num_unrouted_tokens;
}

// Lives from Open until the strand has heard of gRPC's OnDone; the hold keeps OnDone away as long as the strand uses it.
// The strand deletes it, so that its call is gone before the channel is, and neither goes within a callback.
class ControllerStream::Call : public grpc::ClientBidiReactor<v1::AgentMessage, v1::ControllerMessage> {
 public:
  Call(ControllerStream& owner, uint64_t stream) : owner_(owner), stream_(stream), stub_(owner.channel_) {}

  void Begin() {
    if (const std::string token = owner_.options_.credentials.Authorization(); !token.empty()) {
      context_.AddMetadata("authorization", token);
    }
    stub_.async()->Attach(&context_, this);
    AddHold();
    StartRead(&incoming_);
    StartCall();
  }
  void Read() { StartRead(&incoming_); }
  void Write(const AgentMessage& message) {
    proto::ToProto(message, &outgoing_);
    StartWrite(&outgoing_);
  }
  // Neither is called after the other.
  void Cancel() { context_.TryCancel(); }
  void LetGo() { RemoveHold(); }

  const v1::ControllerMessage& incoming() const { return incoming_; }

 private:
  void OnReadDone(bool ok) override {
    Post([&owner = owner_, stream = stream_, ok] {
      owner.strand_.AssertHeld();
      owner.OnRead(stream, ok);
    });
  }
  void OnWriteDone(bool ok) override {
    Post([&owner = owner_, stream = stream_, ok] {
      owner.strand_.AssertHeld();
      owner.OnWritten(stream, ok);
    });
  }
  void OnDone(const grpc::Status& status) override {
    Post([this, &owner = owner_, stream = stream_, why = FromGrpc(status)] {
      owner.strand_.AssertHeld();
      delete this;
      owner.OnDone(stream, why);
    });
  }

  void Post(runtime::Strand::Task task) {
    // The strand is stopped only after Shut was done, that is, after the last of these.
    EVENKEEL_CHECK(owner_.strand_.PostEssential(std::move(task)).ok());
  }

  ControllerStream& owner_;
  const uint64_t stream_;
  v1::AgentService::Stub stub_;
  grpc::ClientContext context_;
  v1::ControllerMessage incoming_;  // the strand's while no read is outstanding
  v1::AgentMessage outgoing_;       // the strand's while no write is outstanding
};

ControllerStream::ControllerStream(runtime::Strand& strand, Options options, Listener listener)
    : strand_(strand),
      options_(std::move(options)),
      listener_(std::move(listener)),
      channel_(MakeChannel(options_)),
      backoff_(options_.backoff_min),
      backoff_max_(options_.backoff_max),
      rng_(options_.seed) {}

ControllerStream::~ControllerStream() = default;

void ControllerStream::Advance(absl::Time now) {
  strand_.AssertHeld();
  if (writing_ && now - write_began_ >= kWriteMax) {
    Disconnect(absl::DeadlineExceededError("the controller does not read"));
  }
  if (now >= answer_due_) Disconnect(absl::DeadlineExceededError("the controller does not answer"));
  if (!alive_ && !shut_ && now >= next_attempt_) Open();
}

absl::Time ControllerStream::NextWakeup() const {
  strand_.AssertHeld();
  if (call_ == nullptr) return alive_ || shut_ ? absl::InfiniteFuture() : next_attempt_;
  return writing_ ? std::min(write_began_ + kWriteMax, answer_due_) : answer_due_;
}

void ControllerStream::Open() {
  alive_ = true;
  writing_ = false;
  why_ = absl::OkStatus();
  queue_.clear();
  answer_due_ = runtime::MonotonicNow() + options_.answer_max;
  call_ = new Call(*this, ++num_streams_);  // deleted after OnDone
  call_->Begin();
  listener_.opened(num_streams_);
}

void ControllerStream::Send(AgentMessage message) {
  strand_.AssertHeld();
  if (call_ == nullptr) return;
  for (auto waiting = queue_.rbegin(); waiting != queue_.rend(); ++waiting) {
    if (Merge(message, *waiting)) return;
  }
  if (queue_.size() >= kQueueMax) return Disconnect(absl::ResourceExhaustedError("the controller reads too slowly"));
  queue_.push_back(std::move(message));
  WriteNext(runtime::MonotonicNow());
}

void ControllerStream::WriteNext(absl::Time now) {
  if (writing_ || queue_.empty() || call_ == nullptr) return;
  writing_ = true;
  write_began_ = now;
  call_->Write(queue_.front());
  queue_.pop_front();
}

void ControllerStream::Disconnect(absl::Status why) {
  strand_.AssertHeld();
  if (call_ == nullptr) return;
  why_ = std::move(why);
  queue_.clear();
  Call* call = std::exchange(call_, nullptr);
  call->Cancel();
  call->LetGo();
}

void ControllerStream::Shut(std::function<void()> done) {
  strand_.AssertHeld();
  shut_ = true;
  Disconnect(absl::AbortedError("the agent ends"));
  if (!alive_) return done();
  shut_done_ = std::move(done);
}

void ControllerStream::SetBackoffMax(absl::Duration backoff_max) {
  strand_.AssertHeld();
  backoff_max_ = std::max(backoff_max, options_.backoff_min);
  backoff_ = std::min(backoff_, backoff_max_);
}

void ControllerStream::OnRead(uint64_t stream, bool ok) {
  if (stream != num_streams_ || call_ == nullptr) return;
  if (!ok) {
    // The other side has ended the stream; OnDone says why.
    return std::exchange(call_, nullptr)->LetGo();
  }
  absl::StatusOr<ControllerMessage> message = proto::FromProto(call_->incoming(), options_.group);
  if (!message.ok()) return Disconnect(message.status());
  answer_due_ = absl::InfiniteFuture();
  // An agent that is refused comes again ever more slowly.
  if (std::holds_alternative<Welcome>(*message)) backoff_ = options_.backoff_min;
  call_->Read();
  listener_.received(stream, *std::move(message));
}

void ControllerStream::OnWritten(uint64_t stream, bool ok) {
  if (stream != num_streams_) return;
  writing_ = false;
  if (ok) WriteNext(runtime::MonotonicNow());
}

void ControllerStream::OnDone(uint64_t stream, absl::Status status) {
  EVENKEEL_CHECK(stream == num_streams_ && call_ == nullptr);
  alive_ = writing_ = false;
  if (!why_.ok()) status = why_;
  if (status.ok()) status = absl::UnavailableError("the controller ended the stream");
  const absl::Duration wait = backoff_ * (1.0 - 0.5 * rng_.Uniform());
  backoff_ = std::min(2 * backoff_, backoff_max_);
  next_attempt_ = runtime::MonotonicNow() + wait;
  listener_.ended(stream, std::move(status));
  if (shut_ && shut_done_) std::exchange(shut_done_, nullptr)();
}

}  // namespace evenkeel::agent
