// SPDX-License-Identifier: Apache-2.0
#include "algos/layer_map.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"
#include "algos/base/hash.h"

namespace evenkeel::algos {

namespace {

// Writes the inclusive bounds of k replicas with the given fractions, each share at least one unit.
void WriteBounds(std::span<const double> shares, std::span<uint32_t> bounds) {
  const size_t k = shares.size();
  double total = 0;
  for (double share : shares) {
    EVENKEEL_CHECK(std::isfinite(share) && share >= 0);
    total += share;
  }
  double sum = 0;
  for (size_t i = 0; i < k; ++i) {
    sum += total > 0 ? shares[i] / total : 1.0 / static_cast<double>(k);
    // Position i has i units below it and needs one for each replica behind it.
    const double wanted = std::floor(sum * static_cast<double>(kShareUnits) + 0.5);
    const uint64_t low = i == 0 ? 1 : uint64_t{bounds[i - 1]} + 2;
    const uint64_t high = kShareUnits - (k - 1 - i);
    const uint64_t end = std::clamp(static_cast<uint64_t>(std::max(wanted, 0.0)), low, high);
    bounds[i] = static_cast<uint32_t>(end - 1);
  }
  if (k > 0) bounds[k - 1] = UINT32_MAX;
}

}  // namespace

std::span<const SlotIdx> LayerMap::slots_of(ExpertId expert) const {
  return std::span(slots).subspan(static_cast<size_t>(offsets[expert.idx()]),
                                  static_cast<size_t>(num_replicas(expert)));
}

uint64_t LayerMap::ShareUnits(ExpertId expert, int replica) const {
  const size_t first = static_cast<size_t>(offsets[expert.idx()]);
  const size_t at = first + static_cast<size_t>(replica);
  const uint64_t end = uint64_t{bounds[at]} + 1;
  return replica == 0 ? end : end - (uint64_t{bounds[at - 1]} + 1);
}

LayerMap EvenMap(const Placement& placement, int num_experts) {
  const Replicas replicas = Invert(placement, num_experts);
  const Shares even(replicas.slots.size(), 1.0);
  return SharedMap(placement, num_experts, even);
}

LayerMap SharedMap(const Placement& placement, int num_experts, std::span<const double> shares) {
  Replicas replicas = Invert(placement, num_experts);
  EVENKEEL_CHECK(shares.size() == replicas.slots.size());
  LayerMap map;
  map.offsets = std::move(replicas.offsets);
  map.slots = std::move(replicas.slots);
  map.bounds.resize(map.slots.size());
  for (size_t e = 0; e < static_cast<size_t>(num_experts); ++e) {
    const size_t first = static_cast<size_t>(map.offsets[e]);
    const size_t count = static_cast<size_t>(map.offsets[e + 1]) - first;
    WriteBounds(shares.subspan(first, count), std::span(map.bounds).subspan(first, count));
  }
  return map;
}

Placement PlacementOf(const LayerMap& map, int num_slots) {
  Placement placement;
  placement.expert_of_slot.assign(static_cast<size_t>(num_slots), kNoExpert);
  for (size_t e = 0; e + 1 < map.offsets.size(); ++e) {
    const ExpertId expert(static_cast<int32_t>(e));
    for (SlotIdx slot : map.slots_of(expert)) placement.expert_of_slot[slot.idx()] = expert;
  }
  return placement;
}

absl::Status Validate(const LayerMap& map, const Shape& shape, MapRules rules) {
  if (map.offsets.size() != static_cast<size_t>(shape.num_experts) + 1 || map.offsets.front() != 0 ||
      map.slots.size() != map.bounds.size() || map.offsets.back() != static_cast<int32_t>(map.slots.size())) {
    return absl::InvalidArgumentError(absl::StrCat("map with ", map.offsets.size(), " offsets, ", map.slots.size(),
                                                   " slots, ", map.bounds.size(), " bounds for ", shape.num_experts,
                                                   " experts: lengths do not fit"));
  }
  std::vector<bool> named(static_cast<size_t>(shape.num_slots()), false);
  for (int e = 0; e < shape.num_experts; ++e) {
    const int32_t first = map.offsets[static_cast<size_t>(e)], end = map.offsets[static_cast<size_t>(e) + 1];
    if (end < first || end > static_cast<int32_t>(map.slots.size())) {
      return absl::InvalidArgumentError(absl::StrCat("map: offsets of expert ", e, " descend"));
    }
    if (end == first && !rules.allow_dead_experts) {
      return absl::InvalidArgumentError(absl::StrCat("map: expert ", e, " has no live replica"));
    }
    for (int32_t i = first; i < end; ++i) {
      const size_t at = static_cast<size_t>(i);
      const SlotIdx slot = map.slots[at];
      if (!slot.valid() || slot.value() >= shape.num_slots()) {
        return absl::InvalidArgumentError(
            absl::StrCat("map: expert ", e, " names slot ", slot.value(), " of ", shape.num_slots()));
      }
      if (named[slot.idx()]) {
        return absl::InvalidArgumentError(absl::StrCat("map: slot ", slot.value(), " is named twice"));
      }
      named[slot.idx()] = true;
      if (i > first && (map.slots[at] <= map.slots[at - 1] || map.bounds[at] <= map.bounds[at - 1])) {
        return absl::InvalidArgumentError(absl::StrCat("map: replicas of expert ", e, " are not in order"));
      }
    }
    if (end > first && map.bounds[static_cast<size_t>(end) - 1] != UINT32_MAX) {
      return absl::InvalidArgumentError(absl::StrCat("map: shares of expert ", e, " do not add up to 1"));
    }
  }
  return absl::OkStatus();
}

uint64_t DigestOf(const LayerMap& map) {
  Digest digest;
  for (int32_t offset : map.offsets) digest.Add(static_cast<uint32_t>(offset));
  for (size_t i = 0; i < map.slots.size(); ++i) {
    digest.Add(static_cast<uint64_t>(map.slots[i].value()) << 32 | map.bounds[i]);
  }
  return digest.value();
}

uint64_t DigestOf(std::span<const uint64_t> layer_digests) {
  Digest digest;
  for (uint64_t layer : layer_digests) digest.Add(layer);
  return digest.value();
}

std::vector<double> RankLoads(const LayerMap& map, const Shape& shape, std::span<const uint64_t> tokens_of_expert) {
  EVENKEEL_CHECK(tokens_of_expert.size() == static_cast<size_t>(shape.num_experts));
  std::vector<double> loads(static_cast<size_t>(shape.num_ranks), 0.0);
  for (int e = 0; e < shape.num_experts; ++e) {
    const ExpertId expert(e);
    const auto slots = map.slots_of(expert);
    for (size_t i = 0; i < slots.size(); ++i) {
      const double share =
          static_cast<double>(map.ShareUnits(expert, static_cast<int>(i))) / static_cast<double>(kShareUnits);
      loads[shape.RankOf(slots[i]).idx()] += share * static_cast<double>(tokens_of_expert[expert.idx()]);
    }
  }
  return loads;
}

}  // namespace evenkeel::algos
