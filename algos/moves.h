// SPDX-License-Identifier: Apache-2.0
//
// Moves: from the placement that a layer has to the one it is to have, in waves that are safe at every point.
//
// The controller asks for the next wave with the truth as it stands, carries it out, and asks again: a failed
// move is then merely a state from which to plan. A rank has arrived when it holds its target's experts, in
// whatever slots: what a rank holds and shall hold is never moved.
//
// Safety:    in a wave, every expert with a live replica keeps one that the wave neither retires nor writes;
//            sources are such replicas. Replicas that are being read are not retired.
// Progress:  where no wanted expert can be written directly, because each slot that is to go holds the last
//            replica of its expert, one such expert is first copied into spare room: a free slot, else a slot
//            of an expert with several replicas, which is restored later. moves.cc proves that this ends. One
//            spare slot in the layer is enough for any rearrangement.
// Fewest:    CountMoves(current, target) moves, where spare room is never needed.
// Order:     free slots are filled first, then the least loaded replicas retire; ties go to the lowest id.
// Errors:    kInvalidArgument: values that do not fit the shape, limits below 1. kFailedPrecondition: the
//            target cannot be reached from this state; the message says why.
#pragma once

#include <climits>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "algos/base/ids.h"
#include "algos/placement.h"

namespace evenkeel::algos {

enum class SlotUse : uint8_t {
  kLive,         // verified and in the maps, or about to be
  kFree,         // in no map, no move ordered: may be written
  kBusy,         // retired or being written: waits for its move, or for nothing but its retirement
  kUnavailable,  // of a dead rank, or condemned
};

struct MoveState {
  Shape shape;
  std::vector<SlotUse> use;  // [num_slots]
  // [num_slots]: content where live; where busy, what the slot will hold if all goes well (kNoExpert: it will
  // be free). Ignored elsewhere.
  std::vector<ExpertId> expert_of_slot;
  std::vector<int> readers;            // [num_slots] moves now reading from it; empty: none
  std::vector<int> moves_into_rank;    // [num_ranks] under way, over all layers; empty: this layer's busy slots
  std::vector<int> reads_from_rank;    // [num_ranks] under way, over all layers; empty: none
  std::vector<uint64_t> load_of_slot;  // [num_slots] tokens; empty: all equal
};

struct MoveLimits {
  int moves_per_rank_max = 2;        // into one rank at a time
  int copies_per_source_max = 1;     // out of one slot at a time
  int reads_per_rank_max = INT_MAX;  // out of one rank at a time
  int num_moves_max = INT_MAX;       // in a wave
  uint64_t bytes_max = UINT64_MAX;   // in a wave; one move is always allowed
  uint64_t expert_bytes = 0;
  std::vector<int> node_of_rank = {};  // [num_ranks]; empty: all on one node
};

struct PlannedMove {
  SlotIdx slot;
  ExpertId expert;
  // Live replicas that stay live through the wave, best first: same rank, same node, far; among equals those
  // of the rank that is read least. The first is reserved for this move, within the limits.
  std::vector<SlotIdx> sources;

  friend bool operator==(const PlannedMove&, const PlannedMove&) = default;
};

struct Wave {
  // Live now: to be taken out of the maps first. Those that no move names are blank in the target.
  std::vector<SlotIdx> retire;     // ascending
  std::vector<PlannedMove> moves;  // ascending by slot
  int num_into_spare_room = 0;     // of the moves, those that only make room for others

  bool empty() const { return retire.empty() && moves.empty(); }
};

// What to begin now. Empty when the target is reached or when everything left waits for busy slots, readers or
// limits.
absl::StatusOr<Wave> NextWave(const MoveState& state, const Placement& target, const MoveLimits& limits);

// Every rank's live slots hold exactly the experts of its target, and nothing is busy.
// Requires: sizes fit state.shape.
bool Reached(const MoveState& state, const Placement& target);

// All waves from `current` (blank: free slots) to `target`, if every move succeeds: for prices and dry runs.
absl::StatusOr<std::vector<Wave>> PlanMoves(const Shape& shape, const Placement& current, const Placement& target,
                                            const MoveLimits& limits);

// Slots that receive an expert their rank did not hold, counted with multiplicity (protocol, rule 32).
int CountMoves(const Shape& shape, const Placement& current, const Placement& target);

}  // namespace evenkeel::algos
