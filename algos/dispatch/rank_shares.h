// SPDX-License-Identifier: Apache-2.0
//
// RankShares: how one rank splits its tokens of an expert over the replicas, near or far ones first, while all ranks
// together still give every replica its share.
//
// A transport problem for each expert (transport.h): ranks send tokens in proportion to their traffic, replicas take
// their shares of the sum. Replicas on avoided ranks give theirs to the others in proportion; where there are no others
// nothing is avoided. Exact but for rounding each rank's split to units of 2^-32.
//
// Needs:     the C++ standard library alone; engines link it. Takes no memory.
// Order:     ties go to the lowest replica, then rank.
#pragma once

#include <cstdint>
#include <span>

namespace evenkeel::algos {

enum class RoutePreference : int32_t {
  kNone = 0,    // every rank by the shares
  kNear = 1,    // own replicas, then those of the host, as far as shares allow
  kRemote = 2,  // other hosts' replicas, as far as shares allow
};

struct RankShareOptions {
  RoutePreference preference = RoutePreference::kNone;
  int32_t slots_per_rank = 1;
  std::span<const int32_t> host_of_rank = {};  // [num_ranks] the lowest rank of its host; itself: each has its own
  std::span<const uint8_t> avoided = {};       // [num_ranks] nonzero: replicas there are avoided; empty: none
  std::span<const uint64_t> traffic = {};      // [num_ranks] weights, as FitTraffic leaves them
};

// Memory that the caller lends for the time of a call.
struct RankShareScratch {
  std::span<uint64_t> demand;          // [num_ranks]
  std::span<uint64_t> domains;         // [2 x num_ranks]
  std::span<uint64_t> supply;          // [replicas of the expert at least]
  std::span<uint64_t> flows;           // likewise
  std::span<int32_t> rank_of_replica;  // likewise
};

// units[i]: of 2^32 tokens of the expert on `rank`, how many go to slots[i]; `shares` likewise of all tokens. Both add
// up to 2^32. A rank without traffic takes the shares, less what is avoided.
// Requires: slots, shares, units of one size > 0.
void SplitForRank(int32_t rank, std::span<const int32_t> slots, std::span<const uint64_t> shares,
                  const RankShareOptions& options, RankShareScratch scratch, std::span<uint64_t> units);

// `weights` in the same proportions (nonzero ones stay so) with a sum that SplitForRank takes. All 1 where all are 0.
void FitTraffic(std::span<uint64_t> weights);

}  // namespace evenkeel::algos
