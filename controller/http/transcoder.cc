// SPDX-License-Identifier: Apache-2.0
#include "controller/http/transcoder.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"

#include "algos/base/check.h"
#include "algos/base/status_macros.h"

namespace evenkeel::controller {

namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::MethodDescriptor;

std::unique_ptr<Message> NewMessage(const Descriptor* type) {
  return std::unique_ptr<Message>(google::protobuf::MessageFactory::generated_factory()->GetPrototype(type)->New());
}

std::string PathOf(const MethodDescriptor& method) {
  return absl::StrCat("/", method.service()->full_name(), "/", method.name());
}

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

absl::StatusOr<grpc::ByteBuffer> Encode(const MethodDescriptor& method, const std::string& json) {
  if (json.size() > Transcoder::kRequestBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(method.name(), ": a request of ", json.size(), " bytes: at most ", Transcoder::kRequestBytesMax));
  }
  const std::unique_ptr<Message> request = NewMessage(method.input_type());
  const auto parsed = google::protobuf::util::JsonStringToMessage(json.empty() ? "{}" : json, request.get());
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("no JSON of ", method.input_type()->full_name(), ": ", std::string(parsed.message())));
  }
  const std::string bytes = request->SerializeAsString();
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

absl::StatusOr<std::string> Decode(const MethodDescriptor& method, const grpc::ByteBuffer& buffer) {
  grpc::Slice slice;
  const grpc::Status dumped = buffer.DumpToSingleSlice(&slice);
  const std::unique_ptr<Message> answer = NewMessage(method.output_type());
  if (!dumped.ok() || !answer->ParseFromArray(slice.begin(), static_cast<int>(slice.size()))) {
    return absl::InternalError(absl::StrCat(method.name(), ": the answer is no ", method.output_type()->full_name()));
  }
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  const auto printed = google::protobuf::util::MessageToJsonString(*answer, &json, options);
  if (!printed.ok()) return absl::InternalError(absl::StrCat(method.name(), ": ", std::string(printed.message())));
  return json;
}

void Prepare(grpc::ClientContext& context, const Transcoder::Metadata& metadata) {
  for (const auto& [name, value] : metadata) context.AddMetadata(name, value);
}

std::chrono::system_clock::time_point At(absl::Duration from_now) { return absl::ToChronoTime(absl::Now() + from_now); }

// What one call of a stream waits for.
enum class Completion { kDone, kFailed, kStopped };

// The next one, or kStopped when `idle` says so in the meantime.
Completion Await(grpc::CompletionQueue& queue, const std::function<bool()>& idle) {
  for (;;) {
    void* tag = nullptr;
    bool ok = false;
    const auto status = queue.AsyncNext(&tag, &ok, At(Transcoder::kIdlePeriod));
    if (status == grpc::CompletionQueue::GOT_EVENT) return ok ? Completion::kDone : Completion::kFailed;
    if (status == grpc::CompletionQueue::SHUTDOWN) return Completion::kFailed;
    if (!idle()) return Completion::kStopped;
  }
}

// Takes what is still to come, so that the queue may end.
void Drain(grpc::CompletionQueue& queue) {
  queue.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue.Next(&tag, &ok)) {
  }
}

class OpenStream : public Transcoder::Stream {
 public:
  OpenStream(const std::shared_ptr<grpc::Channel>& channel, const MethodDescriptor& method,
             const grpc::ByteBuffer& request, const Transcoder::Metadata& metadata)
      : method_(method), request_(request), stub_(channel) {
    Prepare(context_, metadata);
    call_ = stub_.PrepareCall(&context_, PathOf(method_), &queue_);
    call_->StartCall(nullptr);
  }

  ~OpenStream() override {
    if (!ended_) (void)End(absl::CancelledError("nobody listens any more"));
  }

  absl::StatusOr<std::optional<std::string>> Next(const std::function<bool()>& idle) override {
    while (!written_) {
      const auto next = Await(queue_, idle);
      if (next != Completion::kDone) return EndAfter(next);
      if (std::exchange(started_, true)) {
        written_ = true;
      } else {
        call_->WriteLast(request_, grpc::WriteOptions(), nullptr);
      }
    }
    call_->Read(&message_, nullptr);
    const auto next = Await(queue_, idle);
    if (next != Completion::kDone) return EndAfter(next);
    absl::StatusOr<std::string> decoded = Decode(method_, message_);
    if (!decoded.ok()) return End(decoded.status());
    return std::optional<std::string>(*std::move(decoded));
  }

 private:
  absl::StatusOr<std::optional<std::string>> EndAfter(Completion next) {
    if (next == Completion::kStopped) return End(absl::CancelledError("nobody listens any more"));
    EVENKEEL_RETURN_IF_ERROR(End(absl::OkStatus()));
    return std::nullopt;
  }

  // `why` not OK: the service is told that nobody listens; else its own status is returned.
  absl::Status End(absl::Status why) {
    ended_ = true;
    if (!why.ok()) context_.TryCancel();
    grpc::Status status;
    call_->Finish(&status, nullptr);
    Drain(queue_);
    return why.ok() ? FromGrpc(status) : why;
  }

  const MethodDescriptor& method_;
  const grpc::ByteBuffer request_;
  grpc::ClientContext context_;
  grpc::GenericStub stub_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  grpc::ByteBuffer message_;  // until the queue is drained
  bool started_ = false;
  bool written_ = false;
  bool ended_ = false;
};

}  // namespace

Transcoder::Transcoder(std::shared_ptr<grpc::Channel> channel, const std::string& service)
    : channel_(std::move(channel)),
      service_(google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(service)) {
  EVENKEEL_CHECK(service_ != nullptr);
}

const MethodDescriptor* Transcoder::Find(const std::string& method) const { return service_->FindMethodByName(method); }

bool Transcoder::IsStream(const std::string& method) const {
  const MethodDescriptor* found = Find(method);
  return found != nullptr && found->server_streaming();
}

absl::StatusOr<std::string> Transcoder::Call(const std::string& method, const std::string& json,
                                             const Metadata& metadata, absl::Duration deadline) const {
  const MethodDescriptor* found = Find(method);
  EVENKEEL_CHECK(found != nullptr && !found->server_streaming());
  EVENKEEL_ASSIGN_OR_RETURN(const grpc::ByteBuffer request, Encode(*found, json));
  grpc::ClientContext context;
  Prepare(context, metadata);
  context.set_deadline(At(deadline));
  grpc::GenericStub stub(channel_);
  grpc::CompletionQueue queue;
  const auto reader = stub.PrepareUnaryCall(&context, PathOf(*found), request, &queue);
  reader->StartCall();
  grpc::ByteBuffer answer;
  grpc::Status status;
  reader->Finish(&answer, &status, nullptr);
  (void)Await(queue, [] { return true; });  // the deadline ends it
  Drain(queue);
  if (!status.ok()) return FromGrpc(status);
  return Decode(*found, answer);
}

absl::StatusOr<std::unique_ptr<Transcoder::Stream>> Transcoder::Open(const std::string& method, const std::string& json,
                                                                     const Metadata& metadata) const {
  const MethodDescriptor* found = Find(method);
  EVENKEEL_CHECK(found != nullptr && found->server_streaming());
  EVENKEEL_ASSIGN_OR_RETURN(const grpc::ByteBuffer request, Encode(*found, json));
  return std::make_unique<OpenStream>(channel_, *found, request, metadata);
}

absl::StatusOr<std::string> Transcoder::RequestOf(const std::string& method,
                                                  const std::multimap<std::string, std::string>& fields) const {
  const MethodDescriptor* found = Find(method);
  EVENKEEL_CHECK(found != nullptr);
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [name, value] : fields) {
    const FieldDescriptor* field = found->input_type()->FindFieldByName(name);
    if (field == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(found->input_type()->name(), " has no field ", name));
    }
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      return absl::InvalidArgumentError(absl::StrCat("field ", name, " is no plain value: send JSON by POST"));
    }
    nlohmann::json plain = value;
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL) {
      if (value != "true" && value != "false") {
        return absl::InvalidArgumentError(absl::StrCat("field ", name, " is '", value, "': true or false wanted"));
      }
      plain = value == "true";
    }
    if (field->is_repeated()) {
      json[name].push_back(plain);
    } else {
      if (json.contains(name)) return absl::InvalidArgumentError(absl::StrCat("field ", name, " is given twice"));
      json[name] = plain;
    }
  }
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace evenkeel::controller
