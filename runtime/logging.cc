// SPDX-License-Identifier: Apache-2.0
#include "runtime/logging.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

namespace evenkeel::runtime {
namespace {

constexpr std::pair<absl::string_view, spdlog::level::level_enum> kLevels[] = {
    {"trace", spdlog::level::trace},  {"debug", spdlog::level::debug}, {"info", spdlog::level::info},
    {"warning", spdlog::level::warn}, {"error", spdlog::level::err},   {"off", spdlog::level::off},
};

}  // namespace

absl::Status ValidateLogLevel(absl::string_view level) {
  std::string known;
  for (const auto& [name, value] : kLevels) {
    if (name == level) return absl::OkStatus();
    absl::StrAppend(&known, known.empty() ? "" : ", ", name);
  }
  return absl::InvalidArgumentError(absl::StrCat("log level '", level, "' is none of ", known));
}

absl::Status SetUpLogging(const std::string& daemon, absl::string_view level) {
  if (absl::Status status = ValidateLogLevel(level); !status.ok()) return status;
  auto logger = std::make_shared<spdlog::logger>(daemon, std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %n: %v", spdlog::pattern_time_type::utc);
  for (const auto& [name, value] : kLevels) {
    if (name == level) logger->set_level(value);
  }
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
  return absl::OkStatus();
}

}  // namespace evenkeel::runtime
