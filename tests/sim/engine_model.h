// SPDX-License-Identifier: Apache-2.0
//
// EngineModel: the inference engines of one group: steps, tokens travelling between ranks, stalls and ends.
//
// Each lane begins steps under the newest maps of its region; a step is open from begin_step until every token it
// sent has come back. A token is sent some lag after the begin, travels to the rank of the slot named, is
// computed there a while later, and its answer travels back. Engines stall, are idle now and then, in lockstep
// groups wait for the slowest, and give steps up; the answers to those are thrown away.
//
// With Options::steps_around_changes_only an engine makes steps only around a change of its maps, as if it had
// been busy before; between changes its counters grow by the load of the slots that its maps name.
//
// A rank that a view has left out goes on, where work for others is bracketed, until it takes that view itself; those
// that took it refuse its tokens. Engines may hang, holding their lock, and be slow.
//
// Checks:    no step waits on for a rank that the engine's view lacks.
// Threads:   none.
// Owns:      steps and tokens. Regions belong to the simulation and outlive the model.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/time/time.h"

#include "algos/base/rng.h"
#include "algos/layer_map.h"
#include "tests/sim/event_queue.h"
#include "tests/sim/load_checker.h"
#include "tests/sim/load_model.h"
#include "tests/sim/map_checker.h"
#include "tests/sim/options.h"
#include "tests/sim/region_model.h"
#include "tests/sim/trace.h"

namespace evenkeel::sim {

class EngineModel {
 public:
  struct World {
    EventQueue* queue = nullptr;
    Trace* trace = nullptr;
    MapChecker* maps = nullptr;
    LoadChecker* load = nullptr;
    // Something that the rank's agent observes has changed.
    std::function<void(int rank)> changed;
    // The rank's word that nobody is to read its slots is in its region.
    std::function<void(int rank)> suspended = nullptr;
    // It begins to replace what is in them.
    std::function<void(int rank)> replaces = nullptr;
  };

  EngineModel(const Options& options, int group, World world, uint64_t seed);

  // The rank's engine is now the one with `region`; it begins to serve at once or, where region->in_set is false,
  // when a view names it and it has maps.
  void Start(RegionModel* region);
  void Kill(int rank);
  void Stall(int rank, absl::Time until);
  // It gets nowhere any more, until it is killed.
  void Hang(int rank);
  // What it computes takes long.
  void Slow(int rank, absl::Time until) { At(rank).slow_until = until; }
  // So does what others compute for it: it is hard to reach.
  void SlowFor(int rank, absl::Time until) { At(rank).slow_for_until = until; }
  // It does not know yet that it was left out.
  bool goes_on(int rank) const { return ranks_[static_cast<size_t>(rank)].alone; }
  bool hangs(int rank) const { return ranks_[static_cast<size_t>(rank)].hung; }
  bool alive(int rank) const { return ranks_[static_cast<size_t>(rank)].region != nullptr; }
  RegionModel* region(int rank) const { return ranks_[static_cast<size_t>(rank)].region; }

  // Weights that are replaced while the engine is suspended.
  struct Reload {
    uint64_t version = 0;
    absl::Duration takes;
    int64_t bad_slot = -1;  // index of one that gets other content than its replicas
  };
  // The engine begins no step and takes no work until all is replaced; that begins when its own steps have ended and
  // its agent has granted it. Nothing where it is suspended already.
  void Suspend(int rank, const Reload& reload);

  // What the engine tells its agent of its open steps: since when the oldest is open, and the ranks that it has been
  // waiting for for a while.
  struct Waits {
    absl::Duration oldest_open;
    std::vector<RankId> for_ranks;
  };
  Waits WaitsOf(int rank) const;

  // The agent made `maps` the newest of the rank's region.
  void TakeMaps(RegionModel* region, std::shared_ptr<const agent::Maps> maps);
  void TakeView(RegionModel* region, const View& view);
  // A slot was filled; derived tensors are refreshed at the next begin_step.
  void WantRefresh(RegionModel* region, LayerId layer, SlotIdx slot);
  // Brings the counters up to now.
  void Accrue(RegionModel* region);

  // Load stays as it is from now on, engines neither stall nor give up.
  void Calm();

  uint64_t num_steps() const { return num_steps_; }
  uint64_t num_tokens() const { return num_tokens_; }
  uint64_t num_reloads() const { return num_reloads_; }

 private:
  struct Step {
    int rank = 0;
    int lane = 0;
    uint32_t serial = 0;  // of this use of the place
    Began began = {};
    int outstanding = 0;  // tokens that travel or are computed
    bool sent = false;
    bool open = false;     // holds the region back
    bool aborted = false;  // its answers are thrown away
    bool lost = false;     // some answer will never come
    bool held = true;      // its maps count as in use
    absl::Time opened = {};
    const RegionModel* region = nullptr;
    uint64_t lost_to = 0;  // ranks that will never answer, as bits
    std::shared_ptr<const agent::Maps> maps = {};
  };
  struct Token {
    uint32_t step = 0;
    LayerId layer;
    ExpertId expert;
    SlotIdx slot;
    int target = 0;
    uint32_t target_life = 0;
    bool live = true;                        // the place is in use
    Began served = {};                       // where bracketed
    const RegionModel* served_in = nullptr;  // of the engine that computes it
    uint64_t weight = 0;
  };
  struct Rank {
    RegionModel* region = nullptr;  // null: ended
    uint32_t life = 0;
    absl::Time stalled_until = absl::InfinitePast();
    absl::Time stall_ends = absl::InfinitePast();  // likewise; what was put off then is done then, in calm too
    absl::Time slow_until = absl::InfinitePast();
    absl::Time slow_for_until = absl::InfinitePast();
    bool hung = false;
    bool alone = false;        // a view that others took lacks it, and it goes on
    uint64_t alone_since = 0;  // that view
    std::vector<int> open_of_lane;
    std::vector<bool> lane_waits;      // for a step to end, or in lockstep for others
    std::vector<bool> lane_scheduled;  // to begin a step
    int rounds_ended = 0;
    absl::Time accrued;
  };

  Rank& At(int rank) { return ranks_[static_cast<size_t>(rank)]; }
  absl::Duration Exponential(absl::Duration mean);
  // If the rank is stalled, runs `action` after it and returns true.
  bool Deferred(int rank, EventQueue::Action action);

  void ScheduleBegin(int rank, int lane, absl::Duration delay);
  void BeginStep(int rank, int lane, uint32_t life);
  // Returns the step's place.
  uint32_t OpenStep(int rank, int lane, std::shared_ptr<const agent::Maps> maps);
  bool MayBegin(int rank, int lane);
  void Serve(RegionModel* region);
  // Nothing depends on its maps any more.
  void LeaveSet(int rank);
  // It serves with nobody any more: its steps are given up, its answers thrown away.
  void Exclude(int rank);
  static bool IsNamed(const RegionModel& region);
  // Whether `region` takes tokens from the engine with `sender`.
  static bool Accepts(const RegionModel& region, const RegionModel& sender);
  bool IsStalled(int rank) const;
  // Open steps of the engine that wait for ranks which its view lacks, by place.
  std::vector<uint32_t> WaitingForLost(const RegionModel& region) const;
  // They are given up: the view was read where they wait (rule 14).
  void GiveUpOnLost(const RegionModel& region);
  // A while after it took a view, unless it was stalled meanwhile: none is left that does.
  void CheckGivenUpLater(const RegionModel* region, uint64_t view_number);
  // The slot that a token of `expert` goes to, not on a rank that is known to be lost; none where there is no other.
  SlotIdx Route(const RegionModel& region, const algos::LayerMap& map, LayerId layer, ExpertId expert,
                uint32_t position);
  // The step is given up, to be tried again, as nobody has the expert (rule 25).
  void WaitForLost(uint32_t step_idx, LayerId layer, ExpertId expert);
  void ReloadWhenGranted(RegionModel* region, const Reload& reload);
  void GrantAlone(RegionModel* region);
  void Replace(RegionModel* region, const Reload& reload);
  void Resume(RegionModel* region, const Reload& reload);
  void DriftLater();
  void StepBefore(RegionModel* region);
  void SendTokens(uint32_t step_idx);
  void SendToken(uint32_t step_idx);
  void Arrive(uint32_t token_idx);
  void Finish(uint32_t token_idx);
  void Return(uint32_t token_idx);
  void Lose(uint32_t token_idx);
  void CloseStep(uint32_t step_idx);
  void Abort(uint32_t step_idx, uint32_t serial);
  void AbortLater(uint32_t step_idx, absl::Duration mean);
  void WakeWaiting();
  void Refresh(RegionModel* region);
  void FreeIfDone(uint32_t step_idx);
  absl::Duration TravelTime();

  const Options options_;
  const int group_;
  const World world_;
  Rng rng_;
  LoadModel load_;
  std::vector<Rank> ranks_;
  std::vector<Step> steps_;
  std::vector<uint32_t> steps_free_;
  std::vector<Token> tokens_;
  std::vector<uint32_t> tokens_free_;
  bool calm_ = false;
  int num_waiting_ = 0;  // lanes, over all ranks
  uint32_t num_serials_ = 0;
  uint64_t num_steps_ = 0;
  uint64_t num_tokens_ = 0;
  uint64_t num_reloads_ = 0;
};

}  // namespace evenkeel::sim
