// SPDX-License-Identifier: Apache-2.0
#include "cli/client.h"

#include <chrono>
#include <utility>

#include <google/protobuf/util/json_util.h>
#include <grpcpp/create_channel.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "algos/base/check.h"
#include "cli/speech.h"

namespace evenkeel::cli {

namespace {

constexpr int kMessageBytesMax = 64 << 20;

std::shared_ptr<grpc::Channel> Connect(const std::string& address, const runtime::ClientCredentials& credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  SetServerName(credentials, arguments);
  return grpc::CreateCustomChannel(address, MakeChannelCredentials(credentials), arguments);
}

// As gRPC's metadata must be.
std::string Printable(std::string text) {
  for (char& c : text) {
    if (c < 0x20 || c >= 0x7F) c = '?';
  }
  return text;
}

}  // namespace

Client::Client(std::string address, runtime::ClientCredentials credentials, std::string user)
    : address_(std::move(address)),
      credentials_(std::move(credentials)),
      user_(Printable(std::move(user))),
      stub_(evenkeel::v1::Control::NewStub(Connect(address_, credentials_))) {}

std::unique_ptr<grpc::ClientContext> Client::Named() const {
  auto context = std::make_unique<grpc::ClientContext>();
  if (!user_.empty()) context->AddMetadata("evenkeel-user", user_);
  if (const std::string token = credentials_.Authorization(); !token.empty()) {
    context->AddMetadata("authorization", token);
  }
  return context;
}

std::unique_ptr<grpc::ClientContext> Client::Call(absl::Duration deadline) const {
  auto context = Named();
  context->set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(deadline));
  return context;
}

std::unique_ptr<grpc::ClientContext> Client::Watch() const { return Named(); }

std::string Client::HintOf(grpc::StatusCode code) const {
  if (code == grpc::StatusCode::UNAUTHENTICATED) {
    return "; --credentials names a file with a certificate or a token ($EVENKEEL_CREDENTIALS, $EVENKEEL_TOKEN)";
  }
  if (code != grpc::StatusCode::UNAVAILABLE) return "";
  const Speech speech = SpeechOf(address_);
  if (speech == Speech::kTls && !credentials_.speaks_tls()) {
    return "; what listens there speaks TLS: --credentials names a file with the authorities to trust";
  }
  if (speech == Speech::kPlain && credentials_.speaks_tls()) {
    return "; what listens there speaks without TLS: leave --credentials (and $EVENKEEL_CREDENTIALS) out";
  }
  return "; is a controller running there? --controller=HOST:PORT names another";
}

absl::Status Client::Explain(const grpc::Status& status, absl::string_view what) const {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrCat(what, " at ", address_, ": ", status.error_message(), HintOf(status.error_code())));
}

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  EVENKEEL_CHECK(google::protobuf::util::MessageToJsonString(message, &json, options).ok());
  return json;
}

}  // namespace evenkeel::cli
