// SPDX-License-Identifier: Apache-2.0
#include "algos/survivability.h"

#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <set>

#include "algos/base/rng.h"

namespace evenkeel::algos {
namespace {

Placement Holding(const std::vector<int>& experts) {
  Placement placement;
  for (int expert : experts) placement.expert_of_slot.push_back(ExpertId(expert));
  return placement;
}

// The most domains of which any may be lost, by trying every set of them.
struct Tried {
  int serving = -1, rebalancing = -1;
  std::set<ExpertId> at_risk;
};
Tried TryAll(const Placement& placement, const Shape& shape, const std::vector<int32_t>& domain_of_rank,
             const std::vector<int>& usable) {
  const std::set<int32_t> domains(domain_of_rank.begin(), domain_of_rank.end());
  const std::vector<int32_t> ids(domains.begin(), domains.end());
  std::vector<bool> serves(ids.size() + 1, true), rebalances(ids.size() + 1, true);
  std::vector<std::set<ExpertId>> lost_experts(ids.size() + 1);
  for (uint32_t lost = 0; lost < (1u << ids.size()); ++lost) {
    const size_t num_lost = static_cast<size_t>(std::popcount(lost));
    std::set<ExpertId> held;
    int room = 0;
    for (int rank = 0; rank < shape.num_ranks; ++rank) {
      const auto at = std::ranges::find(ids, domain_of_rank[static_cast<size_t>(rank)]) - ids.begin();
      if (lost >> at & 1) continue;
      room += usable[static_cast<size_t>(rank)];
      for (int local = 0; local < shape.slots_per_rank; ++local) {
        held.insert(placement.expert_of_slot[shape.SlotAt(RankId(rank), local).idx()]);
      }
    }
    for (int e = 0; e < shape.num_experts; ++e) {
      if (held.count(ExpertId(e)) != 0) continue;
      serves[num_lost] = false;
      lost_experts[num_lost].insert(ExpertId(e));
    }
    if (room <= shape.num_experts) rebalances[num_lost] = false;
  }
  Tried tried;
  while (static_cast<size_t>(tried.serving + 1) < serves.size() && serves[static_cast<size_t>(tried.serving + 1)]) {
    ++tried.serving;
  }
  while (tried.rebalancing < tried.serving && rebalances[static_cast<size_t>(tried.rebalancing + 1)]) {
    ++tried.rebalancing;
  }
  tried.at_risk = lost_experts[static_cast<size_t>(tried.serving + 1)];
  return tried;
}

void CheckAgainstAll(const Losses& losses, const Tried& tried) {
  CHECK(losses.serving == tried.serving);
  CHECK(losses.rebalancing == tried.rebalancing);
  CHECK(std::set<ExpertId>(losses.at_risk.begin(), losses.at_risk.end()) == tried.at_risk);
  CHECK(std::ranges::is_sorted(losses.at_risk));
}

}  // namespace

TEST_CASE("two replicas on two ranks of one host survive any rank but not the host", "[survivability]") {
  const Shape shape{.num_experts = 2, .num_ranks = 4, .slots_per_rank = 1};
  const std::vector<int32_t> hosts = {7, 7, 9, 9};
  const Survivability apart = SurvivabilityOf(Holding({0, 1, 0, 1}), shape, hosts);
  CHECK(apart.ranks == Losses{.serving = 1, .rebalancing = 1, .at_risk = {ExpertId(0), ExpertId(1)}});
  CHECK(apart.hosts == Losses{.serving = 1, .rebalancing = 0, .at_risk = {ExpertId(0), ExpertId(1)}});
  const Survivability together = SurvivabilityOf(Holding({0, 0, 1, 1}), shape, hosts);
  CHECK(together.ranks.serving == 1);
  CHECK(together.hosts.serving == 0);
}

TEST_CASE("an expert without a live replica is at risk before anything is lost", "[survivability]") {
  const Shape shape{.num_experts = 2, .num_ranks = 2, .slots_per_rank = 2};
  const Survivability found = SurvivabilityOf(Holding({0, 0, 0, -1}), shape, RanksAsDomains(shape));
  CHECK(found.ranks == Losses{.serving = -1, .rebalancing = -1, .at_risk = {ExpertId(1)}});
}

TEST_CASE("two replicas on one rank count as one", "[survivability]") {
  const Shape shape{.num_experts = 1, .num_ranks = 2, .slots_per_rank = 2};
  CHECK(SurvivabilityOf(Holding({0, 0, -1, -1}), shape, RanksAsDomains(shape)).ranks.serving == 0);
  CHECK(SurvivabilityOf(Holding({0, -1, 0, -1}), shape, RanksAsDomains(shape)).ranks.serving == 1);
}

TEST_CASE("losses of random layers are those that losing every set of ranks and hosts shows", "[survivability]") {
  const int seed = GENERATE(range(0, 400));
  CAPTURE(seed);
  Rng rng(static_cast<uint64_t>(seed));
  const Shape shape{.num_experts = static_cast<int>(rng.Between(1, 4)),
                    .num_ranks = static_cast<int>(rng.Between(1, 6)),
                    .slots_per_rank = static_cast<int>(rng.Between(1, 3))};
  Placement placement;
  for (int s = 0; s < shape.num_slots(); ++s) {
    placement.expert_of_slot.push_back(ExpertId(static_cast<int>(rng.Between(-1, shape.num_experts - 1))));
  }
  std::vector<int32_t> hosts;
  std::vector<int> usable;
  for (int rank = 0; rank < shape.num_ranks; ++rank) {
    hosts.push_back(static_cast<int32_t>(rng.Between(3, 5)));
    usable.push_back(static_cast<int>(rng.Between(0, shape.slots_per_rank)));
  }
  const Survivability found = SurvivabilityOf(placement, shape, hosts, usable);
  CheckAgainstAll(found.ranks, TryAll(placement, shape, RanksAsDomains(shape), usable));
  CheckAgainstAll(found.hosts, TryAll(placement, shape, hosts, usable));
}

}  // namespace evenkeel::algos
