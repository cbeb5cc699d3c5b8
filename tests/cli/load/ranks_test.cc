// SPDX-License-Identifier: Apache-2.0
#include "cli/load/ranks.h"

#include <cstdlib>
#include <fstream>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

namespace evenkeel::cli {
namespace {

std::string UrlOf(const std::string& text, int rank) {
  const auto urls = RankUrls::Parse(text);
  REQUIRE(urls.ok());
  const auto url = urls->Of(rank);
  return url.ok() ? *url : std::string(url.status().message());
}

TEST_CASE("URLs of ranks are one, a pattern, or a list", "[ranks]") {
  CHECK(UrlOf("http://a:1", 0) == "http://a:1");
  CHECK(UrlOf("http://a:1", 1) == "no URL of rank 1 is known");
  CHECK(UrlOf("http://a:{8100+rank}", 7) == "http://a:8107");
  CHECK(UrlOf("http://gpu{rank}:80/x", 3) == "http://gpu3:80/x");
  CHECK(UrlOf("0=http://a:1,5=http://b:2?x=y", 5) == "http://b:2?x=y");
  CHECK(*RankUrls::Parse("0=http://a:1,5=http://b:2")->Listed() == std::set<int>{0, 5});
  CHECK(RankUrls::Parse("http://a:{8100+rank}")->Listed()->empty());
}

TEST_CASE("a file of URLs is read anew, so that ranks may be added", "[ranks]") {
  const char* directory = std::getenv("TEST_TMPDIR");
  REQUIRE(directory != nullptr);
  const std::string path = std::string(directory) + "/urls.json";
  CHECK(absl::IsNotFound(RankUrls::Parse("@" + path).status()));
  std::ofstream(path) << R"({"0": "http://a:1"})";
  const auto urls = RankUrls::Parse("@" + path);
  REQUIRE(urls.ok());
  CHECK(!urls->Of(8).ok());
  std::ofstream(path) << R"({"0": "http://a:1", "8": "http://b:2"})";
  CHECK(*urls->Of(8) == "http://b:2");
  std::ofstream(path) << "[]";
  CHECK(!urls->Of(8).ok());
}

TEST_CASE("URLs that make no sense are refused with their part", "[ranks]") {
  const auto message = [](const std::string& text) { return std::string(RankUrls::Parse(text).status().message()); };
  CHECK(message("") == "--url: '' does not begin with http://");
  CHECK(message("ftp://x") == "--url: 'ftp://x' does not begin with http://");
  CHECK(message("http://a:{8100rank}") == "--url: 'http://a:{8100rank}': wanted {rank} or {NUMBER+rank}");
  CHECK(message("http://a:{x+rank}") == "--url: 'http://a:{x+rank}': wanted {rank} or {NUMBER+rank}");
  CHECK(message("x=http://a") == "--url: 'x' is no rank");
  CHECK(message("0=http://a,0=http://b") == "--url: rank 0 is given twice");
}

TEST_CASE("ranks take turns, and one that failed is passed over where others serve", "[ranks]") {
  Ranks ranks;
  CHECK(!ranks.Next(std::nullopt).has_value());
  ranks.Set({1, 4, 6});
  std::vector<int> turns;
  for (int i = 0; i < 4; ++i) turns.push_back(*ranks.Next(std::nullopt));
  CHECK(turns == std::vector<int>{1, 4, 6, 1});
  CHECK(ranks.Next(4) == 6);
  ranks.Set({4});
  CHECK(ranks.Next(4) == 4);
}

}  // namespace
}  // namespace evenkeel::cli
