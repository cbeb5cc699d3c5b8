// SPDX-License-Identifier: Apache-2.0
//
// Holdings: which rank puts which expert into which store. Pure rules over maps, the same for every agent.
//
// Each expert of a layer has one owner among the ranks that hold it live. Owners write the snapshot, and the pools of
// their hosts keep what they own before anything else: so all pools together hold every expert as long as each has room
// for what its own ranks own, and no expert is kept twice while another is not kept at all.
#pragma once

#include <span>
#include <vector>

#include "algos/base/ids.h"
#include "algos/layer_map.h"
#include "algos/placement.h"

namespace evenkeel::agent {

// [num_experts]; no rank where the expert has no live replica. Experts with the fewest holders choose first, then by
// id; each takes the holder that owns the fewest so far, ties the lowest rank.
std::vector<RankId> OwnersOf(const algos::LayerMap& map, const algos::Shape& shape);

// Who of the ranks of one host fills the expert into its pool: the owner where it is of them, else the lowest one that
// holds the expert; no rank where none does. `ranks` are ascending.
RankId FillerOf(const algos::LayerMap& map, const algos::Shape& shape, ExpertId expert, RankId owner,
                std::span<const RankId> ranks);

// How much a host's pool wants to keep an expert, given the same: a pool that is full gives up what is worth less.
enum class Worth : int {
  kElsewhere = 0,  // no rank of the host holds it any more
  kHeld = 1,       // one does; a rank of another host owns it
  kOwned = 2,
};
Worth WorthOf(RankId owner, RankId filler, std::span<const RankId> ranks);

// Experts in a row.
struct ExpertRange {
  ExpertId first;
  int count = 0;

  bool Contains(ExpertId expert) const {
    return expert.value() >= first.value() && expert.value() - first.value() < count;
  }
  friend bool operator==(const ExpertRange&, const ExpertRange&) = default;
};

// The runs of `wanted` [num_experts], in pieces of at most `count_max`, ascending.
std::vector<ExpertRange> RangesOf(const std::vector<bool>& wanted, int count_max);

}  // namespace evenkeel::agent
