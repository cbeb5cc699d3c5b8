// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/holdings.h"

#include <algorithm>

#include "catch2/catch.hpp"

#include "algos/base/rng.h"

namespace evenkeel::agent {
namespace {

using algos::LayerMap;
using algos::Placement;
using algos::Shape;

LayerMap MapOf(const std::vector<int>& experts, int num_experts) {
  Placement placement;
  for (const int expert : experts) placement.expert_of_slot.push_back(ExpertId(expert));
  return algos::EvenMap(placement, num_experts);
}

TEST_CASE("an expert is owned by a rank that holds it, and owners are spread", "[holdings]") {
  // Ranks of two slots: 0 1 | 0 1 | 0 2.
  const Shape shape = {.num_experts = 4, .num_ranks = 3, .slots_per_rank = 2};
  const std::vector<RankId> owners = OwnersOf(MapOf({0, 1, 0, 1, 0, 2}, 4), shape);
  CHECK(owners == std::vector<RankId>{RankId(1), RankId(0), RankId(2), RankId()});
}

TEST_CASE("the owner fills its host's pool; on other hosts the lowest rank that holds the expert does", "[holdings]") {
  const Shape shape = {.num_experts = 3, .num_ranks = 4, .slots_per_rank = 2};
  const LayerMap map = MapOf({0, 1, 0, 1, 0, 2, 0, 2}, 3);
  const std::vector<RankId> first = {RankId(0), RankId(1)}, second = {RankId(2), RankId(3)};
  CHECK(FillerOf(map, shape, ExpertId(0), RankId(1), first) == RankId(1));
  CHECK(FillerOf(map, shape, ExpertId(0), RankId(1), second) == RankId(2));
  CHECK(FillerOf(map, shape, ExpertId(2), RankId(2), first) == RankId());
  CHECK(WorthOf(RankId(1), RankId(1), first) == Worth::kOwned);
  CHECK(WorthOf(RankId(1), RankId(2), second) == Worth::kHeld);
  CHECK(WorthOf(RankId(2), RankId(), first) == Worth::kElsewhere);
}

TEST_CASE("pools with room for what their ranks own hold every expert together, each once", "[holdings]") {
  const uint64_t seed = GENERATE(range(uint64_t{0}, uint64_t{50}));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape = {.num_experts = static_cast<int>(rng.Between(1, 24)),
                       .num_ranks = static_cast<int>(rng.Between(1, 8)),
                       .slots_per_rank = static_cast<int>(rng.Between(1, 6))};
  std::vector<int> experts;
  for (int s = 0; s < shape.num_slots(); ++s)
    experts.push_back(static_cast<int>(rng.Between(-1, shape.num_experts - 1)));
  const LayerMap map = MapOf(experts, shape.num_experts);
  // A host for each rank, drawn.
  const int num_hosts = static_cast<int>(rng.Between(1, 3));
  std::vector<std::vector<RankId>> hosts(static_cast<size_t>(num_hosts));
  for (int r = 0; r < shape.num_ranks; ++r) hosts[rng.Below(static_cast<uint64_t>(num_hosts))].push_back(RankId(r));
  const std::vector<RankId> owners = OwnersOf(map, shape);
  for (int e = 0; e < shape.num_experts; ++e) {
    const ExpertId expert(e);
    const RankId owner = owners[expert.idx()];
    CHECK(owner.valid() == (map.num_replicas(expert) > 0));
    int num_owning_hosts = 0;
    for (const auto& ranks : hosts) {
      const RankId filler = FillerOf(map, shape, expert, owner, ranks);
      num_owning_hosts += WorthOf(owner, filler, ranks) == Worth::kOwned ? 1 : 0;
      if (!filler.valid()) continue;
      CHECK(std::binary_search(ranks.begin(), ranks.end(), filler));
      const auto slots = map.slots_of(expert);
      CHECK(std::any_of(slots.begin(), slots.end(), [&](SlotIdx slot) { return shape.RankOf(slot) == filler; }));
    }
    CHECK(num_owning_hosts == (owner.valid() ? 1 : 0));
  }
}

TEST_CASE("what is wanted is cut into runs of limited length", "[holdings]") {
  CHECK(RangesOf({}, 4).empty());
  CHECK(RangesOf({false, false}, 4).empty());
  CHECK(RangesOf({true, true, false, true, true, true}, 2) ==
        std::vector<ExpertRange>{{ExpertId(0), 2}, {ExpertId(3), 2}, {ExpertId(5), 1}});
}

}  // namespace
}  // namespace evenkeel::agent
