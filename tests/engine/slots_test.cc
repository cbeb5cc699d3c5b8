// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/slots.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/base/ids.h"
#include "algos/base/rng.h"
#include "engine/region/agent_region.h"

namespace evenkeel::engine {
namespace {

const ModelConfig kConfig = [] {
  ModelConfig config;
  config.hidden_size = 16;
  config.num_layers = 2;
  config.num_experts = 4;
  config.expert_width = 16;
  return config;
}();
constexpr int kSlots = 3;

ExpertTensors TensorsOf(int expert) {
  Rng rng(static_cast<uint64_t>(expert));
  ExpertTensors tensors;
  for (auto* matrix : {&tensors.gate, &tensors.up, &tensors.down}) {
    matrix->resize(static_cast<size_t>(kConfig.expert_matrix_size()));
    for (float& value : *matrix) value = static_cast<float>(rng.Normal());
  }
  return tensors;
}

// A rank of two, ready and taken over by an agent.
class Fixture {
 public:
  Fixture() {
    directory_ =
        std::string(std::getenv("TEST_TMPDIR") != nullptr ? std::getenv("TEST_TMPDIR") : "/tmp") + "/slots.XXXXXX";
    REQUIRE(mkdtemp(directory_.data()) != nullptr);
    const evenkeel_options options = {.abi_version = EVENKEEL_ABI_VERSION,
                                      .directory = directory_.c_str(),
                                      .group = "slots",
                                      .model = "test",
                                      .weights_version = 1,
                                      .rank = 0,
                                      .num_ranks = 2,
                                      .ranks_max = 0,
                                      .join = 0,
                                      .num_nodes = 1,
                                      .num_layers = kConfig.num_layers,
                                      .num_experts = kConfig.num_experts,
                                      .slots_per_rank = kSlots,
                                      .num_lanes = 1,
                                      .num_counting_threads = 1,
                                      .count_place = EVENKEEL_COUNT_AFTER_DISPATCH,
                                      .routing = EVENKEEL_ROUTING_SENDER,
                                      .weights_bytes = Slots::WeightsBytes(kConfig, kSlots)};
    evenkeel_error error = {};
    const int code = evenkeel_create(&options, &region, &error);
    CAPTURE(error.message);
    REQUIRE(code == EVENKEEL_OK);
    slots = Slots::Create(region, kConfig, kSlots, 1).value();
    for (int layer = 0; layer < kConfig.num_layers; ++layer) {
      for (int slot = 0; slot < kSlots; ++slot) {
        const int expert = evenkeel_initial_expert(region, layer, slot);
        REQUIRE(slots->Fill(layer, slot, expert, TensorsOf(expert)).ok());
      }
    }
    REQUIRE(evenkeel_ready(region, &error) == EVENKEEL_OK);
    agent = AgentRegion::Open(evenkeel_path(region)).value();
  }
  ~Fixture() {
    agent = nullptr;
    evenkeel_destroy(region);
    CHECK(std::filesystem::is_empty(directory_));
    std::filesystem::remove_all(directory_);
  }

  bool Compute(int layer, int slot, int expert) {
    const std::vector<float> x(16, 0.5f);
    y.assign(16, 0);
    return slots->Compute(layer, slot, expert, {x.data(), 1, 16}, y.data(), scratch_);
  }

  evenkeel_region* region = nullptr;
  std::unique_ptr<Slots> slots;
  std::unique_ptr<AgentRegion> agent;
  std::vector<float> y;

 private:
  std::string directory_;
  std::vector<float> scratch_;
};

std::vector<float> Expected(int expert) {
  const ExpertTensors tensors = TensorsOf(expert);
  const std::vector<float> x(16, 0.5f);
  std::vector<float> y(16), scratch;
  ComputeExpert(kConfig, {tensors.gate.data(), tensors.up.data(), tensors.down.data()}, {x.data(), 1, 16}, y.data(),
                scratch);
  return y;
}

TEST_CASE("a slot computes its expert's output and knows another expert's name", "[slots]") {
  Fixture f;
  for (int layer = 0; layer < kConfig.num_layers; ++layer) {
    for (int slot = 0; slot < kSlots; ++slot) {
      const int expert = evenkeel_initial_expert(f.region, layer, slot);
      CHECK(f.Compute(layer, slot, expert));
      CHECK(f.y == Expected(expert));
      CHECK_FALSE(f.Compute(layer, slot, (expert + 1) % kConfig.num_experts));
    }
  }
  CHECK(f.slots->InRange(1, 2));
  CHECK_FALSE(f.slots->InRange(2, 0));
  CHECK_FALSE(f.slots->InRange(0, 3));
  CHECK_FALSE(f.slots->InRange(0, -1));
}

TEST_CASE("a slot that an agent has begun to write, or half written, is stale", "[slots]") {
  Fixture f;
  const LayerId layer(1);
  const SlotIdx slot(2);
  const int held = evenkeel_initial_expert(f.region, 1, 2), other = evenkeel_initial_expert(f.region, 1, 0);
  REQUIRE(f.Compute(1, 2, held));
  const SlotRecord before = f.agent->ReadSlot(layer, slot);
  CHECK(before.expert == ExpertId(held));

  SlotRecord writing = before;
  writing.state = SlotState::kWriting;
  f.agent->StoreSlot(layer, slot, writing);
  CHECK_FALSE(f.Compute(1, 2, held));
  f.agent->StoreSlot(layer, slot, before);
  CHECK(f.Compute(1, 2, held));

  // Bytes alone, as a late writer would change them: one tensor after the other.
  const auto from = f.agent->SlotBytes(layer, SlotIdx(0)), to = f.agent->SlotBytes(layer, slot);
  REQUIRE(to.size() == 5);
  for (size_t i = 0; i < to.size(); ++i) {
    REQUIRE(to[i].size() == from[i].size());
    std::memcpy(to[i].data(), from[i].data(), to[i].size());
    CHECK_FALSE(f.Compute(1, 2, held));
  }
  CHECK_FALSE(f.Compute(1, 2, other));  // the record still names what it held

  SlotRecord moved = before;
  moved.expert = ExpertId(other);
  moved.generation = before.generation + 1;
  f.agent->StoreSlot(layer, slot, moved);
  CHECK(f.Compute(1, 2, other));
  CHECK(f.y == Expected(other));
  CHECK_FALSE(f.Compute(1, 2, held));
}

}  // namespace
}  // namespace evenkeel::engine
