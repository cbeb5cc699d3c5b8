// SPDX-License-Identifier: Apache-2.0
#include "kernels/host/route.h"

namespace evenkeel::kernels {

namespace {

void Count(uint64_t* counters, int64_t idx) {
  if (counters == nullptr) return;
  const uint64_t value = __atomic_load_n(&counters[idx], __ATOMIC_RELAXED);
  __atomic_store_n(&counters[idx], value + 1, __ATOMIC_RELAXED);
}

// The first replica of [first, end) whose bound is not below `position`; the last one has no bound.
int32_t SlotAt(const RouteTable& table, int32_t first, int32_t end, uint32_t position) {
  while (first < end - 1 && position > table.bounds[first]) ++first;
  return table.slots[first];
}

bool IsPassedOver(const RouteMask& mask, int32_t slot) {
  const int32_t rank = slot / mask.slots_per_rank;
  return mask.lost[rank] != 0 || mask.joined[rank] > mask.table_view;
}

// The same among the replicas that are not passed over, whose shares grow in proportion; -1 where there is none.
int32_t LiveSlotAt(const RouteTable& table, const RouteMask& mask, int32_t first, int32_t end, uint32_t position) {
  const auto units_of = [&table, first, end](int32_t i) {
    const uint64_t begin = i == first ? 0 : uint64_t{table.bounds[i - 1]} + 1;
    return (i == end - 1 ? uint64_t{1} << 32 : uint64_t{table.bounds[i]} + 1) - begin;
  };
  uint64_t live_units = 0;
  for (int32_t i = first; i < end; ++i) {
    if (!IsPassedOver(mask, table.slots[i])) live_units += units_of(i);
  }
  // Within [0, live_units): the position as a fraction of what is alive.
  uint64_t rest = (uint64_t{position} * live_units) >> 32;
  int32_t slot = -1;
  for (int32_t i = first; i < end; ++i) {
    // Asked again: a rank may be lost in between; the last live one is then taken.
    if (IsPassedOver(mask, table.slots[i])) continue;
    slot = table.slots[i];
    const uint64_t units = units_of(i);
    if (rest < units) break;
    rest -= units;
  }
  return slot;
}

template <typename ExpertIdType, bool kMasked>
int64_t RouteAs(const RouteTable& table, const RouteBatch& batch, uint64_t salt, const RouteMask& mask,
                const RouteCounters& counters, int32_t* slots) {
  const auto* row = static_cast<const ExpertIdType*>(batch.ids);
  const auto top_k = static_cast<uint64_t>(batch.top_k);
  uint64_t copy_idx = static_cast<uint64_t>(batch.first_token) * top_k;
  int64_t num_unknown = 0;
  for (int64_t token = 0; token < batch.num_tokens; ++token, row += batch.row_stride) {
    for (int32_t choice = 0; choice < batch.top_k; ++choice, ++copy_idx, ++slots) {
      const ExpertIdType expert = row[choice];
      *slots = -1;
      if (expert < 0 || expert >= table.num_experts) {
        num_unknown += expert >= 0 ? 1 : 0;
        continue;
      }
      const int32_t first = table.offsets[expert];
      const int32_t end = table.offsets[expert + 1];
      if constexpr (kMasked) {
        *slots = LiveSlotAt(table, mask, first, end, RoutePosition(salt, static_cast<uint32_t>(expert), copy_idx));
      } else if (end == first + 1) {
        *slots = table.slots[first];
      } else if (end > first) {
        *slots = SlotAt(table, first, end, RoutePosition(salt, static_cast<uint32_t>(expert), copy_idx));
      }
      if (*slots >= 0) {
        Count(counters.routed, *slots);
      } else {
        Count(counters.unrouted, expert);
      }
    }
  }
  return num_unknown;
}

}  // namespace

int64_t Route(const RouteTable& table, const RouteBatch& batch, uint64_t salt, const RouteMask& mask,
              const RouteCounters& counters, int32_t* slots) {
  const bool masked = mask.lost != nullptr;
  if (batch.id_bytes == 8) {
    return masked ? RouteAs<int64_t, true>(table, batch, salt, mask, counters, slots)
                  : RouteAs<int64_t, false>(table, batch, salt, mask, counters, slots);
  }
  return masked ? RouteAs<int32_t, true>(table, batch, salt, mask, counters, slots)
                : RouteAs<int32_t, false>(table, batch, salt, mask, counters, slots);
}

}  // namespace evenkeel::kernels
