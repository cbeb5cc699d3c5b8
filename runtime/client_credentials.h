// SPDX-License-Identifier: Apache-2.0
//
// ClientCredentials: how an agent or keelctl shows the controller who it is, and knows the controller.
//
// A file of lines "name: value" (and "#" comments):
//
//   ca: /etc/evenkeel/ca.pem              trust controllers whose certificate is of these authorities; with it TLS is spoken
//   certificate: /etc/evenkeel/rank0.pem  shown to the controller; with `key`
//   key: /etc/evenkeel/rank0.key
//   token_file: /etc/evenkeel/token       or `token: ...` in place
//   server_name: controller               that the controller's certificate is to name, where it is not the host called
//
// Paths are relative to the file. A file in PEM form is taken as `ca` alone. Certificates, key and token are read again when
// they change.
//
// Errors:    kInvalidArgument naming the file and what is wrong with it.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/channel_arguments.h"

namespace evenkeel::runtime {

struct ClientCredentials {
  std::string ca, certificate, key;  // files; no `ca`: no TLS
  std::string token, token_file;
  std::string server_name;

  bool speaks_tls() const { return !ca.empty(); }
  // "Bearer TOKEN", the file's as it is now; empty: there is none.
  std::string Authorization() const;
};

// Empty path: none. Checks that the files can be read.
absl::StatusOr<ClientCredentials> ReadClientCredentials(const std::string& path);

// A token is not sent in the clear beyond this host.
absl::Status CheckTokenStaysHere(const ClientCredentials& credentials, absl::string_view address);

std::shared_ptr<grpc::ChannelCredentials> MakeChannelCredentials(const ClientCredentials& credentials);
void SetServerName(const ClientCredentials& credentials, grpc::ChannelArguments& arguments);

}  // namespace evenkeel::runtime
