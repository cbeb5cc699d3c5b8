// SPDX-License-Identifier: Apache-2.0
//
// FollowOperation: an operation under way, as people see it: a line that is rewritten on a terminal, else a line for
// each change.
#pragma once

#include <grpcpp/support/sync_stream.h>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "cli/command.h"
#include "proto/evenkeel/v1/control.pb.h"

namespace evenkeel::cli {

// Shows progress until the stream ends; the operation as it then is. `what` was asked, for errors.
absl::StatusOr<evenkeel::v1::Operation> FollowOperation(const Context& context,
                                                        grpc::ClientReader<evenkeel::v1::Operation>& reader,
                                                        absl::string_view what);

}  // namespace evenkeel::cli
