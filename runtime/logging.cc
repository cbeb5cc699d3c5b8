// SPDX-License-Identifier: Apache-2.0
#include "runtime/logging.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace evenkeel::runtime {
namespace {

constexpr std::pair<absl::string_view, spdlog::level::level_enum> kLevels[] = {
    {"trace", spdlog::level::trace},  {"debug", spdlog::level::debug}, {"info", spdlog::level::info},
    {"warning", spdlog::level::warn}, {"error", spdlog::level::err},   {"off", spdlog::level::off},
};

constexpr char kTime[] = "%Y-%m-%dT%H:%M:%S.%eZ";

// A line of JSON a message. What is no valid UTF-8 of a message is replaced.
class JsonFormatter : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    spdlog::memory_buf_t time;
    time_.format(message, time);
    const auto level = spdlog::level::to_string_view(message.level);
    // The fields in the order in which people look for them.
    nlohmann::ordered_json line;
    line["time"] = std::string(time.data(), time.size());
    line["level"] = std::string(level.data(), level.size());
    line["logger"] = std::string(message.logger_name.data(), message.logger_name.size());
    line["message"] = std::string(message.payload.data(), message.payload.size());
    const std::string text = line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override { return std::make_unique<JsonFormatter>(); }

 private:
  spdlog::pattern_formatter time_{kTime, spdlog::pattern_time_type::utc, ""};
};

}  // namespace

absl::Status ValidateLogFormat(absl::string_view format) {
  if (format == "text" || format == "json") return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("log format '", format, "' is none of text, json"));
}

absl::Status ValidateLogLevel(absl::string_view level) {
  std::string known;
  for (const auto& [name, value] : kLevels) {
    if (name == level) return absl::OkStatus();
    absl::StrAppend(&known, known.empty() ? "" : ", ", name);
  }
  return absl::InvalidArgumentError(absl::StrCat("log level '", level, "' is none of ", known));
}

absl::Status SetUpLogging(const std::string& daemon, absl::string_view level, absl::string_view format) {
  if (absl::Status status = ValidateLogLevel(level); !status.ok()) return status;
  if (absl::Status status = ValidateLogFormat(format); !status.ok()) return status;
  auto logger = std::make_shared<spdlog::logger>(daemon, std::make_shared<spdlog::sinks::stderr_sink_mt>());
  if (format == "json") {
    logger->set_formatter(std::make_unique<JsonFormatter>());
  } else {
    logger->set_pattern(absl::StrCat(kTime, " %l %n: %v"), spdlog::pattern_time_type::utc);
  }
  for (const auto& [name, value] : kLevels) {
    if (name == level) logger->set_level(value);
  }
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
  return absl::OkStatus();
}

}  // namespace evenkeel::runtime
