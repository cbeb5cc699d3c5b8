// SPDX-License-Identifier: Apache-2.0
//
// How soon new shares are readable in the regions of all ranks after the report that let them be chosen.
//
// A real controller, 8 real regions and 8 real agents, in one process over gRPC on loopback. The engines' counters grow
// by loads that alternate from window to window, so shares change ten times a second. Time runs from the moment for
// which the last agent reported past the window's end (its reading of the counters; sending, waiting in the strands,
// gRPC, solving and writing are all in it) until empty steps of all 8 engines have taken maps of the new epoch. These
// are tried every 100 us. The plain reference, in the same run between the updates: a bare gRPC server that answers a
// message of the report's size on 8 streams with messages of the update's size, until all 8 clients have read theirs.
#include <grpcpp/grpcpp.h>
#include <spdlog/sinks/sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "agent/daemon.h"
#include "agent/transport_set.h"
#include "algos/base/rng.h"
#include "algos/layer_map.h"
#include "algos/placement.h"
#include "controller/daemon.h"
#include "engine/evenkeel.h"
#include "engine/region/agent_region.h"
#include "proto/convert_agent.h"
#include "proto/convert_controller.h"
#include "proto/evenkeel/v1/agent.grpc.pb.h"
#include "runtime/clock.h"
#include "tests/bench/bench.h"
#include "tests/bench/echo.h"

namespace evenkeel::bench {
namespace {

using runtime::MonotonicNow;

constexpr int kRanks = Echo::kStreams;
constexpr int kWindowMs = 100;
constexpr int kReportMs = 20;
constexpr int kCountMs = 10;        // counters grow this often
constexpr int kReferenceAtMs = 75;  // within a window, when the update is long over
constexpr int kWarmUp = 10;         // updates
constexpr int kUpdates = 150;
constexpr int kPatience = 60;  // seconds until a controller that does not update is given up
constexpr std::chrono::microseconds kPoll{100};

struct Input {
  const char* name;
  int num_layers;
  int num_experts;
  int slots_per_rank;

  algos::Shape shape() const {
    return {.num_experts = num_experts, .num_ranks = kRanks, .slots_per_rank = slots_per_rank};
  }
};

[[noreturn]] void Stop(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::exit(1);
}

int64_t WindowOf(absl::Time now) { return absl::ToUnixMillis(now) / kWindowMs; }

// ---- What the agents say of their reports

class ReportLog : public spdlog::sinks::sink {
 public:
  void log(const spdlog::details::log_msg& message) override {
    int rank = 0;
    long long until = 0;
    const std::string text(message.payload.data(), message.payload.size());
    if (std::sscanf(text.c_str(), "rank %d reports load until %lld ns", &rank, &until) != 2) return;
    absl::MutexLock lock(&mutex_);
    const absl::Time time = absl::FromUnixNanos(until);
    // Completes all windows that end at or before it and after the rank's report before.
    int64_t& reached = reached_[static_cast<size_t>(rank)];
    for (int64_t window = std::max(reached + 1, WindowOf(time) - 2); window < WindowOf(time); ++window) {
      Completion& completion = completions_[window];
      ++completion.num_ranks;
      completion.last = std::max(completion.last, time);
    }
    reached = WindowOf(time) - 1;
  }
  void flush() override {}
  void set_pattern(const std::string&) override {}
  void set_formatter(std::unique_ptr<spdlog::formatter>) override {}

  // Ascending, of the windows that all ranks have reported past.
  std::vector<absl::Time> CompletingReports() const {
    absl::MutexLock lock(&mutex_);
    std::vector<absl::Time> times;
    for (const auto& [window, completion] : completions_) {
      if (completion.num_ranks == kRanks) times.push_back(completion.last);
    }
    std::sort(times.begin(), times.end());
    return times;
  }

 private:
  struct Completion {
    int num_ranks = 0;
    absl::Time last = absl::InfinitePast();
  };
  mutable absl::Mutex mutex_;
  std::array<int64_t, kRanks> reached_ ABSL_GUARDED_BY(mutex_) = {};
  std::map<int64_t, Completion> completions_ ABSL_GUARDED_BY(mutex_);  // by window
};

// ---- The engines

class Engines {
 public:
  explicit Engines(const Input& input) : input_(input), placement_(algos::DefaultPlacement(input.shape())) {
    if (::mkdtemp(directory_) == nullptr) Stop("no directory in /dev/shm");
    for (int rank = 0; rank < kRanks; ++rank) Create(rank);
    Rng rng(1);
    for (std::vector<uint64_t>& load : loads_) {
      for (int i = 0; i < input.num_layers * input.num_experts; ++i) {
        load.push_back(static_cast<uint64_t>(100 * std::exp(2 * rng.Uniform() + 2 * rng.Uniform() - 2)));
      }
    }
    num_replicas_.assign(static_cast<size_t>(input.num_experts), 0);
    for (ExpertId expert : placement_.expert_of_slot) ++num_replicas_[expert.idx()];
  }
  ~Engines() {
    for (evenkeel_region* region : regions_) evenkeel_destroy(region);
    ::rmdir(directory_);
  }
  Engines(const Engines&) = delete;
  Engines& operator=(const Engines&) = delete;

  std::string path(int rank) const { return evenkeel_path(regions_[static_cast<size_t>(rank)]); }

  // A step of every engine. Returns the oldest epoch that one of them took.
  uint64_t Step() {
    uint64_t oldest = UINT64_MAX;
    for (evenkeel_region* region : regions_) {
      const int64_t ticket = evenkeel_begin_step(region, 0, EVENKEEL_DECODE, EVENKEEL_REAL);
      if (ticket <= 0 || evenkeel_end_step(region, 0, ticket) != EVENKEEL_OK) Stop("an engine cannot step");
      oldest = std::min(oldest, evenkeel_epoch(region, 0));
    }
    return oldest;
  }
  // As if the replicas of an expert had shared its tokens evenly.
  void Count(int64_t window) {
    const std::vector<uint64_t>& load = loads_[static_cast<size_t>(window % 2)];
    for (int slot = 0; slot < input_.shape().num_slots(); ++slot) {
      evenkeel_region* region = regions_[static_cast<size_t>(slot / input_.slots_per_rank)];
      const size_t expert = placement_.expert_of_slot[static_cast<size_t>(slot)].idx();
      for (int layer = 0; layer < input_.num_layers; ++layer) {
        const size_t index = static_cast<size_t>(layer * input_.num_experts) + expert;
        evenkeel_count(region, 0, EVENKEEL_DECODE, layer, slot % input_.slots_per_rank,
                       load[index] / num_replicas_[expert]);
      }
    }
  }
  // Shares of the first layer, in 64ths.
  std::vector<int32_t> Shares() const {
    constexpr int kWidth = 64;
    std::vector<int32_t> slots(static_cast<size_t>(input_.num_experts * kWidth));
    std::vector<int32_t> counts(static_cast<size_t>(input_.num_experts));
    evenkeel_logical_to_physical(regions_[0], 0, 0, kWidth, slots.data(), counts.data());
    return slots;
  }

 private:
  void Create(int rank) {
    constexpr uint64_t kBytes = 64;
    const uint64_t layer_bytes = static_cast<uint64_t>(input_.slots_per_rank) * kBytes;
    evenkeel_options options = {};
    options.abi_version = EVENKEEL_ABI_VERSION;
    options.directory = directory_;
    options.group = "bench";
    options.model = input_.name;
    options.rank = rank;
    options.num_ranks = kRanks;
    options.num_layers = input_.num_layers;
    options.num_experts = input_.num_experts;
    options.slots_per_rank = input_.slots_per_rank;
    options.weights_bytes = layer_bytes * static_cast<uint64_t>(input_.num_layers);
    evenkeel_error error = {};
    evenkeel_region* region = nullptr;
    if (evenkeel_create(&options, &region, &error) != EVENKEEL_OK) Stop(error.message);
    for (int layer = 0; layer < input_.num_layers; ++layer) {
      void* data = evenkeel_alloc_weights(region, layer_bytes);
      if (evenkeel_add_tensor(region, layer, "w", "u8", data, kBytes, kBytes, &error) != EVENKEEL_OK) {
        Stop(error.message);
      }
    }
    if (evenkeel_ready(region, &error) != EVENKEEL_OK) Stop(error.message);
    regions_.push_back(region);
  }

  const Input input_;
  const algos::Placement placement_;
  char directory_[64] = "/dev/shm/evenkeel-bench-XXXXXX";
  std::vector<evenkeel_region*> regions_;
  std::array<std::vector<uint64_t>, 2> loads_;  // [num_layers * num_experts], of even and odd windows
  std::vector<uint64_t> num_replicas_;          // [num_experts]
};

// What a rank reports and what an update of all layers says, as the reference sends them.
v1::AgentMessage ReportOf(const Input& input) {
  LoadReport report{.time = MonotonicNow(), .first_step = 1, .last_step = 100, .entries = {}};
  for (int layer = 0; layer < input.num_layers; ++layer) {
    for (int slot = 0; slot < input.slots_per_rank; ++slot) {
      report.entries.push_back({LayerId(layer), SlotIdx(slot), ExpertId(slot), 1000});
    }
  }
  v1::AgentMessage message;
  proto::ToProto(AgentMessage(std::move(report)), &message);
  return message;
}

v1::ControllerMessage UpdateOf(const Input& input) {
  const algos::LayerMap map = algos::EvenMap(algos::DefaultPlacement(input.shape()), input.num_experts);
  MapsUpdate update{.epoch = {1, 2}, .view_number = 1, .base_epoch = {1, 1}, .maps_digest = 1, .layers = {}};
  for (int layer = 0; layer < input.num_layers; ++layer) update.layers.emplace_back(LayerId(layer), map);
  v1::ControllerMessage message;
  proto::ToProto(ControllerMessage(std::move(update)), &message);
  return message;
}

// ---- The measurement

std::unique_ptr<controller::Daemon> StartController() {
  controller::Daemon::Options options;
  options.settings.listen = "127.0.0.1:0";
  options.settings.coordinator.listen_interval = absl::Milliseconds(20);
  controller::GroupSettings& group = options.settings.coordinator.defaults;
  group.window = absl::Milliseconds(kWindowMs);
  group.num_windows_for_shares = 1;
  group.shares_interval = absl::Milliseconds(kWindowMs);
  group.shares_min_gain = 0;
  group.placement_enabled = false;
  group.agent.report_interval = absl::Milliseconds(kReportMs);
  auto daemon = controller::Daemon::Start(std::move(options));
  if (!daemon.ok()) Stop(daemon.status().ToString());
  return *std::move(daemon);
}

std::unique_ptr<agent::Daemon> StartAgent(const std::string& region_path, const std::string& controller) {
  auto region = engine::AgentRegion::Open(region_path);
  if (!region.ok()) Stop(region.status().ToString());
  auto transports = agent::MakeTransports(**region, {.forced = "local", .fault = "", .host = ""});
  if (!transports.ok()) Stop(transports.status().ToString());
  agent::Daemon::Options options;
  options.controller = controller;
  auto daemon = agent::Daemon::Start(std::move(options), *std::move(region), *std::move(transports));
  if (!daemon.ok()) Stop(daemon.status().ToString());
  return *std::move(daemon);
}

struct Outcome {
  std::vector<absl::Time> readable;  // when a new epoch was in use by all engines
  int num_changed = 0;               // of these: other shares of the first layer than before
  std::vector<double> reference_us;
};

Outcome Drive(Engines& engines, Echo& echo) {
  Outcome outcome;
  uint64_t epoch = 0;
  std::vector<int32_t> shares = engines.Shares();
  int64_t counted = 0, reference_window = WindowOf(MonotonicNow());
  bool echoing = false;
  absl::Time echo_begin, deadline = MonotonicNow() + absl::Seconds(kPatience);
  while (outcome.readable.size() < kWarmUp + kUpdates || echoing) {
    const absl::Time now = MonotonicNow();
    if (now > deadline) Stop("updates came too seldom to measure them");
    if (const int64_t due = absl::ToUnixMillis(now) / kCountMs; due > counted) {
      engines.Count(WindowOf(now));
      counted = due;
    }
    if (const uint64_t oldest = engines.Step(); oldest > epoch) {
      outcome.readable.push_back(MonotonicNow());
      epoch = oldest;
      std::vector<int32_t> next = engines.Shares();
      outcome.num_changed += next != shares;
      shares = std::move(next);
    }
    if (echoing && echo.Ended()) {
      outcome.reference_us.push_back(absl::ToDoubleMicroseconds(MonotonicNow() - echo_begin));
      echoing = false;
    } else if (!echoing && reference_window < WindowOf(now) && absl::ToUnixMillis(now) % kWindowMs >= kReferenceAtMs) {
      reference_window = WindowOf(now);
      echoing = true;
      echo_begin = MonotonicNow();
      echo.Begin();
    }
    std::this_thread::sleep_for(kPoll);
  }
  return outcome;
}

// Each report that completed a window, with the first new epoch after it.
std::vector<double> Latencies(const std::vector<absl::Time>& completing, const Outcome& outcome) {
  std::vector<double> latencies_us;
  for (size_t i = kWarmUp; i < outcome.readable.size(); ++i) {
    const auto after = std::upper_bound(completing.begin(), completing.end(), outcome.readable[i]);
    if (after == completing.begin()) continue;
    const absl::Time report = *std::prev(after);
    if (report <= outcome.readable[i - 1]) continue;  // answered already: this update was begun by no report
    latencies_us.push_back(absl::ToDoubleMicroseconds(outcome.readable[i] - report));
  }
  return latencies_us;
}

void Measure(const Input& input, const ReportLog& log) {
  const v1::AgentMessage report = ReportOf(input);
  const v1::ControllerMessage update = UpdateOf(input);
  Echo echo(report, update);
  Engines engines(input);
  const auto controller = StartController();
  std::vector<std::unique_ptr<agent::Daemon>> agents;
  for (int rank = 0; rank < kRanks; ++rank) agents.push_back(StartAgent(engines.path(rank), controller->address()));
  const absl::Time begin = MonotonicNow();
  const Outcome outcome = Drive(engines, echo);
  std::vector<absl::Time> completing = log.CompletingReports();
  std::erase_if(completing, [&](absl::Time time) { return time < begin; });
  const std::vector<double> latencies = Latencies(completing, outcome);
  for (const auto& agent : agents) agent->Stop();
  controller->Stop();
  if (latencies.empty()) Stop("no update followed a report");
  const Timing ours = Summarise(latencies), reference = Summarise(outcome.reference_us);
  const absl::Duration span = outcome.readable.back() - outcome.readable[kWarmUp - 1];
  std::printf("input      %s: %d layers x %d experts, %d slots on %d ranks; windows of %d ms, reports every %d ms\n",
              input.name, input.num_layers, input.num_experts, input.shape().num_slots(), kRanks, kWindowMs, kReportMs);
  std::printf(
      "batch      one update, from the completing report's reading of the counters until steps of all %d engines "
      "use the new epoch (polled every %lld us)\n",
      kRanks, static_cast<long long>(kPoll.count()));
  std::printf(
      "updates    %d in %.1f s, %.1f a second; %d of all %zu brought other shares; %zu began otherwise than "
      "with a report\n",
      kUpdates, absl::ToDoubleSeconds(span), kUpdates / absl::ToDoubleSeconds(span), outcome.num_changed,
      outcome.readable.size(), static_cast<size_t>(kUpdates) - latencies.size());
  std::printf("ours       %zu samples: median %.2f ms, p99 %.2f ms (goal p99 20 ms)\n", latencies.size(),
              ours.median_us / 1e3, ours.p99_us / 1e3);
  std::printf(
      "reference  %zu samples: median %.2f ms, p99 %.2f ms (bare gRPC: %zu bytes in, %zu bytes to each of %d "
      "streams)\nratio      %.1f times the reference's time at the median, %.1f at p99\n\n",
      outcome.reference_us.size(), reference.median_us / 1e3, reference.p99_us / 1e3, report.ByteSizeLong(),
      update.ByteSizeLong(), kRanks, ours.median_us / reference.median_us, ours.p99_us / reference.p99_us);
}

}  // namespace
}  // namespace evenkeel::bench

int main() {
  using namespace evenkeel::bench;
  const auto log = std::make_shared<ReportLog>();
  auto logger = std::make_shared<spdlog::logger>("bench", log);
  logger->set_level(spdlog::level::trace);
  spdlog::set_default_logger(logger);
  Measure({.name = "TinyMoE", .num_layers = 4, .num_experts = 64, .slots_per_rank = 9}, *log);
  Measure({.name = "DeepSeek-V3-shaped", .num_layers = 58, .num_experts = 256, .slots_per_rank = 36}, *log);
  return 0;
}
