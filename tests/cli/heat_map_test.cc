// SPDX-License-Identifier: Apache-2.0
#include "cli/heat_map.h"

#include <catch2/catch.hpp>
#include <sstream>

namespace evenkeel::cli {
namespace {

std::vector<std::string> LinesOf(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST_CASE("shades go from nothing to the largest value of all rows", "[heat]") {
  const HeatMap map = RenderHeatMap(
      {{.name = "a", .values = {0, 1, 4, 100}, .note = ""}, {.name = "bb", .values = {100, 0, 0, 25}, .note = "n"}},
      {.width = 11});
  CHECK(map.text == " a | .:@|\nbb |@  +| n\n");
  CHECK(map.largest == 100);
  CHECK(map.values_per_cell == 1);
  CHECK(map.legend == " .:-=+*#%@");
}

TEST_CASE("cells are doubled where there is room and shared where there is none", "[heat]") {
  const std::vector<HeatRow> row = {{.name = "r", .values = {0, 0, 9, 0, 0, 0, 0, 9, 0, 0}, .note = "x"}};
  const HeatMap wide = RenderHeatMap(row, {.width = 26});
  CHECK(wide.text == "r |    @@        @@    | x\n");
  const HeatMap narrow = RenderHeatMap(row, {.width = 11});
  CHECK(narrow.values_per_cell == 2);
  CHECK(narrow.text == "r | @ @ | x\n");
  const HeatMap none = RenderHeatMap(row, {.width = 1});
  CHECK(none.values_per_cell == 10);
  CHECK(none.text == "r |@| x\n");
}

TEST_CASE("no line is wider than asked for, whatever the number of values", "[heat]") {
  const int num_values = GENERATE(1, 31, 32, 33, 256, 1000);
  const int width = GENERATE(20, 80, 120);
  CAPTURE(num_values, width);
  const HeatRow row{
      .name = "layer 7", .values = std::vector<double>(static_cast<size_t>(num_values), 1.0), .note = "1.0"};
  const HeatMap map = RenderHeatMap({row}, {.width = width});
  for (const std::string& line : LinesOf(map.text)) CHECK(line.size() <= static_cast<size_t>(width));
}

TEST_CASE("colours end with the row, and loads of nothing are drawn", "[heat]") {
  const HeatMap map = RenderHeatMap({{.name = "a", .values = {0, 0}, .note = ""}}, {.width = 7, .colour = true});
  CHECK(map.text == "a |\x1b[48;5;17m \x1b[48;5;17m \x1b[0m|\n");
  CHECK(map.largest == 0);
}

}  // namespace
}  // namespace evenkeel::cli
