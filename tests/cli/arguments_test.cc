// SPDX-License-Identifier: Apache-2.0
#include "cli/arguments.h"

#include "catch2/catch.hpp"

namespace evenkeel::cli {
namespace {

constexpr Option kOptions[] = {{"group", "G", "which"}, {"dry-run", "", "change nothing"}, {"layers", "L", "which"}};

absl::StatusOr<Arguments> Parse(std::vector<std::string> words) { return Arguments::Parse(kOptions, words); }

TEST_CASE("a value may follow its option or stand behind an equals sign", "[arguments]") {
  const auto one = Parse({"--group=a", "--dry-run"});
  const auto two = Parse({"--dry_run", "--group", "a"});
  REQUIRE(one.ok());
  REQUIRE(two.ok());
  CHECK(one->Get("group") == "a");
  CHECK(two->Get("group") == "a");
  CHECK(two->Has("dry-run"));
  CHECK(one->Get("layers", "all") == "all");
}

TEST_CASE("what is typed wrong is named", "[arguments]") {
  CHECK(Parse({"--grp=a"}).status().message() == "--grp is not an option of this command");
  CHECK(Parse({"group"}).status().message() == "'group' is not an option of this command");
  CHECK(Parse({"--"}).status().message() == "'--' is not an option of this command");
  CHECK(Parse({"--group"}).status().message() == "--group needs a value: G");
  CHECK(Parse({"--dry-run=yes"}).status().message() == "--dry-run takes no value");
  CHECK(Parse({"--group=a", "--group=b"}).status().message() == "--group is given twice");
}

TEST_CASE("operands are the words without dashes, in their order, among options in any order", "[arguments]") {
  constexpr Operand kOperands[] = {{"MAP", "a map"}, {"LOADS", "loads"}};
  const auto parse = [&](std::vector<std::string> words) { return Arguments::Parse(kOptions, words, kOperands); };
  const auto both = parse({"a.json", "--group", "g", "b.npy", "--dry-run"});
  REQUIRE(both.ok());
  CHECK(both->Get("MAP") == "a.json");
  CHECK(both->Get("LOADS") == "b.npy");
  CHECK(both->Get("group") == "g");
  CHECK(both->RequireAll(kOperands).ok());
  CHECK(parse({"a.json"})->RequireAll(kOperands).message() == "LOADS is missing: loads");
  CHECK(parse({"a", "b", "c"}).status().message() == "'c' is one operand too many: LOADS is the last");
  CHECK(parse({"-a"}).status().message() == "'-a' is not an option of this command");
  CHECK(DescribeOperands(kOperands) == "  MAP                     a map\n  LOADS                   loads\n");
}

TEST_CASE("numbers are finite and held to their range", "[arguments]") {
  CHECK(*Parse({"--group=0.5"})->GetNumber("group", 1, 0, 9) == 0.5);
  CHECK(*Parse({})->GetNumber("group", 1, 0, 9) == 1);
  for (const char* wrong : {"10", "-1", "x", "", "nan", "inf"}) {
    CAPTURE(wrong);
    CHECK_FALSE(Parse({std::string("--group=") + wrong})->GetNumber("group", 1, 0, 9).ok());
  }
  CHECK_FALSE(Parse({"--group=1e999"})->GetNumber("group", 1, 0, 1e308).ok());
}

TEST_CASE("integers are held to their range", "[arguments]") {
  CHECK(*Parse({"--group=7"})->GetInteger("group", 1, 0, 9) == 7);
  CHECK(*Parse({})->GetInteger("group", 1, 0, 9) == 1);
  for (const char* wrong : {"10", "-1", "x", "", "7.5"}) {
    CAPTURE(wrong);
    CHECK_FALSE(Parse({std::string("--group=") + wrong})->GetInteger("group", 1, 0, 9).ok());
  }
}

TEST_CASE("ranges are written out, ascending and each once", "[arguments]") {
  CHECK(*Parse({"--layers=5,0-2,1"})->GetRanges("layers", 9) == std::vector<uint32_t>{0, 1, 2, 5});
  CHECK(Parse({})->GetRanges("layers", 9)->empty());
  for (const char* wrong : {"3-1", "10", "1-2-3", "a", "", "1,,2", "-1"}) {
    CAPTURE(wrong);
    CHECK_FALSE(Parse({std::string("--layers=") + wrong})->GetRanges("layers", 9).ok());
  }
}

TEST_CASE("options are described in one column", "[arguments]") {
  CHECK(DescribeOptions(kOptions) ==
        "  --group=G               which\n"
        "  --dry-run               change nothing\n"
        "  --layers=L              which\n");
}

}  // namespace
}  // namespace evenkeel::cli
