// SPDX-License-Identifier: Apache-2.0
//
// World: what the processes of a run share: time, trace, network, memory, engines, checkers.
//
// Threads:   none.
// Owns:      everything but the processes.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"

#include "algos/base/rng.h"
#include "tests/sim/engine_model.h"
#include "tests/sim/event_queue.h"
#include "tests/sim/load_checker.h"
#include "tests/sim/loss_checker.h"
#include "tests/sim/map_checker.h"
#include "tests/sim/network.h"
#include "tests/sim/options.h"
#include "tests/sim/region_model.h"
#include "tests/sim/store_model.h"
#include "tests/sim/trace.h"
#include "tests/sim/transfer_model.h"

namespace evenkeel::sim {

struct World {
  explicit World(const Options& run_options);
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // A fresh region, never freed. `joining`: of an engine that was started to join.
  RegionModel* AddRegion(int group, const GroupInfo& info, Member member, bool joining = false);
  // The region of a living engine, or null.
  RegionModel* FindRegion(int group, Member member);
  int AgentOf(int group, int rank) const { return group * options.num_ranks + rank; }
  GroupInfo InfoOf(int group) const;
  // The engine of this incarnation holds its lock.
  bool Lives(int group, const Member& member) const;

  const Options options;
  EventQueue queue;
  Trace trace;
  Rng rng;  // of processes and faults
  MapChecker maps;
  LoadChecker load;
  LossChecker losses;
  StoreModel stores;
  Network network;
  TransferModel transfers;
  std::vector<std::unique_ptr<EngineModel>> engines;  // by group
  std::vector<std::unique_ptr<RegionModel>> regions;  // by id
  std::vector<uint64_t> weights_version;              // by group: that all ranks are to come to
  uint32_t stored_term = 0;                           // the controllers' store
  bool calm = false;                                  // no more faults
  absl::btree_set<std::pair<int, int>> may_leave;     // (group, rank) that somebody asked to be drained
};

}  // namespace evenkeel::sim
