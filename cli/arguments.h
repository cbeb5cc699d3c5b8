// SPDX-License-Identifier: Apache-2.0
//
// Arguments: what was typed after a command's name, checked against the options and operands that the command has.
//
// Accepts --name=value, --name value and --switch; dashes and underscores in names are the same. Words without
// dashes in front are the operands, in their order.
//
// Errors:    kInvalidArgument naming the option and the value.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace evenkeel::cli {

struct Option {
  absl::string_view name;
  absl::string_view value;  // what stands for it in help; empty: a switch
  absl::string_view help;
};

// What is typed without a name: a file to read. The last of a command may take several words: its name ends in "...",
// and its value is the words with commas between.
struct Operand {
  absl::string_view name;  // as help shows it, in capitals
  absl::string_view help;
};

class Arguments {
 public:
  // Operands may be missing (--help needs none) but not too many.
  static absl::StatusOr<Arguments> Parse(std::span<const Option> options, std::span<const std::string> words,
                                         std::span<const Operand> operands = {});

  // Names the first of `operands` that was not given.
  absl::Status RequireAll(std::span<const Operand> operands) const;

  // All take the name of an option or of an operand.
  bool Has(absl::string_view name) const { return values_.contains(std::string(name)); }
  // `otherwise` where the option was not given.
  std::string Get(absl::string_view name, absl::string_view otherwise = "") const;
  absl::StatusOr<int64_t> GetInteger(absl::string_view name, int64_t otherwise, int64_t low, int64_t high) const;
  // Finite, from `low` to `high`.
  absl::StatusOr<double> GetNumber(absl::string_view name, double otherwise, double low, double high) const;
  // "0,3-5" -> 0 3 4 5; empty where the option was not given. Ascending, each once.
  absl::StatusOr<std::vector<uint32_t>> GetRanges(absl::string_view name, uint32_t high) const;

 private:
  std::map<std::string, std::string> values_;
};

// One aligned line per option or operand.
std::string DescribeOptions(std::span<const Option> options);
std::string DescribeOperands(std::span<const Operand> operands);

}  // namespace evenkeel::cli
