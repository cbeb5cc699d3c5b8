// SPDX-License-Identifier: Apache-2.0
//
// MapChecker: maps in use and the slots they name: the one rule that makes rearranging safe.
//
// Every map that is the newest of a region, waits to be written into one, or was taken by an open step is in use and
// held here. Each epoch of a group is one map, whoever holds it. The named slots of a map are looked at when its
// first holder comes; while it is held no named slot may change, so nothing has to be looked at again.
//
// Checks:    no slot is written while a map in use names it; a map in use names slots that hold, verified, the very
//            expert; each expert has one; one epoch, one map; every rank that serves knows the members whose slots maps
//            in use name (rule 14).
// Threads:   none.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/btree_map.h"

#include "agent/core/event.h"
#include "algos/protocol/identity.h"
#include "tests/sim/region_model.h"
#include "tests/sim/trace.h"

namespace evenkeel::sim {

class MapChecker {
 public:
  MapChecker(Trace* trace, int num_groups) : trace_(trace), groups_(static_cast<size_t>(num_groups)) {}

  // The regions that serve, by rank; null where the engine has ended. Called whenever one begins or ends to serve.
  void SetRegion(int group, int rank, const RegionModel* region);
  // All engines of the group start anew: nothing of before is in use.
  void ForgetGroup(int group);

  // A holder of `maps` comes or goes. Every Hold needs one Release of the same epoch, until ForgetGroup.
  void Hold(int group, const std::shared_ptr<const agent::Maps>& maps);
  void Release(int group, Epoch epoch);

  // Slots of this group were damaged: an expert may be left without any.
  void AllowDeadExperts(int group) { groups_[static_cast<size_t>(group)].allow_dead_experts = true; }

  // Maps that a controller sends, before anybody holds them.
  void Published(int group, Epoch epoch, uint64_t digest);

  // The content of a slot is about to change, or may.
  void Write(const RegionModel& region, LayerId layer, SlotIdx slot);
  // A token of `expert` is computed in the slot now.
  void Compute(const RegionModel& region, LayerId layer, SlotIdx slot, ExpertId expert, const char* when);

  // The rank's engine has made its slots anew, as of one version: those that maps in use name hold it.
  void CheckRank(const RegionModel& region) const;

  // `rank` is safe to terminate, it is said: no map in use names a slot of it.
  void CheckUnnamed(int group, int rank) const;

  bool IsHeld(int group, Epoch epoch) const;
  uint64_t num_epochs() const { return num_epochs_; }

 private:
  struct Version {
    uint64_t digest = 0;
    std::shared_ptr<const agent::Maps> maps = {};  // null while nobody holds it
    int num_holders = 0;
  };
  struct Group {
    std::vector<const RegionModel*> regions;
    absl::btree_map<Epoch, Version> versions;
    bool allow_dead_experts = false;
    std::vector<int> num_naming;  // [num_layers * num_slots] distinct maps in use that name the slot
  };

  void CheckVersion(int group, const agent::Maps& maps);
  void CheckKnown(int group, const agent::Maps& maps) const;
  void CountNames(Group& group, const agent::Maps& maps, int change);

  Trace* const trace_;
  std::vector<Group> groups_;
  uint64_t num_epochs_ = 0;
};

}  // namespace evenkeel::sim
