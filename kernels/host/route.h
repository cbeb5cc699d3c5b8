// SPDX-License-Identifier: Apache-2.0
//
// Route: top-k expert ids to slots, by the shares of one layer's table (protocol, rules 30 and 31).
//
// The position of a routed copy is a Weyl sequence over (token index * top_k + choice) that begins at a hash of rank,
// layer, step and expert. Consecutive tokens of an expert therefore spread evenly over its replicas within a batch,
// and what a small batch misses differs from step to step and evens out. Integer arithmetic, equal on CPU and GPU.
//
// Threads:   none. Counters given are of one writer: plain additions that others may read at any time.
#pragma once

#include <cstdint>

namespace evenkeel::kernels {

// As in algos/layer_map.h.
struct RouteTable {
  const int32_t* offsets;  // [num_experts + 1]
  const int32_t* slots;
  const uint32_t* bounds;
  int32_t num_experts;
};

struct RouteBatch {
  const void* ids;  // [num_tokens, top_k] of int32_t or int64_t
  int32_t id_bytes;
  int32_t top_k;
  int64_t num_tokens;
  int64_t row_stride;  // in elements
  int64_t first_token;
};

// Ranks whose replicas are passed over: lost now, or of a member that joined after the view the table presumes (what
// its slots hold is not what the table says). Null `lost`: none.
struct RouteMask {
  const volatile uint32_t* lost = nullptr;    // [num_ranks], nonzero: passed over
  const volatile uint64_t* joined = nullptr;  // [num_ranks], view number; above table_view: passed over
  uint64_t table_view = 0;
  int32_t slots_per_rank = 1;
};

// May be null.
struct RouteCounters {
  uint64_t* routed = nullptr;    // [num_slots]
  uint64_t* unrouted = nullptr;  // [num_experts]
};

// splitmix64's finaliser.
constexpr uint64_t RouteMix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// Of one call: equal salts give equal positions.
constexpr uint64_t RouteSalt(uint32_t rank, uint32_t layer, uint64_t step) {
  return RouteMix(RouteMix(uint64_t{rank} << 32 | layer) ^ step);
}

// Step of the Weyl sequence: its multiples by 1 to 16 (top_k) are all far from fractions with small denominators.
inline constexpr uint64_t kRouteStep = 0x49BFDE4172F9740Fu;

// Position in [0, 2^32) of the copy with index token * top_k + choice, for `expert`.
constexpr uint32_t RoutePosition(uint64_t salt, uint32_t expert, uint64_t copy_idx) {
  uint64_t begin = (salt ^ expert) * 0x9FB21C651E98DF25u;
  begin = (begin ^ (begin >> 32)) * 0xD6E8FEB86659FD93u;
  return static_cast<uint32_t>((begin + copy_idx * kRouteStep) >> 32);
}

// Writes slots [num_tokens, top_k]: -1 for negative ids, for experts without a live replica (counted as unrouted), and
// for ids that are no experts. Returns how many of the last there were.
int64_t Route(const RouteTable& table, const RouteBatch& batch, uint64_t salt, const RouteMask& mask,
              const RouteCounters& counters, int32_t* slots);

}  // namespace evenkeel::kernels
