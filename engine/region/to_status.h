// SPDX-License-Identifier: Apache-2.0
//
// ToStatus: an Error as the agent's code knows errors.
#pragma once

#include "absl/status/status.h"

#include "engine/region/error.h"

namespace evenkeel::engine {

inline absl::Status ToStatus(const Error& error) {
  switch (error.code) {
    case ErrorCode::kOk:
      return absl::OkStatus();
    case ErrorCode::kInvalidArgument:
      return absl::InvalidArgumentError(error.message);
    case ErrorCode::kNotFound:
      return absl::NotFoundError(error.message);
    case ErrorCode::kAlreadyExists:
      return absl::AlreadyExistsError(error.message);
    case ErrorCode::kFailedPrecondition:
      return absl::FailedPreconditionError(error.message);
    case ErrorCode::kResourceExhausted:
      return absl::ResourceExhaustedError(error.message);
    case ErrorCode::kPermissionDenied:
      return absl::PermissionDeniedError(error.message);
    case ErrorCode::kUnavailable:
      return absl::UnavailableError(error.message);
    case ErrorCode::kDeadlineExceeded:
      return absl::DeadlineExceededError(error.message);
    case ErrorCode::kDataLoss:
      return absl::DataLossError(error.message);
    case ErrorCode::kInternal:
      return absl::InternalError(error.message);
  }
  return absl::InternalError(error.message);
}

}  // namespace evenkeel::engine
