// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/relabel.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "algos/base/rng.h"

namespace evenkeel::algos {
namespace {

using Contents = std::vector<std::vector<ExpertId>>;

// `ranks` in nodes of `per_node`, without those listed as dead.
Cluster ClusterOf(const Shape& shape, int per_node, std::initializer_list<int> dead = {}) {
  Cluster cluster{.shape = shape, .nodes = {}};
  cluster.nodes.resize(static_cast<size_t>(shape.num_ranks / per_node));
  for (int rank = 0; rank < shape.num_ranks; ++rank) {
    if (std::find(dead.begin(), dead.end(), rank) != dead.end()) continue;
    cluster.nodes[static_cast<size_t>(rank / per_node)].push_back(RankId(rank));
  }
  return cluster;
}

Contents ContentsOf(std::initializer_list<std::initializer_list<int>> ranks) {
  Contents contents;
  for (const auto& experts : ranks) {
    contents.emplace_back();
    for (int expert : experts) contents.back().push_back(ExpertId(expert));
  }
  return contents;
}

Placement PlacementFrom(std::initializer_list<int> experts) {
  Placement placement;
  for (int expert : experts) placement.expert_of_slot.push_back(ExpertId(expert));
  return placement;
}

// Each rank holds experts of its own, in any order.
Contents OwnExperts(const Shape& shape, Rng& rng) {
  Contents contents;
  for (int rank = 0; rank < shape.num_ranks; ++rank) {
    contents.emplace_back();
    for (int i = 0; i < shape.slots_per_rank; ++i) contents.back().push_back(ExpertId(rank * shape.slots_per_rank + i));
    rng.Shuffle(contents.back());
  }
  return contents;
}

Placement Permuted(const Contents& contents, const Shape& shape, const std::vector<int>& to) {
  Placement placement;
  placement.expert_of_slot.assign(static_cast<size_t>(shape.num_slots()), kNoExpert);
  for (size_t rank = 0; rank < contents.size(); ++rank) {
    for (size_t i = 0; i < contents[rank].size(); ++i) {
      placement.expert_of_slot[shape.SlotAt(RankId(to[rank]), static_cast<int>(i)).idx()] = contents[rank][i];
    }
  }
  return placement;
}

TEST_CASE("without a current placement contents stay with their ranks, in order", "[relabel]") {
  const Cluster cluster = ClusterOf({.num_experts = 4, .num_ranks = 2, .slots_per_rank = 3}, 2);
  CHECK(Relabeler(cluster).Apply(ContentsOf({{2, 0}, {1, 3, 0}}), nullptr) == PlacementFrom({2, 0, -1, 1, 3, 0}));
}

TEST_CASE("experts that stay keep their slots, others take the free ones in order", "[relabel]") {
  const Cluster cluster = ClusterOf({.num_experts = 6, .num_ranks = 2, .slots_per_rank = 3}, 2);
  const Placement current = PlacementFrom({0, 1, 2, 3, 4, 5});
  // Rank 0's plan is nearest to what rank 1 holds.
  CHECK(Relabeler(cluster).Apply(ContentsOf({{1, 5, 3}, {0, 2, 4}}), &current) == PlacementFrom({0, 4, 2, 3, 1, 5}));
}

TEST_CASE("nodes are renamed whole, and ranks within them", "[relabel]") {
  const Shape shape{.num_experts = 8, .num_ranks = 8, .slots_per_rank = 1};
  const Cluster cluster = ClusterOf(shape, 2);
  Rng rng(1);
  const Contents contents = OwnExperts(shape, rng);
  // Nodes 0 1 2 3 become 2 0 3 1, and the ranks of the first two are swapped within.
  const Placement current = Permuted(contents, shape, {5, 4, 1, 0, 6, 7, 2, 3});
  CHECK(Relabeler(cluster).Apply(contents, &current) == current);
  // Ranks of a node that were torn apart cannot both be kept.
  const Placement torn = Permuted(contents, shape, {0, 4, 1, 5, 2, 6, 3, 7});
  const Placement placed = Relabeler(cluster).Apply(contents, &torn);
  CHECK(placed != torn);
  for (int node = 0; node < 4; ++node) {
    const int a = placed.expert_of_slot[static_cast<size_t>(2 * node)].value();
    const int b = placed.expert_of_slot[static_cast<size_t>(2 * node + 1)].value();
    CHECK(a / 2 == b / 2);
  }
}

TEST_CASE("contents never go to dead ranks, and nodes change places only with equally large ones", "[relabel]") {
  const Shape shape{.num_experts = 6, .num_ranks = 6, .slots_per_rank = 2};
  const Cluster cluster = ClusterOf(shape, 2, {1});
  const Contents contents = ContentsOf({{0, 1}, {}, {2, 3}, {4, 5}, {0, 2}, {4, 1}});
  // What rank 0 is to hold lies on node 1 now; but node 0 has one rank only.
  const Placement current = PlacementFrom({4, 1, -1, -1, 0, 1, 0, 2, 2, 3, 4, 5});
  const Placement placed = Relabeler(cluster).Apply(contents, &current);
  CHECK(placed == PlacementFrom({0, 1, -1, -1, 4, 1, 0, 2, 2, 3, 4, 5}));
}

TEST_CASE("large groups are renamed too: whole nodes of a permuted copy are found", "[relabel]") {
  const int per_node = GENERATE(8, 96);
  CAPTURE(per_node);
  const Shape shape{.num_experts = 288, .num_ranks = 96, .slots_per_rank = 3};
  const Cluster cluster = ClusterOf(shape, per_node);
  Rng rng(2);
  const Contents contents = OwnExperts(shape, rng);
  std::vector<int> nodes(static_cast<size_t>(96 / per_node)), to;
  for (size_t i = 0; i < nodes.size(); ++i) nodes[i] = static_cast<int>(i);
  rng.Shuffle(nodes);
  for (int node : nodes) {
    std::vector<int> ranks;
    for (int i = 0; i < per_node; ++i) ranks.push_back(node * per_node + i);
    rng.Shuffle(ranks);
    to.insert(to.end(), ranks.begin(), ranks.end());
  }
  const Placement current = Permuted(contents, shape, to);
  CHECK(Relabeler(cluster).Apply(contents, &current) == current);
}

TEST_CASE("an expert twice on a rank stays twice there", "[relabel]") {
  const Cluster cluster = ClusterOf({.num_experts = 3, .num_ranks = 2, .slots_per_rank = 3}, 2);
  Relabeler relabeler(cluster);
  const Placement current = PlacementFrom({0, 1, 0, 2, 2, 1});
  CHECK(relabeler.Apply(ContentsOf({{2, 2, 2}, {1, 0, 0}}), &current) == PlacementFrom({0, 1, 0, 2, 2, 2}));
}

}  // namespace
}  // namespace evenkeel::algos
