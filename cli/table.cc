// SPDX-License-Identifier: Apache-2.0
#include "cli/table.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

#include "algos/base/check.h"

namespace evenkeel::cli {

namespace {

std::string Scaled(uint64_t value, absl::string_view unit, absl::string_view space) {
  static constexpr absl::string_view kPrefixes[] = {"", "k", "M", "G", "T", "P"};
  double scaled = static_cast<double>(value);
  size_t prefix = 0;
  while (scaled >= 999.5 && prefix + 1 < std::size(kPrefixes)) {
    scaled /= 1000;
    ++prefix;
  }
  const std::string number =
      prefix == 0 || scaled >= 99.95 ? absl::StrFormat("%.0f", scaled) : absl::StrFormat("%.1f", scaled);
  return absl::StrCat(number, space, kPrefixes[prefix], unit);
}

}  // namespace

Table::Table(std::vector<std::string> header) {
  for (std::string& name : header) {
    right_.push_back(name.starts_with('>'));
    if (right_.back()) name.erase(0, 1);
  }
  rows_.push_back(std::move(header));
}

void Table::AddRow(std::vector<std::string> cells) {
  EVENKEEL_CHECK(cells.size() == right_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::ToString() const {
  std::vector<size_t> widths(right_.size(), 0);
  for (const auto& row : rows_) {
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string padding(widths[c] - row[c].size(), ' ');
      absl::StrAppend(&line, c == 0 ? "" : "  ", right_[c] ? padding : "", row[c], right_[c] ? "" : padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

std::string Bar(double value, double full, int width) {
  const double part = full > 0 ? value / full * width : 0;
  const int filled = std::clamp(static_cast<int>(std::lround(part)), 0, width);
  std::string bar =
      std::string(static_cast<size_t>(filled), '#') + std::string(static_cast<size_t>(width - filled), ' ');
  if (part > width + 0.5) bar.back() = '+';
  return bar;
}

std::string ImbalanceText(double imbalance) { return imbalance > 0 ? absl::StrFormat("%.3f", imbalance) : "-"; }

std::string BytesText(uint64_t bytes) { return Scaled(bytes, "B", " "); }

std::string CountText(uint64_t count) { return Scaled(count, "", ""); }

}  // namespace evenkeel::cli
