// SPDX-License-Identifier: Apache-2.0
//
// WavePlanner: NextWave with scratch that is kept from call to call (moves.h says what a wave is).
//
// Threads:   none. One planner per thread; results depend on the arguments alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "algos/base/ids.h"
#include "algos/moves.h"
#include "algos/placement.h"

namespace evenkeel::algos {

class WavePlanner {
 public:
  absl::StatusOr<Wave> Next(const MoveState& state, const Placement& target, const MoveLimits& limits);

 private:
  // An expert that a rank is to hold and neither holds nor is receiving.
  struct Want {
    RankId rank;
    ExpertId expert;
    bool planned = false;
  };
  enum class Outcome { kPlanned, kNoRoom, kMustWait };

  absl::Status Begin(const MoveState& state, const Placement& target, const MoveLimits& limits);
  absl::Status ReadSlots();
  void ListReplicas();
  absl::Status MatchRank(RankId rank);
  absl::Status CheckExperts();

  void PlanWants(bool unplaced_only);
  Outcome Plan(Want& want);
  SlotIdx FindRoomAt(RankId rank, bool& must_wait) const;
  bool MayDrop(SlotIdx slot) const;
  bool MayReceive(RankId rank) const;
  SlotIdx BestSource(ExpertId expert, RankId to) const;
  int Distance(RankId from, RankId to) const;
  uint64_t LoadOf(SlotIdx slot) const { return state_->load_of_slot.empty() ? 0 : state_->load_of_slot[slot.idx()]; }
  void AddMove(SlotIdx slot, ExpertId expert, SlotIdx source);
  void Drop(SlotIdx slot);
  void RetireBlanks();

  absl::Status MakeSpareRoom();
  SlotIdx FindSpareRoom(RankId near, bool& must_wait) const;
  Wave Finish();
  void AddSources(PlannedMove& move);

  std::span<const SlotIdx> ReplicasOf(ExpertId expert) const {
    const size_t first = static_cast<size_t>(first_replica_[expert.idx()]);
    return std::span(replicas_).subspan(first, static_cast<size_t>(num_live_[expert.idx()]));
  }

  // Arguments of the call.
  const MoveState* state_ = nullptr;
  const Placement* target_ = nullptr;
  const MoveLimits* limits_ = nullptr;
  // Scratch, rewritten by every call.
  std::vector<int32_t> num_live_, first_replica_;  // [expert]
  std::vector<SlotIdx> replicas_;                  // live ones, by expert, ascending
  std::vector<int32_t> num_left_;                  // [expert] live replicas that nothing planned drops or has claim to
  std::vector<int32_t> num_placed_;                // [expert] replicas at ranks that want them, or on their way there
  std::vector<int32_t> num_wanted_;                // [expert] of the rank being matched; 0 between ranks
  std::vector<int32_t> num_reads_, num_reads_of_rank_, num_moves_into_rank_;
  std::vector<uint8_t> is_kept_, is_taken_, is_dropped_;  // [slot]
  std::vector<int32_t> num_rank_wants_;                   // [rank] not planned yet
  std::vector<uint8_t> is_full_;                          // [rank] no slot to write in this wave
  std::vector<Want> wants_;                               // by rank, then target slot
  std::vector<SlotIdx> others_;                           // of one move, further sources
  Wave wave_;
  int num_moves_left_ = 0;
  bool has_busy_ = false;
  bool must_wait_ = false;
};

}  // namespace evenkeel::algos
