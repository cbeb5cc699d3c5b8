// SPDX-License-Identifier: Apache-2.0
//
// What the engine library costs an inference process: steps, routing, fingerprints; each beside the plainest code that
// does a part of the same.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"

#include "algos/base/rng.h"
#include "algos/layer_map.h"
#include "engine/evenkeel.h"
#include "engine/region/agent_region.h"
#include "kernels/host/fingerprint.h"
#include "tests/bench/bench.h"

namespace evenkeel::bench {
namespace {

constexpr int kNumExperts = 256;
constexpr int kNumRanks = 32;
constexpr int kSlotsPerRank = 9;
constexpr int kNumSlots = kNumRanks * kSlotsPerRank;
constexpr int kNumTokens = 4096;
constexpr int kTopK = 8;
constexpr uint64_t kSlotBytes = 64;

[[noreturn]] void Stop(const char* why) {
  std::fprintf(stderr, "%s\n", why);
  std::exit(1);
}

class Engine {
 public:
  Engine() {
    if (::mkdtemp(directory_) == nullptr) Stop("no directory in /dev/shm");
    evenkeel_options options = {};
    options.abi_version = EVENKEEL_ABI_VERSION;
    options.directory = directory_;
    options.group = "bench";
    options.model = "bench";
    options.num_ranks = kNumRanks;
    options.num_layers = 1;
    options.num_experts = kNumExperts;
    options.slots_per_rank = kSlotsPerRank;
    options.count_place = EVENKEEL_COUNT_ROUTER;
    options.weights_bytes = kSlotsPerRank * kSlotBytes;
    evenkeel_error error = {};
    if (evenkeel_create(&options, &region_, &error) != EVENKEEL_OK) Stop(error.message);
    void* data = evenkeel_alloc_weights(region_, kSlotsPerRank * kSlotBytes);
    evenkeel_add_tensor(region_, 0, "w", "u8", data, kSlotBytes, kSlotBytes, &error);
    if (evenkeel_ready(region_, &error) != EVENKEEL_OK) Stop(error.message);
  }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine() {
    evenkeel_destroy(region_);
    ::rmdir(directory_);
  }
  evenkeel_region* get() const { return region_; }

 private:
  char directory_[64] = "/dev/shm/evenkeel-bench-XXXXXX";
  evenkeel_region* region_ = nullptr;
};

void BenchSteps(const Engine& engine) {
  constexpr int kSteps = 10'000;
  absl::Mutex mutex;
  uint64_t epoch_in_use = 0, open = 0;
  Compare(
      {.input = "one lane, nothing pending",
       .batch = std::to_string(kSteps) + " x begin_step + end_step",
       .goal_us = kSteps * 0.2},
      [&] {
        for (int i = 0; i < kSteps; ++i) {
          const int64_t ticket = evenkeel_begin_step(engine.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL);
          evenkeel_end_step(engine.get(), 0, ticket);
        }
      },
      "a mutex around the open steps' count and the epoch, twice a step",
      [&] {
        for (int i = 0; i < kSteps; ++i) {
          {
            absl::MutexLock lock(&mutex);
            ++open;
            ++epoch_in_use;
          }
          absl::MutexLock lock(&mutex);
          --open;
        }
      });
}

void BenchRoute(const Engine& engine) {
  Rng rng(1);
  // Zipf-like loads: the 32 extra slots are second and third replicas of the busy ones, as after a rearrangement.
  std::vector<double> cumulative;
  double total = 0;
  for (int e = 0; e < kNumExperts; ++e) cumulative.push_back(total += 1.0 / (4.0 + e));
  algos::Placement placement;
  for (int s = 0; s < kNumSlots; ++s) {
    placement.expert_of_slot.push_back(ExpertId(s < kNumExperts ? s : (s - kNumExperts) % 16));
  }
  rng.Shuffle(placement.expert_of_slot);
  const std::vector<algos::LayerMap> maps = {algos::EvenMap(placement, kNumExperts)};
  const auto agent = engine::AgentRegion::Open(evenkeel_path(engine.get()));
  if (!agent.ok() || *(*agent)->TryWriteMaps({1, 1}, 0, 1, maps) != engine::MapsWrite::kWritten) Stop("no maps");

  std::vector<int32_t> ids(kNumTokens * kTopK);
  for (int32_t& id : ids) {
    const double at = rng.Uniform() * total;
    id = static_cast<int32_t>(std::lower_bound(cumulative.begin(), cumulative.end(), at) - cumulative.begin());
  }
  std::vector<int32_t> slots(ids.size());
  if (evenkeel_begin_step(engine.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL) < 0) Stop("no step");
  constexpr int kWidth = 4;
  std::vector<int32_t> entries(kNumExperts * kWidth), counts(kNumExperts);
  if (evenkeel_logical_to_physical(engine.get(), 0, 0, kWidth, entries.data(), counts.data()) != 0) Stop("no forms");
  std::vector<uint64_t> tokens_of_slot(kNumSlots);
  Compare(
      {.input = "4096 tokens x top-8, 256 experts, 288 slots, loads like 1 / (4 + expert), 32-bit ids",
       .batch = "one route with counting: 32768 copies",
       .num_samples = 501,
       .goal_us = kNumTokens * kTopK * 0.01},
      [&] { evenkeel_route(engine.get(), 0, 0, ids.data(), 4, kNumTokens, kTopK, kTopK, 0, slots.data()); },
      "entry (index modulo count) of logical_to_physical, counted; even shares only",
      [&] {
        for (size_t i = 0; i < ids.size(); ++i) {
          const auto expert = static_cast<size_t>(ids[i]);
          const size_t entry = i % static_cast<size_t>(counts[expert]);
          slots[i] = entries[expert * kWidth + entry];
          ++tokens_of_slot[static_cast<size_t>(slots[i])];
        }
      });
}

void BenchFingerprint() {
  constexpr uint64_t kBytes = 44'040'192;  // an expert of DeepSeek-V3 in 8 bits
  std::vector<uint64_t> words(kBytes / 8);
  Rng rng(2);
  for (uint64_t& word : words) word = rng.Next();
  volatile uint64_t sink = 0;
  Compare(
      {.input = "44 MB, one tensor", .batch = "one fingerprint", .num_samples = 51, .goal_us = 44'040'192 / 4e3},
      [&] { sink = kernels::FingerprintSum(words.data(), kBytes, 0); }, "plain sum of the words",
      [&] {
        uint64_t sum = 0;
        for (const uint64_t word : words) sum += word;
        sink = sum;
      });
}

void Run() {
  const Engine engine;
  BenchSteps(engine);
  BenchRoute(engine);
  BenchFingerprint();
}

}  // namespace
}  // namespace evenkeel::bench

int main() {
  evenkeel::bench::Run();
  return 0;
}
