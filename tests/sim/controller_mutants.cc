// SPDX-License-Identifier: Apache-2.0
//
// What the mutants' controllers hear and send that is not so.
#include <variant>

#include "absl/status/status.h"

#include "tests/sim/options.h"
#include "tests/sim/sim_controller.h"

namespace evenkeel::sim {

void SimController::MutateUp(AgentMessage& message) const {
  const auto* const failed = std::get_if<MoveFailed>(&message);
  if (world_->options.mutant != Mutant::kPlanTakenForDone || failed == nullptr) return;
  const auto order = orders_.find(failed->move_id);
  if (order == orders_.end()) return;
  message = MoveFinished{.move_id = failed->move_id,
                         .layer = failed->layer,
                         .slot = failed->slot,
                         .generation = failed->generation,
                         .fingerprint = order->second,
                         .bytes = 0,
                         .elapsed = absl::ZeroDuration()};
}

bool SimController::MutateDown(const controller::SendToAgent& effect) {
  const Mutant mutant = world_->options.mutant;
  if (mutant == Mutant::kPlanTakenForDone) {
    if (const auto* order = std::get_if<MoveOrder>(&*effect.message)) orders_[order->move_id] = order->fingerprint;
  }
  const auto* const cancel = std::get_if<CancelMove>(&*effect.message);
  if (mutant != Mutant::kUndoneMovesGoOn || cancel == nullptr) return false;
  strand_.Post(
      controller::AgentMessageReceived{.session = effect.session,
                                       .message = MoveFailed{.move_id = cancel->move_id,
                                                             .layer = cancel->layer,
                                                             .slot = cancel->slot,
                                                             .generation = cancel->generation,
                                                             .status = absl::AbortedError("taken to be cancelled"),
                                                             .content_kept = true,
                                                             .source = RankId()}});
  return true;
}

}  // namespace evenkeel::sim
