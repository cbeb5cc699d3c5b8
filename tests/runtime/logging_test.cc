// SPDX-License-Identifier: Apache-2.0
#include "runtime/logging.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "catch2/catch.hpp"
#include "nlohmann/json.hpp"

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

TEST_CASE("as JSON each line is one object, whatever is written", "[logging]") {
  const std::string path = absl::StrCat(std::getenv("TEST_TMPDIR"), "/log");
  const int before = dup(STDERR_FILENO), file = open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
  REQUIRE(SetUpLogging("agent \"3\"", "info", "json").ok());
  dup2(file, STDERR_FILENO);
  spdlog::info("operation \"a\"\n\xFF done");
  dup2(before, STDERR_FILENO);
  close(before);
  close(file);
  std::ostringstream out;
  out << std::ifstream(path).rdbuf();
  const nlohmann::json line = nlohmann::json::parse(out.str());
  CHECK(line["level"] == "info");
  CHECK(line["logger"] == "agent \"3\"");
  CHECK(line["message"] == "operation \"a\"\n\uFFFD done");
  CHECK(line["time"].get<std::string>().size() == 24);
  CHECK(out.str().find('\n') == out.str().size() - 1);
  CHECK(SetUpLogging("agent", "info", "xml").message() == "log format 'xml' is none of text, json");
}

}  // namespace
}  // namespace evenkeel::runtime
