// SPDX-License-Identifier: Apache-2.0
//
// Reference engines whose slots are rearranged, whose peers die and come back, under them: the test is all the agents.
#include "engine/region/agent_region.h"

#include <signal.h>

#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/base/rng.h"
#include "algos/layer_map.h"
#include "algos/placement.h"
#include "tests/engine/engine_group.h"

namespace evenkeel::engine {
namespace {

constexpr int kRanks = 3, kLayers = 4, kExperts = 64;

// What agents and controller would do, in the test's own thread.
class Rearranger {
 public:
  Rearranger(EngineGroup& group, int slots_per_rank)
      : group_(group),
        shape_{.num_experts = kExperts, .num_ranks = kRanks, .slots_per_rank = slots_per_rank},
        placements_(kLayers, algos::DefaultPlacement(shape_)) {
    agents_.resize(kRanks);
    for (int rank = 0; rank < kRanks; ++rank) Open(rank);
    StoreView();
  }

  void StoreView(int without = -1) {
    View view{.number = ++view_number_, .members = {}};
    for (int rank = 0; rank < kRanks; ++rank) {
      if (rank != without) view.members.push_back(agents_[static_cast<size_t>(rank)]->member());
    }
    for (int rank = 0; rank < kRanks; ++rank) {
      if (rank != without) agents_[static_cast<size_t>(rank)]->StoreView(view);
    }
  }

  // The maps of placements_ to all ranks but `without`, whose slots are left out.
  void Publish(int without = -1) {
    const Epoch epoch{1, ++number_};
    std::vector<algos::LayerMap> maps;
    for (algos::Placement placement : placements_) {
      for (int slot = 0; without >= 0 && slot < shape_.slots_per_rank; ++slot) {
        placement.expert_of_slot[shape_.SlotAt(RankId(without), slot).idx()] = kNoExpert;
      }
      maps.push_back(algos::EvenMap(placement, kExperts));
    }
    for (int rank = 0; rank < kRanks; ++rank) {
      if (rank == without) continue;
      REQUIRE(group_.Await([&] {
        return agents_[static_cast<size_t>(rank)]->TryWriteMaps(epoch, view_number_, number_, maps).value() ==
               MapsWrite::kWritten;
      }));
    }
  }

  bool AwaitQuiesced() {
    return group_.Await([&] {
      for (const auto& agent : agents_) {
        if (agent->ReadQuiesced().epoch.number < number_) return false;
      }
      return true;
    });
  }

  // The three steps of a move, each slot with a source elsewhere. Returns the number of slots written.
  int MoveRandomly(Rng& rng) {
    struct Move {
      LayerId layer;
      SlotIdx from, to;
      ExpertId expert;
    };
    std::vector<Move> moves;
    for (int layer = 0; layer < kLayers; ++layer) {
      std::vector<ExpertId>& experts = placements_[static_cast<size_t>(layer)].expert_of_slot;
      const algos::Replicas replicas = algos::Invert(placements_[static_cast<size_t>(layer)], kExperts);
      for (size_t slot = 0; slot < experts.size(); ++slot) {
        const ExpertId held = experts[slot], next(static_cast<int32_t>(rng.Below(kExperts)));
        if (replicas.num_replicas(held) < 2 || !rng.Chance(0.5)) continue;
        if (moves.size() > 0 && moves.back().layer == LayerId(layer)) break;  // one a layer keeps every expert alive
        moves.push_back({LayerId(layer), replicas.slots_of(next)[0], SlotIdx(static_cast<int32_t>(slot)), next});
        if (moves.back().from == moves.back().to) moves.pop_back();
      }
    }
    for (const Move& move : moves) placements_[move.layer.idx()].expert_of_slot[move.to.idx()] = kNoExpert;
    Publish();
    REQUIRE(AwaitQuiesced());
    for (const Move& move : moves) Copy(move.layer, move.from, move.to, move.expert);
    for (const Move& move : moves) placements_[move.layer.idx()].expert_of_slot[move.to.idx()] = move.expert;
    Publish();
    return static_cast<int>(moves.size());
  }

  void Copy(LayerId layer, SlotIdx from, SlotIdx to, ExpertId expert) {
    AgentRegion& source = AgentOf(from);
    AgentRegion& target = AgentOf(to);
    SlotRecord record = target.ReadSlot(layer, to);
    record.state = SlotState::kWriting;
    record.expert = expert;
    ++record.generation;
    target.StoreSlot(layer, to, record);
    const auto source_bytes = source.SlotBytes(layer, from), target_bytes = target.SlotBytes(layer, to);
    for (size_t i = 0; i < target_bytes.size(); ++i) {
      std::memcpy(target_bytes[i].data(), source_bytes[i].data(), target_bytes[i].size());
    }
    record.state = SlotState::kVerified;
    record.fingerprint = target.FingerprintSlot(layer, to);
    REQUIRE(record.fingerprint == source.ReadSlot(layer, from).fingerprint);
    target.StoreSlot(layer, to, record);
  }

  CounterReading ReadCounters(int rank) { return agents_[static_cast<size_t>(rank)]->ReadCounters(); }
  StepTimes ReadStepTimes(int rank) const { return agents_[static_cast<size_t>(rank)]->ReadStepTimes(); }

  // The region of a rank that was started, perhaps again.
  void Open(int rank) {
    agents_[static_cast<size_t>(rank)] = nullptr;
    REQUIRE(group_.Await([&] {
      const auto path = FindRegion(group_.region_dir(), "tinymoe", RankId(rank));
      if (!path.ok()) return false;
      auto region = AgentRegion::Open(*path);
      if (region.ok()) agents_[static_cast<size_t>(rank)] = *std::move(region);
      return region.ok();
    }));
  }

 private:
  AgentRegion& AgentOf(SlotIdx slot) { return *agents_[shape_.RankOf(slot).idx()]; }

  EngineGroup& group_;
  const algos::Shape shape_;
  std::vector<std::unique_ptr<AgentRegion>> agents_;
  std::vector<algos::Placement> placements_;
  uint32_t number_ = 0;
  uint64_t view_number_ = 0;
};

std::vector<std::string> Flags(const std::vector<std::string>& extra = {}) {
  std::vector<std::string> flags = {"--slots_per_rank=24", "--batch=8", "--answer_seconds=1", "--drop_seconds=600"};
  flags.insert(flags.end(), extra.begin(), extra.end());
  return flags;
}

TEST_CASE("text stays the same while a hundred slots are rewritten under it", "[moves]") {
  const uint64_t seed = 11;
  CAPTURE(seed);
  Rng rng(seed);
  EngineGroup group(kRanks);
  group.StartAll(Flags());
  Rearranger rearranger(group, 24);
  int num_moves = 0;
  for (int wave = 0; wave < 200 && num_moves < 100; ++wave) num_moves += rearranger.MoveRandomly(rng);
  CHECK(num_moves >= 100);
  const uint64_t checked = group.Total("checked_tokens");
  CHECK(group.Await([&] { return group.Total("checked_tokens") > checked + 1000; }));
  CHECK(group.Status(0)["epoch"] != "0.0");
  for (int rank = 0; rank < kRanks; ++rank) {
    const CounterReading reading = rearranger.ReadCounters(rank);
    const auto sum = [](const std::vector<uint64_t>& tokens) {
      return std::accumulate(tokens.begin(), tokens.end(), uint64_t{0});
    };
    // Every token is of the one or the other, whoever sent it.
    CHECK(sum(reading.prefill_of_slot) > 0);
    CHECK(sum(reading.decode_of_slot) > 0);
    CHECK(sum(reading.prefill_of_slot) + sum(reading.decode_of_slot) == sum(reading.tokens_of_slot));
    CHECK(rearranger.ReadStepTimes(rank).num_steps > 0);
    CHECK(rearranger.ReadStepTimes(rank).total > absl::ZeroDuration());
  }
  CHECK(group.StopAll() == std::vector<int>{0, 0, 0});
  CHECK(group.Total("mismatched_tokens") == 0);
  CHECK(group.Total("stale_slot_uses") == 0);
  CHECK(group.Total("calls_that_waited") == 0);
}

TEST_CASE("a slot that is overwritten while maps name it is noticed by the stamps and in the text", "[moves]") {
  EngineGroup group(kRanks);
  group.StartAll(Flags());
  Rearranger rearranger(group, 24);
  REQUIRE(group.Await([&] { return group.Total("checked_tokens") > 0; }));
  for (int slot = 0; slot < 24; ++slot) {
    rearranger.Copy(LayerId(0), SlotIdx(24 + slot), SlotIdx(slot), ExpertId(21 + slot));
  }
  CHECK(group.Await([&] { return group.Total("stale_slot_uses") > 0 && group.Total("mismatched_tokens") > 0; }));
  CHECK(group.StopAll() != std::vector<int>{0, 0, 0});
}

TEST_CASE("without a lost rank the others go on, and its successor joins by its first map", "[moves]") {
  EngineGroup group(kRanks);
  group.StartAll(Flags());
  Rearranger rearranger(group, 24);
  REQUIRE(group.Await([&] { return group.Total("checked_tokens") > 0; }));
  rearranger.Publish();
  REQUIRE(rearranger.AwaitQuiesced());

  group.Signal(2, SIGKILL);
  CHECK(group.Wait(2) == 128 + SIGKILL);
  CHECK(group.Await([&] { return group.WaitingFor(0) == 2 && group.WaitingFor(1) == 2; }));
  // Masked: what only rank 2 held has no replica, which ends steps until it is back.
  rearranger.StoreView(2);
  rearranger.Publish(2);
  CHECK(group.Await([&] { return group.Count(0, "aborted_steps") > 0 && group.WaitingFor(0) == -1; }));

  group.Start(2, Flags());
  rearranger.Open(2);
  CHECK(group.Await([&] { return group.Status(2).value("state", "") == "outside"; }));
  CHECK(group.Count(2, "tokens") == 0);
  rearranger.StoreView();
  rearranger.Publish();
  const uint64_t tokens = group.Count(0, "tokens");
  CHECK(group.Await([&] { return group.Count(0, "tokens") > tokens + 200 && group.Count(2, "checked_tokens") > 100; }));
  CHECK(group.StopAll() == std::vector<int>{0, 0, 0});
  CHECK(group.Total("mismatched_tokens") == 0);
  CHECK(group.Total("stale_slot_uses") == 0);
  CHECK(group.Total("dropped_tokens") == 0);
}

TEST_CASE("where every expert has a second home, survivors route the open step anew and lose nothing", "[moves]") {
  EngineGroup group(kRanks);
  group.StartAll(Flags(
      {"--slots_per_rank=43", "--answer_seconds=600", "--fail_rank=2", "--fail_after_steps=20", "--fail_as=exit"}));
  Rearranger rearranger(group, 43);
  CHECK(group.Wait(2) == 3);
  CHECK(group.Await([&] { return group.WaitingFor(0) == 2 && group.WaitingFor(1) == 2; }));
  rearranger.StoreView(2);
  const uint64_t tokens = group.Count(0, "tokens");
  CHECK(group.Await([&] { return group.Count(0, "tokens") > tokens + 500 && group.Count(0, "rerouted_copies") > 0; }));
  CHECK(group.StopAll() == std::vector<int>{0, 0, 0});
  CHECK(group.Total("aborted_steps") == 0);
  CHECK(group.Total("dropped_tokens") == 0);
  CHECK(group.Total("mismatched_tokens") == 0);
}

TEST_CASE("tokens of an expert without any replica are dropped after the time told, counted and not compared",
          "[moves]") {
  EngineGroup group(kRanks);
  group.StartAll(Flags({"--drop_seconds=0.2"}));
  Rearranger rearranger(group, 24);
  REQUIRE(group.Await([&] { return group.Total("checked_tokens") > 0; }));
  group.Signal(2, SIGKILL);
  group.Wait(2);
  rearranger.StoreView(2);
  CHECK(group.Await([&] { return group.Count(0, "dropped_tokens") > 0 && group.Count(1, "dropped_tokens") > 0; }));
  const uint64_t sequences = group.Count(0, "sequences");
  CHECK(group.Await([&] { return group.Count(0, "sequences") > sequences; }));
  CHECK(group.StopAll() == std::vector<int>{0, 0, 0});
  CHECK(group.Total("mismatched_tokens") == 0);
}

}  // namespace
}  // namespace evenkeel::engine
