// SPDX-License-Identifier: Apache-2.0
//
// What the tests of keelctl's planning commands share: files in the test's folder, and words as they are typed.
#pragma once

#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "catch2/catch.hpp"
#include "nlohmann/json.hpp"

#include "cli/files/file.h"
#include "cli/files/map_formats.h"
#include "cli/keelctl.h"

namespace evenkeel::cli {

using nlohmann::json;

inline std::string Folder() {
  const char* folder = std::getenv("TEST_TMPDIR");
  return std::string(folder != nullptr ? folder : "/tmp") + "/";
}

inline std::string Write(const std::string& name, const std::string& bytes) {
  REQUIRE(WriteFile(Folder() + name, bytes).ok());
  return Folder() + name;
}

struct Answer {
  int status = 0;
  std::string out, err;
};

inline Answer Type(const std::vector<std::string>& words, bool terminal = false) {
  std::ostringstream out, err;
  // No controller is there, and none is asked.
  const int status = RunKeelctl(words, {.default_controller = "127.0.0.1:1", .terminal = terminal}, out, err);
  return {status, out.str(), err.str()};
}

inline json JsonOf(std::vector<std::string> words) {
  words.push_back("--json");
  const Answer answer = Type(words);
  CAPTURE(answer.err);
  REQUIRE(answer.status == 0);
  return json::parse(answer.out);
}

inline MapFile MapIn(const std::string& path, int num_ranks = 0) {
  auto map = ReadMap(path, std::nullopt, {.num_ranks = num_ranks});
  REQUIRE(map.status() == absl::OkStatus());
  return *map;
}

// Two layers of eight experts in three windows; the second layer is the first with its experts reversed.
inline std::string Loads() {
  return Write("loads.json",
               "[[[600,560,120,120,20,10,10,10],[10,10,10,20,120,120,560,600]],"
               "[[600,560,120,120,20,10,10,10],[10,10,10,20,120,120,560,600]],"
               "[[10,10,10,20,120,120,560,600],[600,560,120,120,20,10,10,10]]]");
}

inline std::vector<std::string> Plan(std::vector<std::string> more, const std::string& loads = Loads()) {
  std::vector<std::string> words = {"plan", "--loads", loads, "--ranks=8", "--slots-per-rank=2"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

}  // namespace evenkeel::cli
