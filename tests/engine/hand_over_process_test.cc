// SPDX-License-Identifier: Apache-2.0
//
// Hand-over between two real processes: an engine that steps as fast as it can on two lanes, an agent that writes map
// after map, overwrites slots as soon as it may, and never sooner.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/base/rng.h"
#include "engine/reference/wait_witness.h"
#include "engine/region/region_view.h"
#include "tests/engine/engine_and_agent.h"

namespace evenkeel::engine {
namespace {

constexpr uint32_t kNumMaps = 4000;

// What parent and child share: by the child.
struct Tally {
  static constexpr uint32_t kTag = 7;
  static constexpr uint32_t kVersion = 1;

  Word is_ready;
  Word num_steps[2];
  Word num_stale_uses;
  // By the parent.
  Word must_stop;
};

// Every slot holds its expert's number in all its bytes; a step checks the slots that its maps name, before and after.
bool HoldsExpert(const std::byte* data, int32_t expert) {
  for (uint64_t i = 0; i < TestRegion::kExpertBytes; ++i) {
    if (reinterpret_cast<const std::atomic<unsigned char>*>(data + i)->load(std::memory_order_relaxed) !=
        static_cast<unsigned char>(1 + expert)) {
      return false;
    }
  }
  return true;
}

void StepForEver(evenkeel_region* region, int lane, const std::byte* weights, Tally& tally, WaitWitness& witness) {
  std::vector<int32_t> experts(static_cast<size_t>(kShape.num_slots()));
  while (tally.must_stop.Load() == 0) {
    const int64_t ticket =
        witness.Watch([&] { return evenkeel_begin_step(region, lane, EVENKEEL_DECODE, EVENKEEL_REAL); });
    for (int layer = 0; layer < 2; ++layer) {
      evenkeel_physical_to_logical(region, lane, layer, experts.data());
      for (int round = 0; round < 2; ++round) {
        for (int local = 0; local < kShape.slots_per_rank; ++local) {
          const int32_t expert = experts[static_cast<size_t>(kShape.SlotAt(RankId(1), local).value())];
          const auto offset = static_cast<uint64_t>(layer * 3 + local) * TestRegion::kExpertBytes;
          if (expert >= 0 && !HoldsExpert(weights + offset, expert)) tally.num_stale_uses.Add(1);
        }
      }
    }
    witness.Watch([&] { return evenkeel_end_step(region, lane, ticket); });
    tally.num_steps[lane].Add(1);
  }
}

// The engine's process; ends when told to, or killed.
int RunEngine(const evenkeel_options& options, Tally& tally) {
  evenkeel_region* region = nullptr;
  evenkeel_error error = {};
  if (evenkeel_create(&options, &region, &error) != EVENKEEL_OK) return 1;
  auto* weights = static_cast<std::byte*>(evenkeel_alloc_weights(region, 6 * TestRegion::kExpertBytes));
  for (int layer = 0; layer < 2; ++layer) {
    std::byte* data = weights + static_cast<uint64_t>(layer) * 3 * TestRegion::kExpertBytes;
    for (int local = 0; local < 3; ++local) {
      std::memset(data + static_cast<uint64_t>(local) * TestRegion::kExpertBytes,
                  1 + evenkeel_initial_expert(region, layer, local), TestRegion::kExpertBytes);
    }
    evenkeel_add_tensor(region, layer, "w", "u8", data, TestRegion::kExpertBytes, TestRegion::kExpertBytes, &error);
  }
  if (evenkeel_ready(region, &error) != EVENKEEL_OK) return 2;
  tally.is_ready.Store(1);
  WaitWitness witness;
  std::thread other([&] { StepForEver(region, 1, weights, tally, witness); });
  StepForEver(region, 0, weights, tally, witness);
  other.join();
  const bool waited = witness.num_watched() == 0 || witness.num_waited() != 0;
  evenkeel_destroy(region);
  return waited ? 3 : 0;
}

class EngineProcess {
 public:
  explicit EngineProcess(const TestDirectory& directory) {
    tally_memory_ = SharedMemory::Create<Tally>((directory.path() + "/tally").c_str(), 0);
    REQUIRE(tally_memory_.ok());
    evenkeel_options options = SmallOptions(directory);
    options.num_lanes = 2;
    child_ = ::fork();
    if (child_ == 0) ::_exit(RunEngine(options, tally()));
    while (tally().is_ready.Load() == 0) ::sched_yield();
  }
  ~EngineProcess() {
    if (child_ > 0) Kill();
  }
  Tally& tally() { return *tally_memory_.value.as<Tally>(); }
  int Stop() {
    tally().must_stop.Store(1);
    return Wait();
  }
  void Kill() {
    ::kill(child_, SIGKILL);
    Wait();
  }

 private:
  int Wait() {
    int status = 0;
    REQUIRE(::waitpid(child_, &status, 0) == child_);
    child_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  Result<SharedMemory> tally_memory_ = SharedMemory();
  pid_t child_ = 0;
};

std::unique_ptr<AgentRegion> OpenAgent(const TestDirectory& directory) {
  const auto path = FindRegion(directory.path(), "test", RankId(1));
  REQUIRE(path.ok());
  auto agent = AgentRegion::Open(*path);
  REQUIRE(agent.ok());
  return *std::move(agent);
}

// The agent's side: retire one slot of the rank, wait for quiescence, put another expert in, publish.
class Mover {
 public:
  Mover(AgentRegion& agent, uint64_t seed) : agent_(agent), rng_(seed) {
    for (algos::Placement& placement : placements_) placement = DefaultPlacement(kShape);
  }

  void MoveOne() {
    const LayerId layer(static_cast<int32_t>(rng_.Below(2)));
    const SlotIdx slot = kShape.SlotAt(RankId(1), static_cast<int>(rng_.Below(3)));
    algos::Placement& placement = placements_[layer.idx()];
    const ExpertId expert(static_cast<int32_t>(rng_.Below(8)));
    placement.expert_of_slot[slot.idx()] = kNoExpert;
    Publish();
    while (agent_.ReadQuiesced().epoch < epoch_) ::sched_yield();
    for (std::span<std::byte> bytes : agent_.SlotBytes(layer, slot)) {
      for (std::byte& byte : bytes) {
        reinterpret_cast<std::atomic<unsigned char>&>(byte).store(static_cast<unsigned char>(1 + expert.value()),
                                                                  std::memory_order_relaxed);
      }
    }
    placement.expert_of_slot[slot.idx()] = expert;
    Publish();
  }

  uint32_t num_maps() const { return epoch_.number; }

 private:
  void Publish() {
    ++epoch_.number;
    const std::vector<algos::LayerMap> maps = {EvenMap(placements_[0], 8), EvenMap(placements_[1], 8)};
    for (;;) {
      const auto written = agent_.TryWriteMaps(epoch_, 0, 1, maps);
      REQUIRE(written.ok());
      if (*written == MapsWrite::kWritten) return;
      ::sched_yield();
    }
  }

  AgentRegion& agent_;
  Rng rng_;
  Epoch epoch_{1, 0};
  algos::Placement placements_[2];
};

}  // namespace

TEST_CASE("no step uses a slot that is being overwritten, over thousands of maps", "[hand_over]") {
  const TestDirectory directory;
  EngineProcess engine(directory);
  const auto agent = OpenAgent(directory);
  Mover mover(*agent, 11);
  const auto stepped = [&engine](int lane) { return engine.tally().num_steps[lane].Load() > 100; };
  while (mover.num_maps() < kNumMaps || !stepped(0) || !stepped(1)) mover.MoveOne();

  CHECK(agent->EngineAlive());
  CHECK(engine.tally().num_stale_uses.Load() == 0);
  CHECK(engine.Stop() == 0);
  CHECK_FALSE(agent->EngineAlive());
}

TEST_CASE("the stamps see a slot that is overwritten without waiting", "[hand_over]") {
  const TestDirectory directory;
  EngineProcess engine(directory);
  const auto agent = OpenAgent(directory);
  const auto bytes = agent->SlotBytes(LayerId(0), SlotIdx(3))[0];
  reinterpret_cast<std::atomic<unsigned char>&>(bytes[7]).store(0xEE);

  for (const uint64_t seen = engine.tally().num_steps[0].Load(); engine.tally().num_steps[0].Load() < seen + 3;) {
    ::sched_yield();
  }
  CHECK(engine.tally().num_stale_uses.Load() > 0);
  engine.Stop();
}

TEST_CASE("an agent that dies between any two maps leaves the engine stepping and its successor the state",
          "[hand_over]") {
  const TestDirectory directory;
  EngineProcess engine(directory);
  for (int life = 0; life < 20; ++life) {
    int ready[2];
    REQUIRE(::pipe(ready) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      // Publishes shares of unchanged placements for ever, until it is killed.
      auto path = FindRegion(directory.path(), "test", RankId(1));
      auto agent = path.ok() ? AgentRegion::Open(*path) : path.status();
      if (!agent.ok()) ::_exit(1);
      Epoch epoch = (*agent)->ReadContent()->epoch;
      const std::vector<algos::LayerMap> maps = Maps();
      for (uint32_t i = 0;; ++i) {
        ++epoch.number;
        while (*(*agent)->TryWriteMaps(epoch, 0, 1, maps) != MapsWrite::kWritten) ::sched_yield();
        if (i == 50 && ::write(ready[1], "x", 1) != 1) ::_exit(2);
      }
    }
    char byte = 0;
    ::close(ready[1]);
    REQUIRE(::read(ready[0], &byte, 1) == 1);
    ::close(ready[0]);
    ::kill(child, SIGKILL);
    REQUIRE(::waitpid(child, nullptr, 0) == child);
    const auto agent = OpenAgent(directory);
    CHECK(agent->had_agent_before());
    const auto content = agent->ReadContent();
    REQUIRE(content.ok());
    CHECK(content->epoch.number > 50u * static_cast<uint32_t>(life + 1));
    CHECK(content->maps == Maps());
  }
  CHECK(engine.tally().num_stale_uses.Load() == 0);
  CHECK(engine.Stop() == 0);
}

TEST_CASE("a killed engine is seen at once, refused to agents and cleared away by its successor", "[hand_over]") {
  const TestDirectory directory;
  std::string path;
  {
    EngineProcess engine(directory);
    const auto agent = OpenAgent(directory);
    path = agent->path();
    CHECK(agent->EngineAlive());
    while (engine.tally().num_steps[0].Load() == 0) ::sched_yield();
    engine.Kill();
    CHECK_FALSE(agent->EngineAlive());
    CHECK_FALSE(agent->ReadStatus().alive);
    // What it did last can still be read.
    CHECK(agent->ReadStatus().num_steps > 0);
  }
  CHECK(AgentRegion::Open(path).status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(FindRegion(directory.path(), "test", RankId(1)).status().code() == absl::StatusCode::kNotFound);
  CHECK(::access(path.c_str(), F_OK) == 0);
  TestRegion successor(SmallOptions(directory));
  CHECK(::access(path.c_str(), F_OK) != 0);
  CHECK(directory.Files().size() == 2);
}

}  // namespace evenkeel::engine
