// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "algos/dispatch/rank_shares.h"
#include "algos/dispatch/static_choice.h"
#include "engine/engine_region.h"
#include "engine/evenkeel.h"
#include "engine/shares_row.h"

namespace {

using evenkeel::algos::RankShareOptions;
using evenkeel::algos::RankShareScratch;
using evenkeel::algos::RoutePreference;
using evenkeel::algos::StaticOptions;
using evenkeel::algos::StaticRule;
using evenkeel::engine::kShareUnits;
using evenkeel::engine::LayerTable;
using evenkeel::engine::RegionSizes;

// What the caller lends, cut up; widest values first, so that all are aligned.
class Work {
 public:
  Work(const RegionSizes& sizes, void* memory)
      : num_ranks_(static_cast<size_t>(sizes.num_ranks)),
        num_slots_(static_cast<size_t>(sizes.num_slots())),
        memory_(static_cast<std::byte*>(memory)),
        demand(Cut<uint64_t>(num_ranks_)),
        domains(Cut<uint64_t>(2 * num_ranks_)),
        traffic(Cut<uint64_t>(num_ranks_)),
        shares(Cut<uint64_t>(num_slots_)),
        supply(Cut<uint64_t>(num_slots_)),
        flows(Cut<uint64_t>(num_slots_)),
        units(Cut<uint64_t>(num_slots_)),
        rank_of_replica(Cut<int32_t>(num_slots_)),
        counts(Cut<int32_t>(num_slots_)),
        slots(Cut<int32_t>(num_slots_)),
        bounds(Cut<uint32_t>(num_slots_)),
        hosts(Cut<int32_t>(num_ranks_)),
        chosen(Cut<int32_t>(num_ranks_)),
        avoided(Cut<uint8_t>(num_ranks_)),
        absent(Cut<uint8_t>(num_ranks_)) {}

  uint64_t bytes() const { return used_; }

 private:
  template <typename T>
  std::span<T> Cut(size_t count) {
    const size_t at = used_;
    used_ += count * sizeof(T);
    if (memory_ == nullptr) return {};
    return {reinterpret_cast<T*>(memory_ + at), count};
  }

  const size_t num_ranks_;
  const size_t num_slots_;
  std::byte* const memory_;
  size_t used_ = 0;

 public:
  std::span<uint64_t> demand, domains, traffic, shares, supply, flows, units;
  std::span<int32_t> rank_of_replica, counts, slots;
  std::span<uint32_t> bounds;
  std::span<int32_t> hosts, chosen;
  std::span<uint8_t> avoided, absent;
};

bool IsAskable(const evenkeel_region* region, int32_t lane, int32_t layer, const evenkeel_dispatch* dispatch,
               const void* work) {
  return evenkeel::engine::IsLane(region, lane) && evenkeel::engine::IsLayer(region, layer) && dispatch != nullptr &&
         work != nullptr && reinterpret_cast<uintptr_t>(work) % alignof(uint64_t) == 0 &&
         dispatch->prefer >= EVENKEEL_PREFER_NONE && dispatch->prefer <= EVENKEEL_PREFER_REMOTE &&
         dispatch->rank >= -1 && dispatch->rank < region->view.sizes().num_ranks;
}

// Ranks as `dispatch` describes them: hosts by their lowest rank.
void Survey(const evenkeel_region* region, const evenkeel_dispatch& dispatch, Work& work) {
  const RegionSizes& sizes = region->view.sizes();
  const int32_t ranks_per_node = sizes.num_ranks / sizes.num_nodes;
  for (int32_t rank = 0; rank < sizes.num_ranks; ++rank) {
    const size_t at = static_cast<size_t>(rank);
    work.hosts[at] = rank - rank % ranks_per_node;
    if (dispatch.hosts != nullptr) {
      work.hosts[at] =
          static_cast<int32_t>(std::find(dispatch.hosts, dispatch.hosts + rank, dispatch.hosts[rank]) - dispatch.hosts);
    }
    work.avoided[at] = dispatch.avoid != nullptr && dispatch.avoid[rank] != 0 ? 1 : 0;
    work.traffic[at] = dispatch.traffic != nullptr ? dispatch.traffic[rank]
                                                   : (evenkeel::engine::MemberIn(region->view, rank) != 0 ? 1 : 0);
    work.absent[at] = work.traffic[at] == 0 ? 1 : 0;
  }
}

int32_t RankOf(const evenkeel_region* region, const evenkeel_dispatch& dispatch) {
  return dispatch.rank < 0 ? region->view.sizes().rank : dispatch.rank;
}

struct TableRow {
  std::span<const int32_t> slots;
  std::span<const uint32_t> bounds;
};
TableRow RowOf(const LayerTable& table, int32_t expert) {
  const int32_t first = table.offsets[expert];
  const size_t count = static_cast<size_t>(table.offsets[expert + 1] - first);
  return {{table.slots + first, count}, {table.bounds + first, count}};
}

// The replicas that get something of the rank's tokens, as RenderShares takes them.
evenkeel::engine::Replicas SplitRow(int32_t rank, const TableRow& row, const RankShareOptions& options, Work& work) {
  const size_t k = row.slots.size();
  uint64_t begin = 0;
  for (size_t i = 0; i < k; ++i) {
    const uint64_t end = i + 1 == k ? kShareUnits : uint64_t{row.bounds[i]} + 1;
    work.shares[i] = end - begin;
    begin = end;
  }
  const RankShareScratch scratch{work.demand, work.domains, work.supply, work.flows, work.rank_of_replica};
  const auto units = work.units.first(k);
  SplitForRank(rank, row.slots, work.shares.first(k), options, scratch, units);
  int32_t count = 0;
  uint64_t end = 0;
  for (size_t i = 0; i < k; ++i) {
    if (units[i] == 0) continue;
    end += units[i];
    work.slots[static_cast<size_t>(count)] = row.slots[i];
    work.bounds[static_cast<size_t>(count++)] = static_cast<uint32_t>(end - 1);
  }
  return {work.slots.data(), work.bounds.data(), count};
}

}  // namespace

uint64_t evenkeel_dispatch_work_bytes(const evenkeel_region* region) {
  return region == nullptr ? 0 : Work(region->view.sizes(), nullptr).bytes();
}

int evenkeel_rank_logical_to_physical(const evenkeel_region* region, int32_t lane, int32_t layer,
                                      const evenkeel_dispatch* dispatch, int32_t width, void* work_memory,
                                      int32_t* slots, int32_t* counts) {
  if (!IsAskable(region, lane, layer, dispatch, work_memory) || width < 1 || slots == nullptr || counts == nullptr) {
    return EVENKEEL_INVALID_ARGUMENT;
  }
  const RegionSizes& sizes = region->view.sizes();
  const LayerTable table = region->view.table(region->lanes[lane].bank, layer);
  for (int32_t e = 0; e < sizes.num_experts; ++e) {
    if (table.offsets[e + 1] - table.offsets[e] > width) return EVENKEEL_INVALID_ARGUMENT;
  }
  Work work(sizes, work_memory);
  Survey(region, *dispatch, work);
  evenkeel::algos::FitTraffic(work.traffic);
  const RankShareOptions options{.preference = static_cast<RoutePreference>(dispatch->prefer),
                                 .slots_per_rank = sizes.slots_per_rank,
                                 .host_of_rank = work.hosts,
                                 .avoided = work.avoided,
                                 .traffic = work.traffic};
  for (int32_t e = 0; e < sizes.num_experts; ++e) {
    int32_t* row = slots + int64_t{e} * width;
    std::fill(row, row + width, -1);
    const TableRow shared = RowOf(table, e);
    counts[e] =
        shared.slots.empty() ? 0 : RenderShares(SplitRow(RankOf(region, *dispatch), shared, options, work), width, row);
  }
  return EVENKEEL_OK;
}

int evenkeel_static_dispatch(const evenkeel_region* region, int32_t lane, int32_t layer,
                             const evenkeel_dispatch* dispatch, void* work_memory, int32_t* slots) {
  if (!IsAskable(region, lane, layer, dispatch, work_memory) || slots == nullptr) return EVENKEEL_INVALID_ARGUMENT;
  const RegionSizes& sizes = region->view.sizes();
  const LayerTable table = region->view.table(region->lanes[lane].bank, layer);
  Work work(sizes, work_memory);
  Survey(region, *dispatch, work);
  const size_t rank = static_cast<size_t>(RankOf(region, *dispatch));
  StaticOptions options{.rule = static_cast<StaticRule>(dispatch->prefer),
                        .slots_per_rank = sizes.slots_per_rank,
                        .host_of_rank = work.hosts,
                        .avoided = work.avoided,
                        .absent = work.absent,
                        .seed = dispatch->seed,
                        .layer = layer};
  for (int32_t e = 0; e < sizes.num_experts; ++e) {
    const TableRow row = RowOf(table, e);
    slots[e] = -1;
    if (row.slots.empty()) continue;
    options.expert = e;
    const auto chosen = work.chosen.first(rank + 1);
    ChooseStatically(row.slots, options, work.counts.first(row.slots.size()), chosen);
    slots[e] = row.slots[static_cast<size_t>(chosen[rank])];
  }
  return EVENKEEL_OK;
}
