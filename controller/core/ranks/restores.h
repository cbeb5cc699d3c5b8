// SPDX-License-Identifier: Apache-2.0
//
// Restores: experts that have no live replica left are filled again from stores, before anything else is moved.
//
// Each goes into the slot whose loss harms least: a blank one, else a replica of the expert that has most of them. That
// slot is retired, waits until all have quiesced, is written from the host pools and the snapshot, verified, and enters
// the maps with the next publish, as in any wave. What failed is tried again, from the next store, with a back-off;
// an expert that comes back by itself (a retired slot that held it, rule 26) ends its restore.
//
// Threads:   none. Owned by Group.
// Limits:    GroupSettings::moves_per_rank_max orders into a rank at a time; one slot for each lost expert.
// Order:     Plan stages changes of the maps in the slot table; the group publishes them; then SendOrders.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "controller/core/event.h"
#include "controller/core/ranks/membership.h"
#include "controller/core/rollout/move_orders.h"
#include "controller/core/rollout/slot_table.h"

namespace evenkeel::controller {

class Restores {
 public:
  static constexpr absl::Duration kRetryMin = absl::Milliseconds(500);
  static constexpr absl::Duration kRetryMax = absl::Seconds(30);

  // What it looks at and changes; outlives it.
  struct Scene {
    const GroupInfo& info;
    const GroupSettings& settings;
    const Membership& members;
    SlotTable& slots;
    MoveOrders& orders;
  };
  explicit Restores(const Scene& scene) : scene_(scene) {}

  // Experts may have lost their last replica: Plan looks.
  void Look() { looks_ = true; }
  // A store was offered: what failed for want of one is tried at once.
  void SourcesChanged() { sources_changed_ = true; }

  // Tokens per slot of a layer, for choosing whose replica goes.
  using SlotLoads = std::function<std::vector<uint64_t>(LayerId)>;
  // Finds the experts without a replica, ends restores of those that have one again, chooses slots for the others.
  // Without any store nothing is chosen: no replica is given up for nothing.
  void Plan(absl::Time now, const SlotLoads& loads);
  // Orders those whose slots may be written now. `view_number`: that all must have quiesced at too.
  void SendOrders(absl::Time now, uint64_t view_number, Effects& effects);

  // Experts without a live replica, as Plan found them; ascending by layer and expert.
  const std::vector<std::pair<LayerId, ExpertId>>& dead() const { return dead_; }
  // Those that have a slot chosen: they may be expected to come back.
  bool running() const { return !restores_.empty(); }
  int num_begun() const { return num_begun_; }
  int num_restored() const { return num_restored_; }
  int num_failed() const { return num_failed_; }

  absl::Time NextWakeup() const;

 private:
  struct Restore {
    SlotIdx slot;
    bool ordered = false;
    int num_failed = 0;
    absl::Time retry = absl::InfinitePast();
  };
  using Key = std::pair<LayerId, ExpertId>;

  void FindDead();
  bool IsComing(LayerId layer, ExpertId expert) const;
  void EndRestores(absl::Time now);
  void ReturnSlot(const Key& key, const Restore& restore);
  bool IsUsable(LayerId layer, SlotIdx slot) const;
  SlotIdx ChooseSlot(LayerId layer, const std::vector<uint64_t>& loads) const;
  void BackOff(Restore& restore, absl::Time now);
  int NumOrdersInto(RankId rank) const;

  const Scene scene_;
  absl::btree_map<Key, Restore> restores_;
  std::vector<Key> dead_;
  bool looks_ = false;
  bool sources_changed_ = false;
  int num_begun_ = 0;
  int num_restored_ = 0;
  int num_failed_ = 0;  // attempts
  absl::Time sent_ = absl::InfinitePast();
};

}  // namespace evenkeel::controller
