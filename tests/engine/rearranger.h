// SPDX-License-Identifier: Apache-2.0
//
// Rearranger: what agents and controller would do to a group of reference engines, in the test's own thread.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/base/rng.h"
#include "algos/layer_map.h"
#include "algos/placement.h"
#include "engine/region/agent_region.h"
#include "tests/engine/engine_group.h"

namespace evenkeel::engine {

class Rearranger {
 public:
  static constexpr int kLayers = 4, kExperts = 64;

  struct Sizes {
    int num_ranks = 0;
    int ranks_max = 0;  // 0: num_ranks
    int slots_per_rank = 0;
  };

  Rearranger(EngineGroup& group, const Sizes& sizes)
      : group_(group),
        shape_{.num_experts = kExperts,
               .num_ranks = sizes.ranks_max == 0 ? sizes.num_ranks : sizes.ranks_max,
               .slots_per_rank = sizes.slots_per_rank},
        placements_(kLayers, algos::DefaultPlacement(shape_, sizes.num_ranks)) {
    agents_.resize(static_cast<size_t>(shape_.num_ranks));
    for (int rank = 0; rank < sizes.num_ranks; ++rank) Open(rank);
    StoreView();
  }

  // Of all ranks that were opened, but `without`.
  void StoreView(int without = -1) { StoreViewTo(Ranks(without), without); }
  void StoreViewTo(const std::vector<int>& told, int without) {
    View view{.number = ++view_number_, .members = {}};
    for (int rank : Ranks(without)) view.members.push_back(agents_[static_cast<size_t>(rank)]->member());
    for (int rank : told) agents_[static_cast<size_t>(rank)]->StoreView(view);
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
    for (int rank : Ranks(without)) {
      REQUIRE(group_.Await([&] {
        return agents_[static_cast<size_t>(rank)]->TryWriteMaps(epoch, view_number_, number_, maps).value() ==
               MapsWrite::kWritten;
      }));
    }
  }

  bool AwaitQuiesced(int without = -1) {
    return group_.Await([&] {
      for (int rank : Ranks(without)) {
        if (agents_[static_cast<size_t>(rank)]->ReadQuiesced().epoch.number < number_) return false;
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
  absl::Duration BusyLeaseLeft(int rank) const { return agents_[static_cast<size_t>(rank)]->BusyLeaseLeft(); }
  bool HasLeft(int rank) const { return agents_[static_cast<size_t>(rank)]->ReadStatus().leaving; }
  algos::Placement& placement(int layer) { return placements_[static_cast<size_t>(layer)]; }
  const algos::Shape& shape() const { return shape_; }
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
  std::vector<int> Ranks(int without) const {
    std::vector<int> ranks;
    for (int rank = 0; rank < shape_.num_ranks; ++rank) {
      if (rank != without && agents_[static_cast<size_t>(rank)] != nullptr) ranks.push_back(rank);
    }
    return ranks;
  }
  AgentRegion& AgentOf(SlotIdx slot) { return *agents_[shape_.RankOf(slot).idx()]; }

  EngineGroup& group_;
  const algos::Shape shape_;
  std::vector<std::unique_ptr<AgentRegion>> agents_;
  std::vector<algos::Placement> placements_;
  uint32_t number_ = 0;
  uint64_t view_number_ = 0;
};

}  // namespace evenkeel::engine
