// SPDX-License-Identifier: Apache-2.0
//
// TransferModel: copies between ranks' slots: they take time, fail, corrupt, hang, and outlive their agent.
//
// A copy makes its destination useless from its first byte on. At its end it leaves what the source holds then, or
// nothing of use where the source has changed meanwhile. When its agent dies, a copy that was under way may still
// land until kLateMax later.
//
// Checks:    no slot in use is written; copies into one rank, and out of one slot, stay within their limits; no
//            (slot, generation) is written by two moves; no slot of a suspended engine is read or written from the
//            grant on.
// Threads:   none.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <tuple>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

#include "agent/core/event.h"
#include "algos/base/rng.h"
#include "tests/sim/event_queue.h"
#include "tests/sim/map_checker.h"
#include "tests/sim/options.h"
#include "tests/sim/region_model.h"
#include "tests/sim/store_model.h"
#include "tests/sim/trace.h"

namespace evenkeel::sim {

class TransferModel {
 public:
  static constexpr absl::Duration kLateMax = absl::Seconds(1);

  struct World {
    EventQueue* queue = nullptr;
    Trace* trace = nullptr;
    MapChecker* maps = nullptr;
    // The region of a living engine, or null.
    std::function<RegionModel*(int group, Member member)> find;
    const StoreModel* stores = nullptr;
  };
  using Ended = std::function<void(agent::TransferEnded)>;
  using Exit = std::function<void()>;

  TransferModel(const Options& options, World world, uint64_t seed);

  // `ended` is called once, unless the agent dies or `exit` is called: the copy does not end and its agent must.
  // `deadline` is in the simulation's time.
  void Start(RegionModel* destination, const agent::StartTransfer& order, absl::Time deadline, Ended ended, Exit exit);
  void Cancel(const RegionModel* destination, uint64_t move_id, int attempt);
  // The agent of this region has died; what was under way may land late.
  void AgentDied(const RegionModel* destination);

  // The region's engine is suspended: copies out of it end soon, without a result.
  void SourceSuspended(const RegionModel* source);
  // Nobody reads or writes the region's slots: its engine may replace what is in them.
  void CheckUntouched(const RegionModel& region) const;

  void Calm() { calm_ = true; }
  // Copies into ranks of this group are under way.
  bool AnyInto(int group) const;
  uint64_t num_from_stores() const { return num_from_stores_; }
  uint64_t num_started() const { return num_started_; }
  uint64_t num_good() const { return num_good_; }
  int most_out_of_a_slot() const { return most_out_of_a_slot_; }

 private:
  enum class Fate { kGood, kFails, kCorrupts, kHangs, kNeverEnds };
  struct Copy {
    RegionModel* destination = nullptr;
    RegionModel* source = nullptr;  // null: not there
    agent::StartTransfer order;
    uint64_t source_writes = 0;  // of the source slot, at the start
    bool from_store = false;
    std::optional<uint64_t> stored = std::nullopt;  // what the store has
    Fate fate = Fate::kGood;
    Ended ended;
    Exit exit;
    bool running = true;
  };

  void CheckStart(const Copy& copy);
  void End(uint64_t id, absl::Status status);
  // What the copy leaves in its slot if it runs to its end now.
  uint64_t Result(const Copy& copy);
  void Land(uint64_t id);
  Fate PickFate();

  const Options options_;
  const World world_;
  Rng rng_;
  uint64_t num_started_ = 0;
  uint64_t num_good_ = 0;
  uint64_t num_from_stores_ = 0;  // good ones
  int most_out_of_a_slot_ = 0;
  bool calm_ = false;
  absl::btree_map<uint64_t, Copy> copies_;  // under way or still to land, by number of start
  absl::btree_map<std::tuple<uint32_t, LayerId, SlotIdx, uint64_t>, uint64_t> writers_;  // -> move id
};

}  // namespace evenkeel::sim
