// SPDX-License-Identifier: Apache-2.0
#include "controller/access/grpc_caller.h"

#include <grpc/grpc_security_constants.h>

#include <memory>

namespace evenkeel::controller {

std::string MetadataOf(const grpc::ServerContextBase& context, const char* name) {
  const auto found = context.client_metadata().find(name);
  if (found == context.client_metadata().end()) return {};
  return {found->second.data(), found->second.size()};
}

Gate::Credentials CredentialsOf(const grpc::ServerContextBase& context) {
  const std::shared_ptr<const grpc::AuthContext> auth = context.auth_context();
  const auto property = [&auth](const char* name) -> std::string {
    if (auth == nullptr) return {};
    const std::vector<grpc::string_ref> found = auth->FindPropertyValues(name);
    return found.empty() ? std::string() : std::string(found.front().data(), found.front().size());
  };
  return {.peer = context.peer(),
          .authorization = MetadataOf(context, "authorization"),
          .certificate = property(GRPC_X509_PEM_CERT_PROPERTY_NAME),
          .between = property(GRPC_X509_PEM_CERT_CHAIN_PROPERTY_NAME)};
}

}  // namespace evenkeel::controller
