// SPDX-License-Identifier: Apache-2.0
//
// Rollouts: carrying layers from the placement they have to the one they are to have.
//
// Each layer goes in waves: retire (with the publish of the wave before), wait until all have quiesced, move, then
// publish what was verified. Every wave is planned from the slots as they are, so a failed move, a lost slot or a new
// target only changes what the next wave is. A wave that outlives its deadline is undone: slots that no move was
// ordered into return to the maps, the others wait for their agents' word; then the layer backs off.
//
// Threads:   none. Owned by Group.
// Limits:    GroupSettings::concurrent_layers_max layers at a time, lowest first; moves_per_rank_max and
//            copies_per_source_max over all of them.
// Order:     Plan stages changes of the maps in the slot table; the group commits and publishes them; then SendOrders.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/moves.h"
#include "algos/placement.h"
#include "controller/core/event.h"
#include "controller/core/ranks/membership.h"
#include "controller/core/rollout/layer_rollout.h"
#include "controller/core/rollout/move_orders.h"
#include "controller/core/rollout/move_pace.h"
#include "controller/core/rollout/slot_table.h"
#include "controller/core/rollout/step_times.h"
#include "controller/core/status.h"

namespace evenkeel::controller {

class Rollouts {
 public:
  static constexpr int kWavesUndoneMax = 10;  // in a row without a verified move; then the layer gives up
  static constexpr int kWavesFailedMax = 8;   // likewise, of waves whose moves all failed
  static constexpr int kAlertAfter = 3;       // waves undone in a row with the same culprit (rule 28)
  static constexpr int kStepsPerWave = 20;    // of the 99th percentile; up to kWaveDeadlineMax
  static constexpr absl::Duration kWaveDeadlineMax = absl::Hours(1);

  // What the rollouts look at and change; outlives them.
  struct Scene {
    const GroupInfo& info;
    const GroupSettings& settings;
    const Membership& members;
    SlotTable& slots;
    MoveOrders& orders;
    const StepTimes& step_times;
  };
  explicit Rollouts(const Scene& scene) : scene_(scene) {}

  // Requires: `target` validates. A layer that is on its way already turns to the new target after its moves now open.
  void Start(LayerId layer, algos::Placement target, std::string operation_id, absl::Time now);
  // No further waves; what was retired and is whole returns to the maps.
  void Stop(LayerId layer);
  // As Stop, once the wave at hand has ended; nothing where the layer is not on its way.
  void StopAfterWave(LayerId layer);
  // Holds for waves that begin from now on.
  void SetPace(MovePace pace) { pace_ = pace; }
  // A wave is under way.
  bool moving() const;
  bool running() const { return !layers_.empty(); }
  bool running(LayerId layer) const { return layers_.contains(layer); }

  // Tokens per slot of a layer, for choosing which replicas retire first.
  using SlotLoads = std::function<std::vector<uint64_t>(LayerId)>;
  // A rank is suspended: the waves at hand end as soon as their moves have, which are given up. None is begun until all
  // ranks have the same weights (rule 22).
  void Pause(absl::Time now, Effects& effects);
  // Closes waves whose moves have all ended, ends those past their deadline, begins new ones.
  void Plan(absl::Time now, const SlotLoads& loads, Effects& effects);
  // Orders the moves whose slots may be written now. `view_number`: that all must have quiesced at too.
  void SendOrders(absl::Time now, uint64_t view_number, Effects& effects);

  // The agent has answered for a slot (or its inventory has).
  struct MoveEnd {
    LayerId layer;
    SlotIdx slot;
    bool verified = false;
    int num_corrupt = 0;  // attempts that did not match their fingerprint
    RankId source = {};   // the last one tried, where it failed
    uint64_t bytes = 0;
    std::string text = {};  // why it failed
  };
  void OnMoveEnded(const MoveEnd& end);

  absl::Time NextWakeup() const;

  // Of a wave's first try: kStepsPerWave times the group's measured step time, or as set where that is more (rule 28).
  absl::Duration WaveDeadline() const;

  // ---- What happened, for operations and totals; each call returns what is new since the last one.
  using Report = RolloutReport;
  std::vector<Report> TakeReports();

  // Layers whose wave is held up for more than a second, and by whom.
  std::vector<WaveBlocked> Blocked(absl::Time now, uint64_t view_number) const;
  std::string_view PhaseOf(LayerId layer) const;

 private:
  void PlanLayer(LayerId layer, LayerRollout& rollout, absl::Time now, const SlotLoads& loads, Effects& effects);
  void CloseWave(LayerId layer, LayerRollout& rollout, absl::Time now, std::vector<SlotIdx>& staged);
  void UndoWave(LayerId layer, LayerRollout& rollout, absl::Time now, Effects& effects);
  void BeginWave(LayerId layer, LayerRollout& rollout, absl::Time now, const SlotLoads& loads,
                 std::vector<SlotIdx>& staged);
  void EnterWave(LayerId layer, LayerRollout& rollout, algos::Wave wave, absl::Time now);
  // Confirmed content that the target wants on its rank, or that the wave just closed has made.
  void StageWanted(LayerId layer, const LayerRollout& rollout, std::vector<SlotIdx>& staged);
  void TryOrder(LayerId layer, LayerRollout& rollout, WaveMove& move, absl::Time now, uint64_t view_number,
                Effects& effects);
  void FailMove(LayerId layer, LayerRollout& rollout, WaveMove& move);
  void ReportEnd(LayerId layer, const LayerRollout& rollout, absl::Time now);
  void BackOff(LayerRollout& rollout, std::string reason, absl::Time now);
  void Finish(LayerId layer, const LayerRollout& rollout, absl::Status status);
  void ReturnRetired(LayerId layer, const RolloutWave& wave);
  Blame FindBlame(LayerId layer, const LayerRollout& rollout, uint64_t view_number) const;
  int NumActive() const;

  const Scene scene_;
  LayerRollouts layers_;
  std::vector<LayerId> done_;  // to be erased after the present pass
  std::vector<Report> reports_;
  uint64_t view_number_ = 0;  // of the last SendOrders
  absl::Time planned_ = absl::InfinitePast();
  MovePace pace_ = MovePace::kFree;
};

}  // namespace evenkeel::controller
