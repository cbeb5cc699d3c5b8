// SPDX-License-Identifier: Apache-2.0
#include "cli/arguments.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace evenkeel::cli {

namespace {

// One aligned line of help.
std::string Line(const std::string& left, absl::string_view help) {
  return absl::StrCat("  ", left, std::string(left.size() < 24 ? 24 - left.size() : 1, ' '), help, "\n");
}

bool TakesMore(const Operand& operand) { return absl::EndsWith(operand.name, "..."); }

// As it was typed: options with dashes, operands, in capitals, without.
std::string Typed(absl::string_view name, const std::string& value) {
  return absl::ascii_isupper(static_cast<unsigned char>(name[0])) ? absl::StrCat(name, " ", value)
                                                                  : absl::StrCat("--", name, "=", value);
}

}  // namespace

absl::StatusOr<Arguments> Arguments::Parse(std::span<const Option> options, std::span<const std::string> words,
                                           std::span<const Operand> operands) {
  Arguments arguments;
  size_t num_operands = 0;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (!word.starts_with("-") && num_operands == operands.size() && num_operands > 0 && TakesMore(operands.back())) {
      absl::StrAppend(&arguments.values_[std::string(operands.back().name)], ",", word);
      continue;
    }
    if (!word.starts_with("-") && num_operands < operands.size()) {
      arguments.values_[std::string(operands[num_operands++].name)] = word;
      continue;
    }
    if (!word.starts_with("-") && !operands.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", word, "' is one operand too many: ", operands.back().name, " is the last"));
    }
    if (!word.starts_with("--") || word.size() == 2) {
      return absl::InvalidArgumentError(absl::StrCat("'", word, "' is not an option of this command"));
    }
    const size_t equals = word.find('=');
    const std::string name =
        absl::StrReplaceAll(word.substr(2, equals == std::string::npos ? equals : equals - 2), {{"_", "-"}});
    const auto option = std::ranges::find_if(options, [&](const Option& o) { return o.name == name; });
    if (option == options.end()) {
      return absl::InvalidArgumentError(absl::StrCat("--", name, " is not an option of this command"));
    }
    if (arguments.Has(name)) {
      const bool joined = option->value.find(',') != std::string_view::npos;
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, " is given twice", joined ? "; several values are joined by commas" : ""));
    }
    if (option->value.empty()) {
      if (equals != std::string::npos) return absl::InvalidArgumentError(absl::StrCat("--", name, " takes no value"));
      arguments.values_[name] = "";
    } else if (equals != std::string::npos) {
      arguments.values_[name] = word.substr(equals + 1);
    } else if (i + 1 < words.size()) {
      arguments.values_[name] = words[++i];
    } else {
      return absl::InvalidArgumentError(absl::StrCat("--", name, " needs a value: ", option->value));
    }
  }
  return arguments;
}

absl::Status Arguments::RequireAll(std::span<const Operand> operands) const {
  for (const Operand& operand : operands) {
    if (!Has(operand.name)) {
      return absl::InvalidArgumentError(absl::StrCat(operand.name, " is missing: ", operand.help));
    }
  }
  return absl::OkStatus();
}

std::string Arguments::Get(absl::string_view name, absl::string_view otherwise) const {
  const auto found = values_.find(std::string(name));
  return found == values_.end() ? std::string(otherwise) : found->second;
}

absl::StatusOr<int64_t> Arguments::GetInteger(absl::string_view name, int64_t otherwise, int64_t low,
                                              int64_t high) const {
  if (!Has(name)) return otherwise;
  int64_t value = 0;
  if (!absl::SimpleAtoi(Get(name), &value) || value < low || value > high) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", name, "=", Get(name), ": must be a whole number from ", low, " to ", high));
  }
  return value;
}

absl::StatusOr<double> Arguments::GetNumber(absl::string_view name, double otherwise, double low, double high) const {
  if (!Has(name)) return otherwise;
  double value = 0;
  if (!absl::SimpleAtod(Get(name), &value) || !(value >= low && value <= high) || std::isinf(value)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", name, "=", Get(name), ": must be a number from ", low, " to ", high));
  }
  return value;
}

absl::StatusOr<std::vector<uint32_t>> Arguments::GetRanges(absl::string_view name, uint32_t high) const {
  std::set<uint32_t> values;
  if (!Has(name)) return std::vector<uint32_t>{};
  for (absl::string_view part : absl::StrSplit(Get(name), ',')) {
    const std::vector<absl::string_view> ends = absl::StrSplit(part, '-');
    uint32_t first = 0, last = 0;
    if (ends.size() > 2 || !absl::SimpleAtoi(ends.front(), &first) || !absl::SimpleAtoi(ends.back(), &last) ||
        first > last || last > high) {
      return absl::InvalidArgumentError(absl::StrCat(Typed(name, Get(name)), ": '", part,
                                                     "' is neither a number nor a range like 3-5 within 0 to ", high));
    }
    for (uint32_t value = first; value <= last; ++value) values.insert(value);
  }
  return std::vector<uint32_t>(values.begin(), values.end());
}

std::string DescribeOptions(std::span<const Option> options) {
  std::string text;
  for (const Option& option : options) {
    const std::string left =
        option.value.empty() ? absl::StrCat("--", option.name) : absl::StrCat("--", option.name, "=", option.value);
    text += Line(left, option.help);
  }
  return text;
}

std::string DescribeOperands(std::span<const Operand> operands) {
  std::string text;
  for (const Operand& operand : operands) text += Line(std::string(operand.name), operand.help);
  return text;
}

}  // namespace evenkeel::cli
