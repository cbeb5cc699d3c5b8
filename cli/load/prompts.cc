// SPDX-License-Identifier: Apache-2.0
#include "cli/load/prompts.h"

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "algos/base/status_macros.h"

namespace evenkeel::cli {

namespace {

absl::StatusOr<Prompt> ParseJson(std::string_view line, int number) {
  const auto bad = [number](const char* what) {
    return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", what));
  };
  const auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object()) return bad("begins with '{' and is no JSON object");
  if (!json.contains("prompt") || !json["prompt"].is_string()) return bad("\"prompt\" is missing or no text");
  Prompt prompt{.text = json["prompt"].get<std::string>(), .tokens_max = {}};
  if (prompt.text.empty()) return bad("\"prompt\" is empty");
  if (json.contains("max_tokens")) {
    const auto& tokens = json["max_tokens"];
    if (!tokens.is_number_integer() || tokens.get<int64_t>() < 1 || tokens.get<int64_t>() > INT32_MAX) {
      return bad("\"max_tokens\" is no whole number from 1");
    }
    prompt.tokens_max = tokens.get<int>();
  }
  return prompt;
}

}  // namespace

absl::StatusOr<std::vector<Prompt>> ParsePrompts(std::string_view text) {
  std::vector<Prompt> prompts;
  int number = 0;
  while (!text.empty()) {
    ++number;
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty()) continue;
    if (line.front() != '{') {
      prompts.push_back({.text = std::string(line), .tokens_max = {}});
      continue;
    }
    EVENKEEL_ASSIGN_OR_RETURN(Prompt prompt, ParseJson(line, number));
    prompts.push_back(std::move(prompt));
  }
  if (prompts.empty()) return absl::InvalidArgumentError("no prompt in it");
  return prompts;
}

}  // namespace evenkeel::cli
