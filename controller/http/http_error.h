// SPDX-License-Identifier: Apache-2.0
//
// HttpError: how the codes of gRPC are told over HTTP, as gRPC's own gateways do.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace evenkeel::controller {

int HttpStatusOf(absl::StatusCode code);

// {"code": 5, "status": "NOT_FOUND", "message": "..."}
std::string ErrorJson(const absl::Status& status);

}  // namespace evenkeel::controller
