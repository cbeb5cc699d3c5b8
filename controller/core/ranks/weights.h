// SPDX-License-Identifier: Apache-2.0
//
// Weights: which ranks are suspended and which have weights of another version, and what waits for them (rule 22).
//
// A rank that is suspended stays in the maps: what its engine does with tokens meanwhile is its engine's matter. Moves
// end, also those among other ranks; when nothing reads from the rank or writes to it, it is told. It attaches again
// when it has resumed, with its slots and their fingerprints; as long as versions differ its slots stay as they are in
// the maps, shares are left alone and nothing is moved. When all have the same version the expected fingerprints are
// fixed anew, once for the version, and moves go on.
//
// Threads:   none; functions over a GroupState.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"

#include "controller/core/event.h"
#include "controller/core/group_state.h"
#include "controller/core/ranks/membership.h"
#include "controller/core/rollout/slot_table.h"

namespace evenkeel::controller {

// Versions that differ for so long, while nobody is suspended, raise an alert.
inline constexpr absl::Duration kWeightsDifferFor = absl::Seconds(10);

// The engine of a member says that it is suspended.
void NoteSuspended(GroupState& group, MemberRecord& member, absl::Time now, Effects& effects);

// Takes every step that can be taken now; before maps are published.
void AdvanceWeights(GroupState& group, absl::Time now, Effects& effects);
absl::Time NextWeightsLook(const GroupState& group, absl::Time now);

// "rank 3 is suspended; version 2 on ranks 0, 1, version 1 on ranks 2, 3"; empty where all are settled.
std::string UnsettledText(const GroupState& group);
// What the conflicts of one version mean for people.
void AlertConflicts(GroupState& group, const std::vector<FingerprintConflict>& conflicts, Effects& effects);

}  // namespace evenkeel::controller
