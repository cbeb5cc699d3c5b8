// SPDX-License-Identifier: Apache-2.0
#include "runtime/logging.h"

#include <spdlog/spdlog.h>

#include <string>

#include "catch2/catch.hpp"

namespace evenkeel::runtime {
namespace {

TEST_CASE("an unknown log level is refused with the list of known ones", "[logging]") {
  const absl::Status status = SetUpLogging("controller", "loud");
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(std::string(status.message()) == "log level 'loud' is none of trace, debug, info, warning, error, off");
}

TEST_CASE("the level decides what is written", "[logging]") {
  REQUIRE(SetUpLogging("agent rank 3", "warning").ok());
  CHECK(spdlog::default_logger()->name() == "agent rank 3");
  CHECK(spdlog::should_log(spdlog::level::warn));
  CHECK_FALSE(spdlog::should_log(spdlog::level::info));
  REQUIRE(SetUpLogging("agent rank 3", "debug").ok());
  CHECK(spdlog::should_log(spdlog::level::debug));
}

}  // namespace
}  // namespace evenkeel::runtime
