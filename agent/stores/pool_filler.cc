// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/pool_filler.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "agent/stores/holdings.h"
#include "algos/base/status_macros.h"
#include "runtime/clock.h"

namespace evenkeel::agent {

namespace {

struct Missing {
  Worth worth = Worth::kHeld;
  HeldExpert held;
};

absl::Status FillOne(const engine::AgentRegion& region, const Missing& missing, HostPool& pool, const Pace& pace,
                     const HostPool::WorthOfEntry& worth_of, PoolFill& fill) {
  const HeldExpert& held = missing.held;
  EVENKEEL_ASSIGN_OR_RETURN(const HostPool::Claim claim, pool.Begin(held.layer, held.expert, missing.worth, worth_of));
  const absl::Status copied =
      CopyHeld(region, held, pace, [&](size_t tensor, uint64_t offset, std::span<const std::byte> from) {
        std::memcpy(claim.tensors[tensor].data() + offset, from.data(), from.size());
        fill.bytes += from.size();
        return absl::OkStatus();
      });
  if (!copied.ok()) {
    pool.Abandon(claim);
    return copied;
  }
  EVENKEEL_RETURN_IF_ERROR(pool.Publish(claim, held.fingerprint));
  ++fill.num_filled;
  return absl::OkStatus();
}

}  // namespace

Owners OwnersOf(const Maps& maps, const algos::Shape& shape) {
  Owners owners;
  for (const algos::LayerMap& map : maps.layers) owners.push_back(OwnersOf(map, shape));
  return owners;
}

PoolFill FillPool(const engine::AgentRegion& region, const Maps& maps, const Owners& owners, HostPool& pool,
                  const Pace& pace, absl::Time until) {
  const algos::Shape& shape = region.group().shape;
  const RankId own = region.member().rank;
  const std::vector<RankId> ranks = pool.Ranks();
  const auto filler_of = [&](LayerId layer, ExpertId expert) {
    return FillerOf(maps.layers[layer.idx()], shape, expert, owners[layer.idx()][expert.idx()], ranks);
  };
  const auto worth_of = [&](uint64_t entry) {
    const LayerId layer = pool.view().LayerOf(entry);
    const ExpertId expert(static_cast<int32_t>(entry - pool.view().EntryOf(layer, ExpertId(0))));
    return WorthOf(owners[layer.idx()][expert.idx()], filler_of(layer, expert), ranks);
  };
  std::vector<Missing> missing;
  for (const HeldExpert& held : HeldExpertsOf(region)) {
    if (filler_of(held.layer, held.expert) != own) continue;
    if (pool.Holds(held.layer, held.expert, held.fingerprint)) continue;
    missing.push_back({worth_of(pool.view().EntryOf(held.layer, held.expert)), held});
  }
  std::stable_sort(missing.begin(), missing.end(), [](const auto& a, const auto& b) { return a.worth > b.worth; });
  PoolFill fill;
  bool any_busy = false;
  for (const Missing& one : missing) {
    if (runtime::MonotonicNow() >= until) return fill;
    absl::Status status = FillOne(region, one, pool, pace, worth_of, fill);
    if (absl::IsUnavailable(status) || absl::IsAborted(status)) {
      any_busy = true;
      continue;
    }
    if (status.ok()) continue;
    const bool ends = absl::IsCancelled(status) || absl::IsResourceExhausted(status);
    fill.trouble = std::move(status);
    if (ends) break;  // all that follow are worth no more
  }
  fill.complete = !any_busy;
  return fill;
}

}  // namespace evenkeel::agent
