// SPDX-License-Identifier: Apache-2.0
//
// Admission: who may attach to a group, what the controller takes from an inventory, and when a group is formed.
//
// Threads:   none; functions over a GroupState.
// Errors:    refusals name what differs, with both values.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "controller/core/event.h"
#include "controller/core/group_state.h"
#include "controller/core/ranks/membership.h"

namespace evenkeel::controller {

// What an Attach must be in itself, whatever the group.
absl::Status CheckAttach(const Attach& attach);

// The same group: equal model, weights, tensors, sizes, counting and routing.
absl::Status CheckSameGroup(const GroupInfo& group, const GroupInfo& other);

// Takes the agent in or lets it wait; a member is welcomed and sent what it lacks once a term is taken.
absl::StatusOr<Membership::Admission> AdmitAgent(GroupState& group, SessionId session, const Attach& attach,
                                                 absl::Time now, Effects& effects);

// Takes a waiter into the set, held: welcomed, but told of no view and sent no maps yet, its slots barred. The caller
// publishes the view. Requires: its rank is not in the view and nobody speaks for it.
void AdmitNewcomer(GroupState& group, const Waiter& waiter, absl::Time now, Effects& effects);

// Welcomes all that attached before the term was taken.
void WelcomeAll(GroupState& group, Effects& effects);

// Publishes the view; fixes fingerprints and names all confirmed content, for the caller to publish. Only once all ranks
// are attached under a term; otherwise does nothing and returns false.
bool FormGroup(GroupState& group, Effects& effects);

// Counts and hands on how the move into a slot ended, when the slot table said so.
void TakeOutcome(GroupState& group, LayerId layer, SlotIdx slot, SlotTable::Outcome outcome, Rollouts::MoveEnd end,
                 absl::Time now, Effects& effects);

}  // namespace evenkeel::controller
