// SPDX-License-Identifier: Apache-2.0
//
// Arguments: what was typed after a command's name, checked against the options that the command has.
//
// Accepts --name=value, --name value and --switch; dashes and underscores in names are the same.
//
// Errors:    kInvalidArgument naming the option and the value.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace evenkeel::cli {

struct Option {
  absl::string_view name;
  absl::string_view value;  // what stands for it in help; empty: a switch
  absl::string_view help;
};

class Arguments {
 public:
  static absl::StatusOr<Arguments> Parse(std::span<const Option> options, std::span<const std::string> words);

  bool Has(absl::string_view name) const { return values_.contains(std::string(name)); }
  // `otherwise` where the option was not given.
  std::string Get(absl::string_view name, absl::string_view otherwise = "") const;
  absl::StatusOr<int64_t> GetInteger(absl::string_view name, int64_t otherwise, int64_t low, int64_t high) const;
  // "0,3-5" -> 0 3 4 5; empty where the option was not given. Ascending, each once.
  absl::StatusOr<std::vector<uint32_t>> GetRanges(absl::string_view name, uint32_t high) const;

 private:
  std::map<std::string, std::string> values_;
};

// One aligned line per option.
std::string DescribeOptions(std::span<const Option> options);

}  // namespace evenkeel::cli
