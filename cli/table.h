// SPDX-License-Identifier: Apache-2.0
//
// Table: rows of words in aligned columns, and the bars and numbers that people read in them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace evenkeel::cli {

class Table {
 public:
  // Columns whose header begins with '>' are aligned to the right.
  explicit Table(std::vector<std::string> header);

  // Requires: as many cells as the header has.
  void AddRow(std::vector<std::string> cells);
  // Two spaces between columns, no trailing spaces, a newline after each row.
  std::string ToString() const;

 private:
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;  // the header first
};

// `value` of `full` as a bar of `width` characters; longer ones end in '+'.
std::string Bar(double value, double full, int width);

// "1.234", or "-" for 0, which stands for "nothing counted or predicted yet".
std::string ImbalanceText(double imbalance);
// "3.2 MB": decimal units, two or three digits.
std::string BytesText(uint64_t bytes);
// "12.3M": decimal units.
std::string CountText(uint64_t count);

}  // namespace evenkeel::cli
