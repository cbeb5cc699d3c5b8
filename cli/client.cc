// SPDX-License-Identifier: Apache-2.0
#include "cli/client.h"

#include <chrono>
#include <utility>

#include <google/protobuf/util/json_util.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "algos/base/check.h"

namespace evenkeel::cli {

namespace {

constexpr int kMessageBytesMax = 64 << 20;

std::shared_ptr<grpc::Channel> Connect(const std::string& address, const std::string& roots) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = roots;
  const auto credentials = roots.empty() ? grpc::InsecureChannelCredentials() : grpc::SslCredentials(tls);
  return grpc::CreateCustomChannel(address, credentials, arguments);
}

// As gRPC's metadata must be.
std::string Printable(std::string text) {
  for (char& c : text) {
    if (c < 0x20 || c >= 0x7F) c = '?';
  }
  return text;
}

}  // namespace

Client::Client(std::string address, const std::string& roots, std::string user)
    : address_(std::move(address)),
      user_(Printable(std::move(user))),
      stub_(evenkeel::v1::Control::NewStub(Connect(address_, roots))) {}

std::unique_ptr<grpc::ClientContext> Client::Named() const {
  auto context = std::make_unique<grpc::ClientContext>();
  if (!user_.empty()) context->AddMetadata("evenkeel-user", user_);
  return context;
}

std::unique_ptr<grpc::ClientContext> Client::Call(absl::Duration deadline) const {
  auto context = Named();
  context->set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(deadline));
  return context;
}

std::unique_ptr<grpc::ClientContext> Client::Watch() const { return Named(); }

absl::Status Client::Explain(const grpc::Status& status, absl::string_view what) const {
  if (status.ok()) return absl::OkStatus();
  const absl::string_view hint = status.error_code() == grpc::StatusCode::UNAVAILABLE
                                     ? "; is a controller running there? --controller=HOST:PORT names another"
                                     : "";
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrCat(what, " at ", address_, ": ", status.error_message(), hint));
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
