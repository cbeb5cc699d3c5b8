// SPDX-License-Identifier: Apache-2.0
#include "engine/region/error.h"

#include <string>

#include <catch2/catch.hpp>

#include "engine/region/to_status.h"

namespace evenkeel::engine {
namespace {

TEST_CASE("each error is the status of the same name and says the same", "[error]") {
  const auto [code, status] = GENERATE(table<ErrorCode, absl::StatusCode>({
      {ErrorCode::kInvalidArgument, absl::StatusCode::kInvalidArgument},
      {ErrorCode::kNotFound, absl::StatusCode::kNotFound},
      {ErrorCode::kAlreadyExists, absl::StatusCode::kAlreadyExists},
      {ErrorCode::kFailedPrecondition, absl::StatusCode::kFailedPrecondition},
      {ErrorCode::kResourceExhausted, absl::StatusCode::kResourceExhausted},
      {ErrorCode::kPermissionDenied, absl::StatusCode::kPermissionDenied},
      {ErrorCode::kUnavailable, absl::StatusCode::kUnavailable},
      {ErrorCode::kDataLoss, absl::StatusCode::kDataLoss},
      {ErrorCode::kInternal, absl::StatusCode::kInternal},
  }));
  CAPTURE(code);

  const Error error = MakeError(code, "slot %d of rank %d", 17, 4);

  CHECK_FALSE(error.ok());
  CHECK(ToStatus(error) == absl::Status(status, "slot 17 of rank 4"));
}

TEST_CASE("no error is an ok status, and a code that nobody defined is a bug of ours", "[error]") {
  CHECK(Error().ok());
  CHECK(ToStatus(Error()).ok());
  CHECK(ToStatus(MakeError(static_cast<ErrorCode>(99), "of another version")).code() == absl::StatusCode::kInternal);
}

TEST_CASE("a message longer than an error holds is cut, never beyond it", "[error]") {
  const Error error = MakeError(ErrorCode::kInternal, "%s", std::string(1000, 'x').c_str());

  CHECK(std::string(error.message) == std::string(sizeof(error.message) - 1, 'x'));
}

}  // namespace
}  // namespace evenkeel::engine
