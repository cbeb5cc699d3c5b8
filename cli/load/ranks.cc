// SPDX-License-Identifier: Apache-2.0
#include "cli/load/ranks.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"

#include "algos/base/status_macros.h"
#include "cli/files/file.h"

namespace evenkeel::cli {

namespace {

constexpr size_t kFileBytesMax = 16 << 20;
constexpr int kRankMax = 1 << 20;

absl::Status CheckUrl(const std::string& url) {
  if (absl::StartsWith(url, "http://") && url.size() > 7) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--url: '", url, "' does not begin with http://"));
}

absl::StatusOr<int> ToRank(const std::string& text) {
  int rank = 0;
  if (absl::SimpleAtoi(text, &rank) && rank >= 0 && rank <= kRankMax) return rank;
  return absl::InvalidArgumentError(absl::StrCat("--url: '", text, "' is no rank"));
}

absl::Status Add(const std::string& rank_text, const std::string& url, std::map<int, std::string>& list) {
  EVENKEEL_ASSIGN_OR_RETURN(const int rank, ToRank(rank_text));
  EVENKEEL_RETURN_IF_ERROR(CheckUrl(url));
  if (!list.emplace(rank, url).second) {
    return absl::InvalidArgumentError(absl::StrCat("--url: rank ", rank, " is given twice"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RankUrls> RankUrls::Parse(const std::string& text) {
  RankUrls urls;
  if (absl::StartsWith(text, "@")) {
    urls.file_ = text.substr(1);
    EVENKEEL_RETURN_IF_ERROR(urls.List().status());
    return urls;
  }
  const size_t open = text.find('{'), close = text.find("rank}");
  if (open != std::string::npos && close != std::string::npos && open < close) {
    std::string first = text.substr(open + 1, close - open - 1);
    const bool has_sum = absl::EndsWith(first, "+");
    if (has_sum) first.pop_back();
    if (has_sum != !first.empty() || (has_sum && (!absl::SimpleAtoi(first, &urls.first_) || urls.first_ < 0))) {
      return absl::InvalidArgumentError(absl::StrCat("--url: '", text, "': wanted {rank} or {NUMBER+rank}"));
    }
    urls.pattern_ = true;
    urls.before_ = text.substr(0, open);
    urls.after_ = text.substr(close + 5);
    EVENKEEL_RETURN_IF_ERROR(CheckUrl(absl::StrCat(urls.before_, 0)));
    return urls;
  }
  if (text.find('=') == std::string::npos) {
    EVENKEEL_RETURN_IF_ERROR(Add("0", text, urls.list_));
    return urls;
  }
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(text, ','))) {
    const std::pair<std::string, std::string> entry = absl::StrSplit(part, absl::MaxSplits('=', 1));
    EVENKEEL_RETURN_IF_ERROR(Add(entry.first, entry.second, urls.list_));
  }
  return urls;
}

absl::StatusOr<std::map<int, std::string>> RankUrls::List() const {
  if (file_.empty()) return list_;
  EVENKEEL_ASSIGN_OR_RETURN(const std::string text, ReadFile(file_, kFileBytesMax));
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return absl::InvalidArgumentError(absl::StrCat(file_, ": no JSON object of URLs by rank"));
  std::map<int, std::string> list;
  for (const auto& [rank, url] : json.items()) {
    if (!url.is_string()) return absl::InvalidArgumentError(absl::StrCat(file_, ": rank ", rank, " has no URL"));
    EVENKEEL_RETURN_IF_ERROR(Add(rank, url.get<std::string>(), list));
  }
  return list;
}

absl::StatusOr<std::string> RankUrls::Of(int rank) const {
  if (pattern_) return absl::StrCat(before_, first_ + rank, after_);
  EVENKEEL_ASSIGN_OR_RETURN(const auto list, List());
  const auto found = list.find(rank);
  if (found == list.end()) return absl::NotFoundError(absl::StrCat("no URL of rank ", rank, " is known"));
  return found->second;
}

absl::StatusOr<std::set<int>> RankUrls::Listed() const {
  std::set<int> ranks;
  if (pattern_) return ranks;
  EVENKEEL_ASSIGN_OR_RETURN(const auto list, List());
  for (const auto& [rank, url] : list) ranks.insert(rank);
  return ranks;
}

void Ranks::Set(std::set<int> serving) {
  absl::MutexLock lock(&mutex_);
  serving_ = std::move(serving);
}

std::set<int> Ranks::serving() const {
  absl::MutexLock lock(&mutex_);
  return serving_;
}

std::optional<int> Ranks::Next(std::optional<int> but) {
  absl::MutexLock lock(&mutex_);
  return Take(but);
}

std::optional<int> Ranks::Await(std::optional<int> but, absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  const auto any_serves = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !serving_.empty(); };
  mutex_.AwaitWithDeadline(absl::Condition(&any_serves), deadline);
  return Take(but);
}

std::optional<int> Ranks::Take(std::optional<int> but) {
  if (serving_.empty()) return std::nullopt;
  const auto after = [this](int rank) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto found = serving_.upper_bound(rank);
    return found == serving_.end() ? *serving_.begin() : *found;
  };
  int next = after(last_);
  if (next == but) next = after(next);
  last_ = next;
  return next;
}

}  // namespace evenkeel::cli
