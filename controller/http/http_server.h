// SPDX-License-Identifier: Apache-2.0
//
// HttpServer: the library's server, speaking TLS where there is a certificate, and what its callers bring along.
//
// Callers who are asked for a certificate may go without; whether it is trusted is the gate's to say. The own one is shown
// as it is when a connection begins.
#pragma once

#include <memory>

#include "httplib.h"

#include "controller/access/certificates.h"
#include "controller/access/gate.h"

namespace evenkeel::controller {

enum class CallersShow { kNoCertificate, kCertificate };

// `certificate`: outlives it; null: no TLS.
std::unique_ptr<httplib::Server> MakeHttpServer(OwnCertificate* certificate, CallersShow callers);

Gate::Credentials CredentialsOf(const httplib::Request& request);

}  // namespace evenkeel::controller
