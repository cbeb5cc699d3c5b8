// SPDX-License-Identifier: Apache-2.0
#include "runtime/client_credentials.h"

#include <fstream>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "grpcpp/security/tls_credentials_options.h"

namespace evenkeel::runtime {
namespace {

constexpr unsigned int kLookAtFilesSeconds = 1;

// Empty: it cannot be read, or is.
std::string TextOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string Beside(const std::string& path, absl::string_view name) {
  if (absl::StartsWith(name, "/")) return std::string(name);
  return absl::StrCat(path.substr(0, path.rfind('/') + 1), name);
}

absl::Status ReadLine(const std::string& path, absl::string_view line, ClientCredentials& credentials) {
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 1));
  const absl::string_view name = absl::StripAsciiWhitespace(parts.first);
  const std::string value(absl::StripAsciiWhitespace(parts.second));
  const std::pair<absl::string_view, std::string*> files[] = {{"ca", &credentials.ca},
                                                              {"certificate", &credentials.certificate},
                                                              {"key", &credentials.key},
                                                              {"token_file", &credentials.token_file}};
  for (const auto& [known, target] : files) {
    if (name != known) continue;
    *target = Beside(path, value);
    if (!TextOf(*target).empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", name, ": cannot read ", *target));
  }
  if (name != "token" && name != "server_name") {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": '", name, "' is not known; ca, certificate, key, token, token_file and server_name are"));
  }
  (name == "token" ? credentials.token : credentials.server_name) = value;
  return absl::OkStatus();
}

}  // namespace

std::string ClientCredentials::Authorization() const {
  const std::string text = token_file.empty() ? token : TextOf(token_file);
  const absl::string_view stripped = absl::StripAsciiWhitespace(text);
  return stripped.empty() ? "" : absl::StrCat("Bearer ", stripped);
}

absl::StatusOr<ClientCredentials> ReadClientCredentials(const std::string& path) {
  ClientCredentials credentials;
  if (path.empty()) return credentials;
  const std::string text = TextOf(path);
  if (text.empty()) return absl::InvalidArgumentError(absl::StrCat("cannot read ", path));
  if (absl::StrContains(text, "-----BEGIN")) {
    credentials.ca = path;
    return credentials;
  }
  for (const absl::string_view whole : absl::StrSplit(text, '\n')) {
    const absl::string_view line = absl::StripAsciiWhitespace(whole);
    if (line.empty() || line.front() == '#') continue;
    if (absl::Status status = ReadLine(path, line, credentials); !status.ok()) return status;
  }
  if (credentials.certificate.empty() != credentials.key.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": certificate and key: both or neither wanted"));
  }
  if (credentials.ca.empty() && !credentials.certificate.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": a certificate without ca: no TLS would be spoken"));
  }
  return credentials;
}

absl::Status CheckTokenStaysHere(const ClientCredentials& credentials, absl::string_view address) {
  const bool here = absl::StartsWith(address, "127.") || absl::StartsWith(address, "localhost:") ||
                    absl::StartsWith(address, "[::1]") || absl::StartsWith(address, "unix:");
  if (here || credentials.speaks_tls() || credentials.Authorization().empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the token would go to ", address, " in the clear: credentials with a ca are wanted"));
}

std::shared_ptr<grpc::ChannelCredentials> MakeChannelCredentials(const ClientCredentials& credentials) {
  if (!credentials.speaks_tls()) return grpc::InsecureChannelCredentials();
  grpc::experimental::TlsChannelCredentialsOptions tls;
  tls.set_certificate_provider(std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
      credentials.key, credentials.certificate, credentials.ca, kLookAtFilesSeconds));
  tls.watch_root_certs();
  if (!credentials.certificate.empty()) tls.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(tls);
}

void SetServerName(const ClientCredentials& credentials, grpc::ChannelArguments& arguments) {
  if (credentials.server_name.empty()) return;
  arguments.SetSslTargetNameOverride(credentials.server_name);
}

}  // namespace evenkeel::runtime
