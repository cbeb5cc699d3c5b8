// SPDX-License-Identifier: Apache-2.0
#include "controller/agent_service.h"

#include <grpcpp/support/byte_buffer.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

#include "algos/base/check.h"
#include "controller/access/grpc_caller.h"
#include "controller/grpc_status.h"
#include "proto/convert_agent.h"
#include "proto/convert_common.h"
#include "proto/convert_controller.h"
#include "proto/evenkeel/v1/agent.grpc.pb.h"
#include "runtime/clock.h"
#include "runtime/read_pass.h"

namespace evenkeel::controller {
namespace {

class AgentStream;

// With passes for the reader, made of the endpoints' secrets, which stay here.
MoveOrder WithPasses(MoveOrder order, const Member& reader) {
  for (MoveSource& source : order.sources) {
    source.pass = runtime::MakePass(source.endpoint.secret, order.retired_since.packed(),
                                    {reader.rank.value(), reader.incarnation});
  }
  return order;
}

using Service = v1::AgentService::WithRawCallbackMethod_Attach<v1::AgentService::Service>;

grpc::ByteBuffer Encode(const ControllerMessage& message) {
  v1::ControllerMessage wire;
  proto::ToProto(message, &wire);
  grpc::ByteBuffer bytes;
  bool own_buffer = false;
  const grpc::Status status = grpc::SerializationTraits<v1::ControllerMessage>::Serialize(wire, &bytes, &own_buffer);
  EVENKEEL_CHECK(status.ok());
  return bytes;
}

}  // namespace

// What streams and strand share.
struct AgentService::State {
  class Calls;

  State(runtime::Strand& the_strand, Gate& the_gate, Listener the_listener, const Options& the_options);
  ~State();

  std::shared_ptr<AgentStream> Find(SessionId session) ABSL_LOCKS_EXCLUDED(mutex);
  // What is sent to many, one after the other, is encoded once.
  grpc::ByteBuffer EncodeOnce(const SharedMessage& message) ABSL_LOCKS_EXCLUDED(mutex);
  void Heard(SessionId session) ABSL_LOCKS_EXCLUDED(mutex);
  void Remove(SessionId session) ABSL_LOCKS_EXCLUDED(mutex);

  runtime::Strand& strand;
  Gate& gate;
  const Listener listener;
  const Options options;
  std::atomic<SessionId> next_session = 1;
  absl::Mutex mutex;
  absl::btree_map<SessionId, std::shared_ptr<AgentStream>> streams ABSL_GUARDED_BY(mutex);
  // When those that have not sent their Attach must have; ascending, as sessions are.
  absl::btree_map<SessionId, absl::Time> silent ABSL_GUARDED_BY(mutex);
  absl::Status closed ABSL_GUARDED_BY(mutex);  // why new streams are refused; OK: they are not
  std::optional<std::pair<SharedMessage, grpc::ByteBuffer>> encoded ABSL_GUARDED_BY(mutex);  // the last one
  std::unique_ptr<Calls> calls;
};

namespace {

// One read and one write outstanding. Finish is called once, when nothing is being written or started; what is
// still being read then ends with it.
class AgentStream : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  AgentStream(SessionId id, AgentService::State& service, grpc::CallbackServerContext& context)
      : id_(id), service_(service), context_(context) {}

  // Before the first read: as whom the gate knows the agent.
  void SetCaller(Caller caller) { caller_ = std::move(caller); }

  void ReadNext() ABSL_LOCKS_EXCLUDED(mutex_) {
    if (!BeginStart()) return;
    StartRead(&incoming_);
    EndStart();
  }

  // `bytes`: of `message`; shared with other streams, copied by none.
  void Send(const ControllerMessage& message, grpc::ByteBuffer bytes) ABSL_LOCKS_EXCLUDED(mutex_) {
    bool overflow = false;
    {
      absl::MutexLock lock(&mutex_);
      if (closing_.has_value()) return;
      if (const auto* refused = std::get_if<Refused>(&message)) refused_ = refused->status;
      overflow = waiting_.size() >= AgentService::kWriteQueueMax;
      if (!overflow) waiting_.push_back(std::move(bytes));
    }
    if (overflow) {
      spdlog::warn("session {} does not read; {} messages wait: disconnected", id_, AgentService::kWriteQueueMax);
      Break(absl::ResourceExhaustedError("the agent does not read"));
    } else {
      WriteNext();
    }
  }

  const Member& member() const { return member_; }

  // Ends the stream after what waits to be written.
  void Close(absl::Status why) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      if (!closing_.has_value()) closing_ = refused_.ok() ? std::move(why) : refused_;
    }
    FinishIfIdle();
  }

  // Ends the stream at once.
  void Break(absl::Status why) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      if (!closing_.has_value()) closing_ = std::move(why);
      waiting_.clear();
    }
    context_.TryCancel();
    FinishIfIdle();
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      // Closed by the agent, or larger than gRPC takes; gRPC itself names the latter to the client.
      Close(absl::OkStatus());
      return;
    }
    absl::StatusOr<AgentMessage> message = Decode();
    if (!message.ok()) {
      spdlog::warn("session {}: {}", id_, std::string(message.status().message()));
      Close(message.status());
      return;
    }
    if (const auto* attach = std::get_if<Attach>(&*message)) {
      const absl::Status admitted = service_.gate.AdmitAgent(caller_, attach->group.name, attach->member.rank);
      if (!admitted.ok()) return Close(admitted);
      group_ = attach->group;
      if (!member_.rank.valid()) member_ = attach->member;
      service_.Heard(id_);
      spdlog::info("session {} group {} rank {} incarnation {:x} attaches from {}", id_, attach->group.name,
                   attach->member.rank.value(), attach->member.incarnation, context_.peer());
    }
    AgentService::State& service = service_;
    const absl::Status posted = service.strand.Post([&service, id = id_, value = *std::move(message)]() mutable {
      service.strand.AssertHeld();
      service.listener.on_message(id, std::move(value));
      if (const std::shared_ptr<AgentStream> stream = service.Find(id)) stream->ReadNext();
    });
    if (!posted.ok()) Close(posted);
  }

  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      if (!ok) {
        waiting_.clear();
        if (!closing_.has_value()) closing_ = absl::UnavailableError("the stream broke");
      }
    }
    WriteNext();
    FinishIfIdle();
  }

  void OnCancel() override { Break(absl::CancelledError("the stream broke")); }

  void OnDone() override {
    if (group_.has_value()) {
      AgentService::State& service = service_;
      // Refused only when the strand has ended, and then nobody is left to be told.
      (void)service.strand.PostEssential([&service, id = id_] {
        service.strand.AssertHeld();
        spdlog::info("session {} ended", id);
        service.listener.on_detached(id);
      });
    }
    service_.Remove(id_);  // may delete this
  }

 private:
  absl::StatusOr<AgentMessage> Decode() {
    if (!grpc::SerializationTraits<v1::AgentMessage>::Deserialize(&incoming_, &request_).ok()) {
      return absl::InvalidArgumentError("the message cannot be parsed");
    }
    return proto::FromProto(request_, group_.has_value() ? &*group_ : nullptr);
  }

  // Between the two, no Finish: an operation may be started.
  bool BeginStart() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (closing_.has_value()) return false;
    ++num_starting_;
    return true;
  }
  void EndStart() ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      --num_starting_;
    }
    FinishIfIdle();
  }

  void WriteNext() ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      if (writing_ || waiting_.empty() || finished_) return;
      writing_ = true;
      ++num_starting_;
      outgoing_ = std::move(waiting_.front());
      waiting_.pop_front();
    }
    StartWrite(&outgoing_);
    EndStart();
  }

  void FinishIfIdle() ABSL_LOCKS_EXCLUDED(mutex_) {
    grpc::Status status;
    {
      absl::MutexLock lock(&mutex_);
      if (!closing_.has_value() || finished_ || writing_ || num_starting_ > 0 || !waiting_.empty()) return;
      finished_ = true;
      status = ToGrpc(*closing_);
    }
    Finish(status);
  }

  const SessionId id_;
  AgentService::State& service_;
  grpc::CallbackServerContext& context_;

  // Reads follow one another: each of these belongs to the one under way.
  grpc::ByteBuffer incoming_;
  v1::AgentMessage request_;  // keeps its memory
  std::optional<GroupInfo> group_;
  Caller caller_;
  Member member_;  // of the first attach: constant before anything is sent

  // Belongs to the write under way.
  grpc::ByteBuffer outgoing_;

  absl::Mutex mutex_;
  std::deque<grpc::ByteBuffer> waiting_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  int num_starting_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status refused_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> closing_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

class AgentService::State::Calls : public Service {
 public:
  explicit Calls(State& state) : state_(state) {}

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Attach(grpc::CallbackServerContext* context) override {
    const SessionId id = state_.next_session++;
    auto stream = std::make_shared<AgentStream>(id, state_, *context);
    absl::StatusOr<Caller> caller = state_.gate.Admit(CredentialsOf(*context), "Attach");
    absl::Status refused = caller.status();
    if (caller.ok()) stream->SetCaller(*std::move(caller));
    {
      absl::MutexLock lock(&state_.mutex);
      if (!state_.closed.ok()) refused = state_.closed;
      if (refused.ok() && state_.streams.size() >= static_cast<size_t>(state_.options.agents_max)) {
        refused = state_.gate.Refuse(Refusal::kAgents,
                                     absl::StrCat("already ", state_.options.agents_max, " agents are attached"));
      }
      state_.streams.emplace(id, stream);
      if (refused.ok()) state_.silent.emplace(id, runtime::MonotonicNow() + state_.options.attach_within);
    }
    if (refused.ok()) {
      // Lets the strand see the new deadline. Where it cannot, it is busy, and will look by itself.
      (void)state_.strand.Post([] {});
      stream->ReadNext();
    } else {
      stream->Close(refused);
    }
    return stream.get();
  }

 private:
  State& state_;
};

AgentService::State::State(runtime::Strand& the_strand, Gate& the_gate, Listener the_listener,
                           const Options& the_options)
    : strand(the_strand),
      gate(the_gate),
      listener(std::move(the_listener)),
      options(the_options),
      calls(std::make_unique<Calls>(*this)) {}
AgentService::State::~State() = default;

std::shared_ptr<AgentStream> AgentService::State::Find(SessionId session) {
  absl::MutexLock lock(&mutex);
  const auto found = streams.find(session);
  return found == streams.end() ? nullptr : found->second;
}

grpc::ByteBuffer AgentService::State::EncodeOnce(const SharedMessage& message) {
  {
    absl::MutexLock lock(&mutex);
    if (encoded.has_value() && encoded->first.Same(message)) return encoded->second;
  }
  grpc::ByteBuffer bytes = Encode(*message);
  absl::MutexLock lock(&mutex);
  encoded.emplace(message, bytes);
  return bytes;
}

void AgentService::State::Heard(SessionId session) {
  absl::MutexLock lock(&mutex);
  silent.erase(session);
}

void AgentService::State::Remove(SessionId session) {
  std::shared_ptr<AgentStream> last;  // deleted after the lock
  absl::MutexLock lock(&mutex);
  silent.erase(session);
  const auto found = streams.find(session);
  if (found == streams.end()) return;
  last = std::move(found->second);
  streams.erase(found);
}

AgentService::AgentService(runtime::Strand& strand, Gate& gate, Listener listener, const Options& options)
    : state_(std::make_unique<State>(strand, gate, std::move(listener), options)) {}
AgentService::~AgentService() = default;

grpc::Service& AgentService::service() { return *state_->calls; }

void AgentService::Send(SessionId session, const SharedMessage& message) {
  const std::shared_ptr<AgentStream> stream = state_->Find(session);
  if (stream == nullptr) return;
  const auto* order = std::get_if<MoveOrder>(&*message);
  stream->Send(*message, order == nullptr ? state_->EncodeOnce(message) : Encode(WithPasses(*order, stream->member())));
}

void AgentService::Close(SessionId session) {
  if (const std::shared_ptr<AgentStream> stream = state_->Find(session)) {
    stream->Close(absl::UnavailableError("the controller closed this session"));
  }
}

absl::Time AgentService::NextWakeup() const {
  absl::MutexLock lock(&state_->mutex);
  return state_->silent.empty() ? absl::InfiniteFuture() : state_->silent.begin()->second;
}

void AgentService::Wake(absl::Time now) {
  std::vector<std::shared_ptr<AgentStream>> late;
  {
    absl::MutexLock lock(&state_->mutex);
    while (!state_->silent.empty() && state_->silent.begin()->second <= now) {
      late.push_back(state_->streams.at(state_->silent.begin()->first));
      state_->silent.erase(state_->silent.begin());
    }
  }
  for (const std::shared_ptr<AgentStream>& stream : late) {
    stream->Close(absl::DeadlineExceededError(
        absl::StrCat("no attach within ", absl::FormatDuration(state_->options.attach_within))));
  }
}

void AgentService::CloseAll(absl::Status why) {
  std::vector<std::shared_ptr<AgentStream>> streams;
  {
    absl::MutexLock lock(&state_->mutex);
    state_->closed = why;
    for (const auto& [id, stream] : state_->streams) streams.push_back(stream);
  }
  for (const std::shared_ptr<AgentStream>& stream : streams) stream->Close(why);
}

}  // namespace evenkeel::controller
