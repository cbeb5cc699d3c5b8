// SPDX-License-Identifier: Apache-2.0
//
// HeatMap: rows of numbers as rows of coloured or shaded cells, as wide as there is room for.
//
// Shades go with the square root of a value over the largest of all rows, so that small ones can be told apart. Where
// a row has more values than there is room, neighbours share a cell, which shows the largest of them.
#pragma once

#include <string>
#include <vector>

namespace evenkeel::cli {

struct HeatRow {
  std::string name;            // before the cells
  std::vector<double> values;  // not negative
  std::string note;            // behind them
};

struct HeatStyle {
  int width = 100;      // characters of a line; rows are at least one cell wide
  bool colour = false;  // by a terminal's 256 colours, else by ASCII characters
};

struct HeatMap {
  std::string text;         // a line a row
  int values_per_cell = 1;  // neighbours that share one
  double largest = 0;       // the value of the last shade
  std::string legend;       // all shades, from 0 to the last
};

// Requires: rows of one length.
HeatMap RenderHeatMap(const std::vector<HeatRow>& rows, const HeatStyle& style);

}  // namespace evenkeel::cli
