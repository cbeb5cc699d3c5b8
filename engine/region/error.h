// SPDX-License-Identifier: Apache-2.0
//
// Error and Result: what the parts that are loaded into other people's processes answer instead of absl::Status.
//
// The text is inside the value, so that saying that memory is short takes none.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <utility>

namespace evenkeel::engine {

enum class ErrorCode {
  kOk,
  kInvalidArgument,
  kNotFound,
  kAlreadyExists,
  kFailedPrecondition,
  kResourceExhausted,
  kPermissionDenied,
  kUnavailable,
  kDeadlineExceeded,
  kDataLoss,
  kInternal,
};

struct [[nodiscard]] Error {
  ErrorCode code = ErrorCode::kOk;
  char message[256] = "";

  bool ok() const { return code == ErrorCode::kOk; }
};

[[gnu::format(printf, 2, 3)]] inline Error MakeError(ErrorCode code, const char* format, ...) {
  Error error;
  error.code = code;
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(error.message, sizeof(error.message), format, arguments);
  va_end(arguments);
  return error;
}

// A value, meaningful where the error is kOk.
template <typename T>
struct [[nodiscard]] Result {
  Error error;
  T value{};

  Result(T result) : value(std::move(result)) {}
  Result(const Error& failure) : error(failure) {}

  bool ok() const { return error.ok(); }
};

}  // namespace evenkeel::engine
