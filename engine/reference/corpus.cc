// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/corpus.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace evenkeel::engine {

absl::StatusOr<Corpus> Corpus::Load(const std::string& dir) {
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
    if (entry.path().extension() == ".txt") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) return absl::NotFoundError(absl::StrCat("no text in ", dir));
  Corpus corpus;
  for (const std::filesystem::path& path : files) {
    std::ifstream file(path, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (!file || text.empty()) return absl::InvalidArgumentError(absl::StrCat("no text in ", path.string()));
    corpus.domains_.push_back(path.stem().string());
    corpus.texts_.push_back(std::move(text));
  }
  return corpus;
}

absl::Status Corpus::Check(int bytes) const {
  for (size_t i = 0; i < texts_.size(); ++i) {
    if (texts_[i].size() < static_cast<size_t>(bytes)) {
      return absl::InvalidArgumentError(absl::StrCat("prompts of ", bytes, " bytes: the text of domain ", domains_[i],
                                                     " has only ", texts_[i].size()));
    }
  }
  return absl::OkStatus();
}

std::vector<uint8_t> Corpus::Window(size_t domain, int bytes, Rng& rng) const {
  const std::string& text = texts_[domain];
  const size_t first = rng.Below(text.size() - static_cast<size_t>(bytes) + 1);
  const auto begin = text.begin() + static_cast<ptrdiff_t>(first);
  return {begin, begin + bytes};
}

absl::StatusOr<Mix> Mix::Parse(const std::string& schedule, const std::vector<std::string>& domains) {
  Mix mix;
  for (const absl::string_view part : absl::StrSplit(schedule, ',')) {
    const std::vector<std::string> fields = absl::StrSplit(part, ':');
    double seconds = 0;
    if (fields.size() != 2 || !absl::SimpleAtod(fields[1], &seconds) || !(seconds > 0) || seconds > 1e6) {
      return absl::InvalidArgumentError(
          absl::StrCat("mix: '", part, "' is not <domain>:<seconds>, as in python:10,cxx:10"));
    }
    std::vector<double> weights(domains.size());
    const auto found = std::find(domains.begin(), domains.end(), fields[0]);
    if (fields[0] == "mixed") {
      std::fill(weights.begin(), weights.end(), 1.0 / static_cast<double>(domains.size()));
    } else if (found != domains.end()) {
      weights[static_cast<size_t>(found - domains.begin())] = 1;
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("mix: no domain ", fields[0], "; there are ", absl::StrJoin(domains, ", "), " and mixed"));
    }
    mix.parts_.push_back({std::move(weights), absl::Seconds(seconds)});
    mix.total_ += absl::Seconds(seconds);
  }
  return mix;
}

std::vector<double> Mix::At(absl::Duration elapsed) const {
  elapsed %= total_;
  size_t i = 0;
  while (i + 1 < parts_.size() && elapsed >= parts_[i].length) elapsed -= parts_[i++].length;
  const double moved = absl::FDivDuration(elapsed, parts_[i].length);
  const std::vector<double>& next = parts_[(i + 1) % parts_.size()].weights;
  std::vector<double> weights = parts_[i].weights;
  for (size_t d = 0; d < weights.size(); ++d) weights[d] += moved * (next[d] - weights[d]);
  return weights;
}

size_t Mix::Draw(absl::Duration elapsed, Rng& rng) const {
  const std::vector<double> weights = At(elapsed);
  double left = rng.Uniform();
  for (size_t d = 0; d < weights.size(); ++d) {
    left -= weights[d];
    if (left < 0) return d;
  }
  return static_cast<size_t>(std::max_element(weights.begin(), weights.end()) - weights.begin());
}

}  // namespace evenkeel::engine
