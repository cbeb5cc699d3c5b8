// SPDX-License-Identifier: Apache-2.0
//
// Golden: reads the text files of this folder: lines of a word and numbers, after a first line that starts with
// "# Origin:". Repeated words are rows of one table.
#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace evenkeel::testing {

class Golden {
 public:
  // `name` is a file of tests/golden. Throws where it cannot be read or does not name its origin.
  explicit Golden(const std::string& name) {
    std::ifstream file("tests/golden/" + name);
    std::string line;
    if (!std::getline(file, line) || line.rfind("# Origin:", 0) != 0) {
      throw std::runtime_error(name + ": not readable or without origin");
    }
    while (std::getline(file, line)) {
      std::istringstream words(line);
      std::string word;
      if (!(words >> word)) continue;
      std::vector<int64_t>& row = tables_[word].emplace_back();
      for (int64_t value = 0; words >> value;) row.push_back(value);
    }
  }

  int number(const std::string& word) const { return static_cast<int>(tables_.at(word).at(0).at(0)); }

  const std::vector<std::vector<int64_t>>& rows(const std::string& word) const { return tables_.at(word); }

  // All rows of the word, one after another.
  template <typename T>
  std::vector<T> flat(const std::string& word) const {
    std::vector<T> values;
    for (const auto& row : tables_.at(word)) {
      for (int64_t value : row) values.push_back(static_cast<T>(value));
    }
    return values;
  }

 private:
  std::map<std::string, std::vector<std::vector<int64_t>>> tables_;
};

}  // namespace evenkeel::testing
