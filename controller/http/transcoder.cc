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
enum class Next { kDone, kFailed, kStopped };

// The next completion, or kStopped when `idle` says so in the meantime.
Next Await(grpc::CompletionQueue& queue, const std::function<bool()>& idle) {
  for (;;) {
    void* tag = nullptr;
    bool ok = false;
    const auto status = queue.AsyncNext(&tag, &ok, At(Transcoder::kIdlePeriod));
    if (status == grpc::CompletionQueue::GOT_EVENT) return ok ? Next::kDone : Next::kFailed;
    if (status == grpc::CompletionQueue::SHUTDOWN) return Next::kFailed;
    if (!idle()) return Next::kStopped;
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

absl::Status Transcoder::Stream(const std::string& method, const std::string& json, const Metadata& metadata,
                                const std::function<bool(const std::string&)>& take,
                                const std::function<bool()>& idle) const {
  const MethodDescriptor* found = Find(method);
  EVENKEEL_CHECK(found != nullptr && found->server_streaming());
  EVENKEEL_ASSIGN_OR_RETURN(const grpc::ByteBuffer request, Encode(*found, json));
  grpc::ClientContext context;
  Prepare(context, metadata);
  grpc::GenericStub stub(channel_);
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareCall(&context, PathOf(*found), &queue);
  absl::Status outcome;
  const auto goes_on = [&](Next next) {
    if (next == Next::kStopped) outcome = absl::CancelledError("nobody listens any more");
    return next == Next::kDone;
  };
  call->StartCall(nullptr);
  bool open = goes_on(Await(queue, idle));
  if (open) {
    call->WriteLast(request, grpc::WriteOptions(), nullptr);
    open = goes_on(Await(queue, idle));
  }
  grpc::ByteBuffer message;  // until the queue is drained
  while (open) {
    call->Read(&message, nullptr);
    if (!goes_on(Await(queue, idle))) break;
    const absl::StatusOr<std::string> decoded = Decode(*found, message);
    if (!decoded.ok()) outcome = decoded.status();
    if (!decoded.ok() || !take(*decoded)) {
      if (outcome.ok()) outcome = absl::CancelledError("nobody listens any more");
      break;
    }
  }
  if (!outcome.ok()) context.TryCancel();
  grpc::Status status;
  call->Finish(&status, nullptr);
  Drain(queue);
  return outcome.ok() ? FromGrpc(status) : outcome;
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
