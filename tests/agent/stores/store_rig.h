// SPDX-License-Identifier: Apache-2.0
//
// StoreRig: the ranks of a small group with their regions, and what is needed to keep stores of their experts.
//
// Four ranks of two layers of eight experts with three slots each: rank r holds experts 2r, 2r + 1, 2r + 2 (modulo 8).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "agent/core/map_update.h"
#include "agent/stores/held_experts.h"
#include "agent/stores/host_pool.h"
#include "agent/stores/pool_filler.h"
#include "engine/region/agent_region.h"
#include "tests/engine/test_region.h"

namespace evenkeel::agent {

inline constexpr int kRigRanks = 4;
inline constexpr int kRigLayers = 2;
inline constexpr int kRigExperts = 8;
inline constexpr uint64_t kPlentyOfBytes = 1 << 20;

inline bool AnyPace(uint64_t) { return true; }

class StoreRig {
 public:
  explicit StoreRig(uint64_t weights_version = 7, const std::string& model = "model") {
    for (int rank = 0; rank < kRigRanks; ++rank) {
      evenkeel_options options = engine::SmallOptions(directory);
      options.rank = rank;
      options.weights_version = weights_version;
      options.model = model.c_str();
      engines.push_back(std::make_unique<engine::TestRegion>(options));
      engines.back()->MakeReady();
      auto region = engine::AgentRegion::Open(engines.back()->path());
      INFO(region.status().ToString());
      REQUIRE(region.ok());
      regions.push_back(*std::move(region));
    }
    maps = DefaultMaps(regions[0]->group());
    owners = OwnersOf(*maps, regions[0]->group().shape);
  }

  const engine::AgentRegion& region(int rank) const { return *regions[static_cast<size_t>(rank)]; }
  StoreIdentity identity() const { return IdentityOf(region(0)); }

  std::unique_ptr<HostPool> Enter(int rank, uint64_t bytes_max = kPlentyOfBytes, const std::string& host = "host") {
    auto pool = HostPool::Enter({.directory = directory.path(),
                                 .host = host,
                                 .rank = RankId(rank),
                                 .num_ranks = kRigRanks,
                                 .bytes_max = bytes_max},
                                identity());
    INFO(pool.status().ToString());
    REQUIRE(pool.ok());
    return *std::move(pool);
  }
  PoolFill Fill(int rank, HostPool& pool) const {
    return FillPool(region(rank), *maps, owners, pool, AnyPace, absl::InfiniteFuture());
  }
  // Of every expert that any rank holds.
  uint64_t FingerprintOf(LayerId layer, ExpertId expert) const {
    for (const auto& one : regions) {
      for (const HeldExpert& held : HeldExpertsOf(*one)) {
        if (held.layer == layer && held.expert == expert) return held.fingerprint;
      }
    }
    FAIL("no rank holds the expert");
    return 0;
  }
  int CountHeld(const HostPool& pool) const {
    int held = 0;
    for (int l = 0; l < kRigLayers; ++l) {
      for (int e = 0; e < kRigExperts; ++e) {
        held += pool.Holds(LayerId(l), ExpertId(e), FingerprintOf(LayerId(l), ExpertId(e))) ? 1 : 0;
      }
    }
    return held;
  }

  engine::TestDirectory directory;
  std::vector<std::unique_ptr<engine::TestRegion>> engines;
  std::vector<std::unique_ptr<engine::AgentRegion>> regions;
  std::shared_ptr<const Maps> maps;
  Owners owners;
};

}  // namespace evenkeel::agent
