// SPDX-License-Identifier: Apache-2.0
//
// Prompts: what a load run asks for, read from a file that people write.
//
// Each line that is not empty is a prompt; a line that begins with '{' is JSON: {"prompt": text, "max_tokens": number}.
//
// Errors:    kInvalidArgument naming the line.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace evenkeel::cli {

struct Prompt {
  std::string text;
  std::optional<int> tokens_max;  // none: the server's default
};

// At least one prompt.
absl::StatusOr<std::vector<Prompt>> ParsePrompts(std::string_view text);

}  // namespace evenkeel::cli
