// SPDX-License-Identifier: Apache-2.0
//
// Route on the GPU: what kernels/host/route.h does, for top-k ids in device memory, counting in the same pass.
//
// One kernel, no allocation, no synchronisation: it can be captured in a CUDA graph and replayed. What changes
// between replays (table, mask, step) is read from memory at fixed addresses when the kernel runs.
//
// Tables that fit kSharedTableMax are read into shared memory once a block, counts are gathered there; larger
// ones are read and counted where they are.
//
// Errors:    launchers return cudaError_t as int; cudaErrorInvalidValue for sizes that make no sense.
#pragma once

#include <cstdint>

#include "kernels/host/route.h"

namespace evenkeel::kernels {

inline constexpr int kSharedTableMax = 48 << 10;  // bytes

// How a replica is chosen.
enum class RouteMode : int32_t {
  kShares = 0,        // by cumulative shares and salted Weyl position (protocol, rules 30 and 31)
  kFlatPosition = 1,  // (token * top_k + choice + rank) modulo the replicas, as vLLM's PR 24573 first had it
  kTokenHash = 2,     // (token * 2654435769 mod 2^32) modulo the replicas, which took its place (vLLM's PR 40810)
};

// What RouteCounters::routed counts.
enum class RouteCount : int32_t { kSlots = 0, kExperts = 1 };

struct RouteLaunch {
  RouteTable table;        // device memory; slots and bounds have num_slots entries
  RouteBatch batch;        // ids in device memory; id_bytes is 4 or 8
  RouteMask mask;          // device memory; masked ranks are passed over in mode kShares alone
  RouteCounters counters;  // device memory; added to atomically
  RouteMode mode = RouteMode::kShares;
  RouteCount count = RouteCount::kSlots;
  const uint64_t* step = nullptr;         // device: of the salt; null: 0
  const uint64_t* table_view = nullptr;   // device: takes the place of mask.table_view where given
  const uint64_t* mask_change = nullptr;  // device: number of the newest view that changed the mask; at or below
                                          // table_view the mask is not looked at. Null: it always is. Mode kShares
  const uint64_t* routed_at = nullptr;    // device: takes the place of counters.routed where given, counting
  uint64_t routed_offset = 0;       // from *routed_at, in counters; an address of 0: nothing is counted. Mode kShares
  uint32_t rank = 0, layer = 0;     // of the salt
  int32_t num_slots = 0;            // of the whole layer
  void* slots = nullptr;            // out, device: [num_tokens, top_k], dense
  int32_t slot_bytes = 0;           // 4 or 8; 0: as the ids
  uint64_t* num_unknown = nullptr;  // device, may be null: ids at or above num_experts are added to it
};

// Requires: `stream` a cudaStream_t of the current device, or null for the default one.
int LaunchRouteAndCount(const RouteLaunch& launch, void* stream);

}  // namespace evenkeel::kernels
