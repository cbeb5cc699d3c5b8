// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/status.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace evenkeel::engine {
namespace {

constexpr double kBucketsPerOctave = 8;

std::string PathOf(const std::string& run_dir, int rank) { return absl::StrCat(run_dir, "/engine-", rank, ".json"); }

const char* NameOf(EngineState state) {
  switch (state) {
    case EngineState::kStarting:
      return "starting";
    case EngineState::kOutside:
      return "outside";
    case EngineState::kServing:
      return "serving";
    case EngineState::kStopping:
      return "stopping";
    case EngineState::kEnded:
      return "ended";
  }
  return "unknown";
}

}  // namespace

void DurationHistogram::Add(absl::Duration duration) {
  const double us = std::max(1.0, absl::ToDoubleMicroseconds(duration));
  const int bucket = std::min(kBuckets - 1, static_cast<int>(std::log2(us) * kBucketsPerOctave));
  counts_[static_cast<size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  const int64_t ns = absl::ToInt64Nanoseconds(duration);
  for (int64_t max = max_ns_; ns > max && !max_ns_.compare_exchange_weak(max, ns);) {
  }
}

double DurationHistogram::PercentileMs(double fraction) const {
  uint64_t total = 0;
  for (const auto& count : counts_) total += count.load(std::memory_order_relaxed);
  const double wanted = fraction * static_cast<double>(total);
  uint64_t seen = 0;
  for (int bucket = 0; bucket < kBuckets; ++bucket) {
    seen += counts_[static_cast<size_t>(bucket)].load(std::memory_order_relaxed);
    if (seen > 0 && static_cast<double>(seen) >= wanted) return std::exp2((bucket + 1) / kBucketsPerOctave) / 1000;
  }
  return 0;
}

absl::Status WriteStatus(const std::string& run_dir, const EngineIdentity& identity, const Counters& counters,
                         const std::string& error) {
  const uint64_t epoch = counters.epoch;
  const nlohmann::ordered_json status = {
      {"rank", identity.rank},
      {"pid", getpid()},
      {"incarnation", identity.incarnation},
      {"state", NameOf(counters.state)},
      {"error", error},
      {"epoch", absl::StrCat(epoch >> 32, ".", epoch & 0xFFFFFFFFu)},
      {"steps", counters.steps.load()},
      {"tokens", counters.tokens.load()},
      {"sequences", counters.sequences.load()},
      {"requests", counters.requests.load()},
      {"url", identity.url},
      {"checked_tokens", counters.checked_tokens.load()},
      {"mismatched_tokens", counters.mismatched_tokens.load()},
      {"stale_slot_uses", counters.stale_slot_uses.load()},
      {"library_calls", counters.library_calls.num_watched()},
      {"calls_that_waited", counters.library_calls.num_waited()},
      {"calls_that_slept_in_faults", counters.library_calls.num_slept_in_faults()},
      {"dropped_tokens", counters.dropped_tokens.load()},
      {"dropped_copies", counters.dropped_copies.load()},
      {"served_rows", counters.served_rows.load()},
      {"rerouted_copies", counters.rerouted_copies.load()},
      {"refused_requests", counters.refused_requests.load()},
      {"resent_requests", counters.resent_requests.load()},
      {"aborted_steps", counters.aborted_steps.load()},
      {"weights_version", counters.weights_version.load()},
      {"reloads", counters.reloads.load()},
      {"suspend_ms", counters.suspend_ms.load()},
      {"suspended", counters.suspended.load()},
      {"is_member", counters.is_member.load()},
      {"waiting_for", counters.waiting_for.load()},
      {"step_ms_p50", counters.step_time.PercentileMs(0.5)},
      {"step_ms_p99", counters.step_time.PercentileMs(0.99)},
      {"step_ms_max", counters.step_time.MaxMs()},
  };
  const std::string path = PathOf(run_dir, identity.rank), fresh = path + ".new";
  std::ofstream file(fresh, std::ios::trunc);
  file << status.dump() << '\n';
  file.close();
  if (!file || std::rename(fresh.c_str(), path.c_str()) != 0) {
    return absl::UnavailableError(absl::StrCat("write ", path, ": ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

std::string ReadError(const std::string& run_dir, int rank) {
  std::ifstream file(PathOf(run_dir, rank));
  const nlohmann::json status = nlohmann::json::parse(file, nullptr, false);
  const auto error = status.is_object() ? status.find("error") : status.end();
  return error != status.end() && error->is_string() ? error->get<std::string>() : "";
}

}  // namespace evenkeel::engine
