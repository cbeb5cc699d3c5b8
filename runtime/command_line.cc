// SPDX-License-Identifier: Apache-2.0
#include "runtime/command_line.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "runtime/version.h"

namespace evenkeel::runtime {
namespace {

std::vector<std::string> WithUnderscores(int argc, char** argv) {
  std::vector<std::string> arguments(argv, argv + argc);
  for (std::string& argument : arguments) {
    if (!absl::StartsWith(argument, "--")) continue;
    const size_t end = std::min(argument.find('='), argument.size());
    std::replace(argument.begin() + 2, argument.begin() + static_cast<ptrdiff_t>(end), '-', '_');
  }
  return arguments;
}

}  // namespace

absl::Status ParseCommandLine(int argc, char** argv, const std::string& usage, const std::string& main_file) {
  absl::SetProgramUsageMessage(usage);
  absl::FlagsUsageConfig config;
  config.contains_helpshort_flags = [main_file](absl::string_view file) { return absl::EndsWith(file, main_file); };
  config.contains_help_flags = config.contains_helpshort_flags;
  config.version_string = [] { return absl::StrCat("evenkeel ", kVersion, "\n"); };
  absl::SetFlagsUsageConfig(config);

  std::vector<std::string> arguments = WithUnderscores(argc, argv);
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  const std::vector<char*> rest = absl::ParseCommandLine(argc, pointers.data());
  if (rest.size() <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("unexpected argument '", rest[1], "'; see --help"));
}

}  // namespace evenkeel::runtime
