// SPDX-License-Identifier: Apache-2.0
#include "cli/load/load_run.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "httplib.h"
#include "nlohmann/json.hpp"

namespace evenkeel::cli {

namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(5);
constexpr absl::Duration kRankTimeout = absl::Seconds(10);  // until any rank takes requests

// What went wrong, or nothing; the answer's text.
std::string Send(const std::string& url, const Prompt& prompt, absl::Duration timeout, Attempt& attempt,
                 std::string& text) {
  httplib::Client client(url);
  client.set_connection_timeout(absl::ToChronoSeconds(kConnectTimeout));
  client.set_read_timeout(absl::ToChronoSeconds(timeout));
  client.set_write_timeout(absl::ToChronoSeconds(timeout));
  nlohmann::ordered_json body = {{"prompt", prompt.text}};
  if (prompt.tokens_max.has_value()) body["max_tokens"] = *prompt.tokens_max;
  const std::string sent = body.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  const httplib::Result result = client.Post("/v1/completions", sent, "application/json");
  if (!result) return absl::StrCat("no answer: ", httplib::to_string(result.error()));
  attempt.status = result->status;
  const auto answer = nlohmann::json::parse(result->body, nullptr, false);
  if (result->status == 200 && answer.is_object() && answer.contains("text") && answer["text"].is_string()) {
    text = answer["text"].get<std::string>();
    return {};
  }
  const bool explained = answer.is_object() && answer.contains("error") && answer["error"].is_string();
  return absl::StrCat("HTTP ", result->status, explained ? ": " + answer["error"].get<std::string>() : "");
}

void Try(const LoadOptions& options, const LoadParts& parts, std::optional<int> but, LoadRecord& record) {
  Attempt attempt;
  const absl::Time begin = absl::Now();
  const std::optional<int> rank = parts.ranks->Await(but, begin + kRankTimeout);
  if (!rank.has_value()) {
    attempt.error = "no rank takes requests";
  } else {
    attempt.rank = *rank;
    const absl::StatusOr<std::string> url = parts.urls->Of(*rank);
    const Prompt& prompt = (*parts.prompts)[static_cast<size_t>(record.request) % parts.prompts->size()];
    attempt.error =
        url.ok() ? Send(*url, prompt, options.timeout, attempt, record.text) : std::string(url.status().message());
  }
  attempt.seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  record.attempts.push_back(std::move(attempt));
}

double Percentile(const std::vector<double>& sorted, double fraction) {
  const auto at = static_cast<size_t>(std::ceil(fraction * static_cast<double>(sorted.size())));
  return sorted[std::max<size_t>(at, 1) - 1];
}

}  // namespace

std::vector<LoadRecord> RunLoad(const LoadOptions& options, const LoadParts& parts) {
  std::vector<LoadRecord> records(static_cast<size_t>(options.num_requests));
  std::atomic<int> next = 0;
  absl::Mutex told;
  const auto work = [&] {
    for (int i = next++; i < options.num_requests; i = next++) {
      LoadRecord& record = records[static_cast<size_t>(i)];
      record.request = i;
      Try(options, parts, std::nullopt, record);
      if (!record.ok() && options.retry) {
        const int failed = record.attempts.front().rank;
        Try(options, parts, failed < 0 ? std::nullopt : std::optional<int>(failed), record);
      }
      absl::MutexLock lock(&told);
      if (parts.on_done) parts.on_done(record);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < std::min(options.concurrency, options.num_requests); ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  return records;
}

LoadTotals TotalsOf(const std::vector<LoadRecord>& records, double seconds) {
  LoadTotals totals;
  totals.num_requests = static_cast<int>(records.size());
  totals.seconds = seconds;
  std::vector<double> latencies;
  for (const LoadRecord& record : records) {
    if (!record.ok()) {
      ++totals.num_failed;
      continue;
    }
    ++totals.num_ok;
    totals.num_ok_at_once += record.attempts.size() == 1;
    ++totals.ok_of_rank[record.attempts.back().rank];
    double latency = 0;
    for (const Attempt& attempt : record.attempts) latency += attempt.seconds;
    latencies.push_back(latency);
    totals.mean_seconds += latency;
  }
  if (latencies.empty()) return totals;
  std::sort(latencies.begin(), latencies.end());
  totals.mean_seconds /= static_cast<double>(latencies.size());
  totals.min_seconds = latencies.front();
  totals.max_seconds = latencies.back();
  totals.p50_seconds = Percentile(latencies, 0.5);
  totals.p99_seconds = Percentile(latencies, 0.99);
  return totals;
}

nlohmann::ordered_json ToJson(const LoadTotals& totals, const std::vector<LoadRecord>& records) {
  nlohmann::ordered_json by_rank = nlohmann::ordered_json::object();
  for (const auto& [rank, num_ok] : totals.ok_of_rank) by_rank[std::to_string(rank)] = num_ok;
  nlohmann::ordered_json requests = nlohmann::ordered_json::array();
  for (const LoadRecord& record : records) {
    nlohmann::ordered_json attempts = nlohmann::ordered_json::array();
    for (const Attempt& attempt : record.attempts) {
      attempts.push_back(
          {{"rank", attempt.rank}, {"status", attempt.status}, {"error", attempt.error}, {"seconds", attempt.seconds}});
    }
    requests.push_back(
        {{"request", record.request}, {"ok", record.ok()}, {"attempts", attempts}, {"text", record.text}});
  }
  return {{"totals",
           {{"requests", totals.num_requests},
            {"ok", totals.num_ok},
            {"ok_at_once", totals.num_ok_at_once},
            {"failed", totals.num_failed},
            {"seconds", totals.seconds},
            {"latency_seconds",
             {{"mean", totals.mean_seconds},
              {"min", totals.min_seconds},
              {"max", totals.max_seconds},
              {"p50", totals.p50_seconds},
              {"p99", totals.p99_seconds}}},
            {"ok_of_rank", by_rank}}},
          {"requests", requests}};
}

}  // namespace evenkeel::cli
