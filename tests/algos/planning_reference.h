// SPDX-License-Identifier: Apache-2.0
//
// Planning reference: DeepSeek's EPLB written down as plainly as it can be, and loads to plan on. Slow; what the
// fast code is compared with.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "algos/base/rng.h"
#include "algos/policies/peers/deepseek.h"
#include "algos/problem.h"

namespace evenkeel::testing {

// A log-normal load, tokens about 1000 x e^(sigma x normal).
inline algos::Load LogNormalLoad(int num_layers, int num_experts, double sigma, Rng& rng) {
  algos::Load load{.num_layers = num_layers, .num_experts = num_experts, .tokens = {}};
  for (int i = 0; i < num_layers * num_experts; ++i) {
    load.tokens.push_back(static_cast<uint64_t>(1000.0 * std::exp(sigma * rng.Normal())));
  }
  return load;
}

// Every expert somewhere, the other slots at random; none twice on a rank as far as that goes.
inline algos::Placement RandomPlacement(const algos::Shape& shape, Rng& rng) {
  algos::Placement placement;
  for (int s = 0; s < shape.num_slots(); ++s) {
    placement.expert_of_slot.push_back(
        ExpertId(s < shape.num_experts ? s : static_cast<int>(rng.Below(static_cast<uint64_t>(shape.num_experts)))));
  }
  rng.Shuffle(placement.expert_of_slot);
  return placement;
}

inline algos::Problem RandomProblem(Rng& rng, int num_nodes, int ranks_per_node, int slots_per_rank, int num_experts) {
  algos::Problem problem{
      .shape = {.num_experts = num_experts, .num_ranks = num_nodes * ranks_per_node, .slots_per_rank = slots_per_rank},
      .num_layers = 3,
      .num_nodes = num_nodes};
  for (int i = 0; i < 3; ++i) problem.episodes.push_back(LogNormalLoad(3, num_experts, 1.0, rng));
  for (int layer = 0; layer < 3; ++layer) problem.current.push_back(RandomPlacement(problem.shape, rng));
  return problem;
}

struct Packing {
  std::vector<size_t> pack, rank;  // by item
};

inline Packing ReferencePack(const std::vector<float>& weights, size_t num_packs) {
  const size_t n = weights.size(), room = n / num_packs;
  Packing packing{std::vector<size_t>(n), std::vector<size_t>(n)};
  std::vector<size_t> order(n), fill(num_packs, 0);
  std::vector<float> sums(num_packs, 0.0f);
  std::iota(order.begin(), order.end(), size_t{0});
  if (room == 1) {
    packing.pack = order;
    return packing;
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return weights[a] > weights[b]; });
  for (size_t item : order) {
    size_t best = num_packs;
    for (size_t pack = 0; pack < num_packs; ++pack) {
      if (fill[pack] < room && (best == num_packs || sums[pack] < sums[best])) best = pack;
    }
    packing.pack[item] = best;
    packing.rank[item] = fill[best]++;
    sums[best] += weights[item];
  }
  return packing;
}

struct ReferenceLayer {
  std::vector<int32_t> expert, replica;  // by physical slot
};

inline ReferenceLayer ReferenceRebalance(const std::vector<uint64_t>& tokens, algos::DeepseekOptions options) {
  if (options.num_groups % options.num_nodes != 0) options.num_groups = options.num_nodes = 1;
  const size_t experts = tokens.size(), groups = static_cast<size_t>(options.num_groups);
  const size_t nodes = static_cast<size_t>(options.num_nodes), gpus = static_cast<size_t>(options.num_gpus);
  const size_t slots = static_cast<size_t>(options.num_replicas), size = experts / groups;
  std::vector<float> weights(tokens.begin(), tokens.end()), group_weights(groups, 0.0f);
  for (size_t e = 0; e < experts; ++e) group_weights[e / size] += weights[e];
  const Packing packing = ReferencePack(group_weights, nodes);
  std::vector<size_t> order(experts);
  for (size_t e = 0; e < experts; ++e) {
    const size_t group = e / size;
    order[(packing.pack[group] * (groups / nodes) + packing.rank[group]) * size + e % size] = e;
  }
  ReferenceLayer layer{std::vector<int32_t>(slots), std::vector<int32_t>(slots)};
  for (size_t node = 0; node < nodes; ++node) {
    const size_t n = experts / nodes, p = slots / nodes;
    std::vector<float> mine(n), slot_weights(p);
    std::vector<size_t> counts(n, 1), item(p), rank(p, 0);
    for (size_t i = 0; i < n; ++i) mine[i] = weights[order[node * n + i]];
    for (size_t s = 0; s < p; ++s) {
      item[s] = s;
      if (s < n) continue;
      item[s] = 0;
      for (size_t i = 1; i < n; ++i) {
        const float best = mine[item[s]] / static_cast<float>(counts[item[s]]);
        if (mine[i] / static_cast<float>(counts[i]) > best) item[s] = i;
      }
      rank[s] = counts[item[s]]++;
    }
    for (size_t s = 0; s < p; ++s) slot_weights[s] = mine[item[s]] / static_cast<float>(counts[item[s]]);
    const Packing gpu = ReferencePack(slot_weights, gpus / nodes);
    for (size_t s = 0; s < p; ++s) {
      const size_t at = node * p + gpu.pack[s] * (slots / gpus) + gpu.rank[s];
      layer.expert[at] = static_cast<int32_t>(order[node * n + item[s]]);
      layer.replica[at] = static_cast<int32_t>(rank[s]);
    }
  }
  return layer;
}

}  // namespace evenkeel::testing
