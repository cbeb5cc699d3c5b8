// SPDX-License-Identifier: Apache-2.0
#include "controller/core/rollout/rollout_book.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace evenkeel::controller {

namespace {

void CountReport(GroupTotals& totals, const RolloutReport& report) {
  switch (report.kind) {
    case RolloutReport::Kind::kWaveBegun:
      ++totals.waves;
      break;
    case RolloutReport::Kind::kWaveUndone:
      ++totals.waves_undone;
      break;
    case RolloutReport::Kind::kWaveEnded:
      totals.retiring += report.retiring;
      totals.moving += report.moving;
      break;
    case RolloutReport::Kind::kMoveVerified:
      ++totals.moves;
      totals.bytes_moved += report.bytes;
      break;
    case RolloutReport::Kind::kMoveFailed:
      ++totals.moves_failed;
      break;
    case RolloutReport::Kind::kLayerDone:
      ++totals.rollouts;
      break;
    case RolloutReport::Kind::kLayerFailed:
    case RolloutReport::Kind::kLayerStopped:
    case RolloutReport::Kind::kAlert:
      break;
  }
}

void CountReport(OperationProgress& operation, const RolloutReport& report) {
  switch (report.kind) {
    case RolloutReport::Kind::kWaveBegun:
      ++operation.num_waves;
      break;
    case RolloutReport::Kind::kWaveUndone:
      operation.detail = absl::StrCat("a wave was undone: ", report.text);
      break;
    case RolloutReport::Kind::kWaveEnded:
      operation.retiring += report.retiring;
      operation.moving += report.moving;
      break;
    case RolloutReport::Kind::kMoveVerified:
      ++operation.num_moves_done;
      operation.num_moves = std::max(operation.num_moves, operation.num_moves_done);
      operation.bytes_done += report.bytes;
      operation.num_corrupt += report.num_corrupt;
      break;
    case RolloutReport::Kind::kMoveFailed:
      ++operation.num_moves_failed;
      operation.num_corrupt += report.num_corrupt;
      operation.detail = report.text;
      break;
    case RolloutReport::Kind::kLayerDone:
      ++operation.num_layers_done;
      break;
    case RolloutReport::Kind::kLayerFailed:
    case RolloutReport::Kind::kLayerStopped:
    case RolloutReport::Kind::kAlert:
      break;
  }
}

bool EndsLayer(RolloutReport::Kind kind) {
  return kind == RolloutReport::Kind::kLayerDone || kind == RolloutReport::Kind::kLayerFailed ||
         kind == RolloutReport::Kind::kLayerStopped;
}

// All layers of `running` have ended.
void Conclude(const RunningOperation& running, OperationProgress& operation) {
  operation.state = running.num_layers_stopped > 0  ? OperationState::kCancelled
                    : running.num_layers_failed > 0 ? OperationState::kFailed
                                                    : OperationState::kDone;
  operation.detail = absl::StrCat(operation.num_layers_done, " layers, ", operation.num_moves_done, " moves, ",
                                  operation.num_moves_failed, " retried");
  if (operation.state == OperationState::kFailed) operation.detail = running.failure;
  if (operation.state == OperationState::kCancelled) operation.detail.insert(0, "cancelled after ");
}

}  // namespace

void BookRollouts(GroupState& group, Operations& operations, absl::Time now, Effects& effects) {
  for (const RolloutReport& report : group.rollouts.TakeReports()) {
    CountReport(group.totals, report);
    if (report.kind == RolloutReport::Kind::kAlert) {
      group.Alert(
          report.text, [layer = report.layer](const GroupState& g) { return g.rollouts.PhaseOf(layer) != "steady"; },
          effects);
    }
    operations.Update(
        report.operation_id, now, [&](OperationProgress& operation) { CountReport(operation, report); }, effects);
    if (!group.running.has_value() || group.running->id != report.operation_id) continue;
    RunningOperation& running = *group.running;
    if (!EndsLayer(report.kind)) continue;
    if (report.kind != RolloutReport::Kind::kLayerDone) group.planned_shares.erase(report.layer);
    --running.num_layers_left;
    running.num_layers_failed += report.kind == RolloutReport::Kind::kLayerFailed;
    running.num_layers_stopped += report.kind == RolloutReport::Kind::kLayerStopped;
    if (running.failure.empty()) running.failure = report.text;
    if (running.num_layers_left > 0) continue;
    if (IsRankChange(running.cause)) {
      if (RankChange* change = group.changes.Find(running.id)) change->failure = running.failure;
    } else {
      operations.Update(
          running.id, now, [&](OperationProgress& o) { Conclude(running, o); }, effects);
    }
    group.running.reset();
  }
}

}  // namespace evenkeel::controller
