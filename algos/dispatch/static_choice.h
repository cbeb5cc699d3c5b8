// SPDX-License-Identifier: Apache-2.0
//
// StaticChoice: one replica for each rank's tokens of an expert, by place and by how often it was chosen so far.
//
// Ranks choose one after another, ascending. Each chooses, of the replicas that its rule likes best, one that fewest
// ranks before it have chosen. Shares play no part: for engines whose tables hold one slot per expert. Replicas on
// avoided ranks are chosen only where there are no others. So an expert with a replica is never left unassigned.
//
// Needs:     the C++ standard library alone; engines link it. Takes no memory.
// Order:     the same seed, layer, expert and replicas, the same choices; random numbers break ties alone.
#pragma once

#include <cstdint>
#include <span>

namespace evenkeel::algos {

enum class StaticRule : int32_t {
  kAny = 0,
  kNear = 1,    // of this rank, else of its host, else any
  kRemote = 2,  // of another rank; its own only where there is no other
};

struct StaticOptions {
  StaticRule rule = StaticRule::kAny;
  int32_t slots_per_rank = 1;
  std::span<const int32_t> host_of_rank = {};  // [num_ranks] equal for ranks of a host, or empty: each has its own
  std::span<const uint8_t> avoided = {};       // [num_ranks] nonzero: replicas there are avoided; empty: none
  std::span<const uint8_t> absent = {};        // [num_ranks] nonzero: sends nothing, so its choice does not count
  uint64_t seed = 42;
  int32_t layer = 0;
  int32_t expert = 0;
};

// chosen[r]: position among `slots` of what rank r chooses, for the first chosen.size() ranks. `counts` is scratch.
// Requires: slots.size() == counts.size() > 0.
void ChooseStatically(std::span<const int32_t> slots, const StaticOptions& options, std::span<int32_t> counts,
                      std::span<int32_t> chosen);

}  // namespace evenkeel::algos
