// SPDX-License-Identifier: Apache-2.0
//
// CredentialsOf: what a gRPC call brings along.
//
// The certificate is what TLS proved the possession of; whether it is trusted is the Gate's to say.
#pragma once

#include <grpcpp/server_context.h>

#include <string>

#include "controller/access/gate.h"

namespace evenkeel::controller {

Gate::Credentials CredentialsOf(const grpc::ServerContextBase& context);

// Of the first `name`; empty: there is none.
std::string MetadataOf(const grpc::ServerContextBase& context, const char* name);

}  // namespace evenkeel::controller
