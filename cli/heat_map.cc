// SPDX-License-Identifier: Apache-2.0
#include "cli/heat_map.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string_view>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"

namespace evenkeel::cli {

namespace {

constexpr std::string_view kShades = " .:-=+*#%@";
// Of the 256 colours of terminals: from deep blue over green to red.
constexpr std::array kColours = {17, 18, 19, 25, 31, 37, 36, 35, 71, 107, 143, 179, 178, 172, 166, 160, 196};

// `shade` as a cell of `columns` characters; colours go on to the end of the row, where they are reset.
std::string Cell(size_t shade, bool colour, int columns) {
  const auto count = static_cast<size_t>(columns);
  if (!colour) return std::string(count, kShades[shade]);
  return absl::StrCat("\x1b[48;5;", kColours[shade], "m", std::string(count, ' '));
}

std::string Ended(std::string cells, bool colour) { return colour ? std::move(cells) + "\x1b[0m" : std::move(cells); }

}  // namespace

HeatMap RenderHeatMap(const std::vector<HeatRow>& rows, const HeatStyle& style) {
  HeatMap map;
  size_t name_width = 0, note_width = 0, num_values = 0;
  for (const HeatRow& row : rows) {
    EVENKEEL_CHECK(num_values == 0 || row.values.size() == num_values);
    num_values = row.values.size();
    name_width = std::max(name_width, row.name.size());
    note_width = std::max(note_width, row.note.size());
    for (double value : row.values) map.largest = std::max(map.largest, value);
  }
  const size_t taken = name_width + note_width + 4;  // bars or spaces around the cells
  const size_t room = std::max(static_cast<size_t>(std::max(style.width, 1)), taken + 1) - taken;
  const size_t per_cell = std::max<size_t>(1, (num_values + room - 1) / room);
  const size_t num_cells = (num_values + per_cell - 1) / per_cell;
  const int columns = num_cells * 2 <= room ? 2 : 1;
  map.values_per_cell = static_cast<int>(per_cell);
  const size_t num_shades = style.colour ? kColours.size() : kShades.size();
  for (const HeatRow& row : rows) {
    std::string cells;
    for (size_t first = 0; first < num_values; first += per_cell) {
      const auto begin = row.values.begin() + static_cast<std::ptrdiff_t>(first);
      const double value =
          *std::max_element(begin, begin + static_cast<std::ptrdiff_t>(std::min(per_cell, num_values - first)));
      const double part = map.largest > 0 ? std::sqrt(value / map.largest) : 0;
      cells +=
          Cell(static_cast<size_t>(std::lround(part * static_cast<double>(num_shades - 1))), style.colour, columns);
    }
    absl::StrAppend(&map.text, std::string(name_width - row.name.size(), ' '), row.name, " |",
                    Ended(cells, style.colour), row.note.empty() ? "|" : "| ", row.note, "\n");
  }
  std::string legend;
  for (size_t shade = 0; shade < num_shades; ++shade) legend += Cell(shade, style.colour, 1);
  map.legend = Ended(legend, style.colour);
  return map;
}

}  // namespace evenkeel::cli
