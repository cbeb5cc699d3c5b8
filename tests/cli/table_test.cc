// SPDX-License-Identifier: Apache-2.0
#include "cli/table.h"

#include "catch2/catch.hpp"

namespace evenkeel::cli {
namespace {

TEST_CASE("columns are as wide as their widest cell", "[table]") {
  Table table({"NAME", ">N"});
  table.AddRow({"a", "1000"});
  table.AddRow({"longer", "7"});
  CHECK(table.ToString() ==
        "NAME       N\n"
        "a       1000\n"
        "longer     7\n");
}

TEST_CASE("lines have no trailing spaces", "[table]") {
  Table table({"A", "B"});
  table.AddRow({"x", ""});
  CHECK(table.ToString() == "A  B\nx\n");
}

TEST_CASE("a bar shows its part, and that it is over", "[table]") {
  CHECK(Bar(5, 10, 4) == "##  ");
  CHECK(Bar(0, 10, 4) == "    ");
  CHECK(Bar(10, 10, 4) == "####");
  CHECK(Bar(20, 10, 4) == "###+");
  CHECK(Bar(1, 0, 4) == "    ");
}

TEST_CASE("numbers are short, and nothing known is a dash", "[table]") {
  CHECK(ImbalanceText(1.23456) == "1.235");
  CHECK(ImbalanceText(0) == "-");
  CHECK(BytesText(0) == "0 B");
  CHECK(BytesText(999) == "999 B");
  CHECK(BytesText(1000) == "1.0 kB");
  CHECK(BytesText(44'000'000) == "44.0 MB");
  CHECK(CountText(123'456'789) == "123M");
}

}  // namespace
}  // namespace evenkeel::cli
