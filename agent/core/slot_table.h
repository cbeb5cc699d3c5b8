// SPDX-License-Identifier: Apache-2.0
//
// SlotTable: this rank's own slots, as the region's inventory has them, and which of them maps may refer to.
//
// A slot may be overwritten once no map that could be in use here names it: it knows since which epoch no map
// does, and compares that with the epoch at which the engine has quiesced. A slot may be named if it is
// verified, holds that very expert, and no move into it is open (protocol, rules 5, 7, 10).
//
// Order:     every change of a record is an effect StoreSlot, added where it happens.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"

#include "agent/core/event.h"
#include "algos/layer_map.h"
#include "algos/protocol/identity.h"
#include "algos/protocol/messages.h"

namespace evenkeel::agent {

class SlotTable {
 public:
  struct Slot {
    SlotRecord record;
    bool named = false;      // by the newest accepted maps
    Epoch unnamed_since;     // where not named: no maps of this epoch or later name it
    bool lost = false;       // verified once, found different since; freed when no map in use names it
    bool move_open = false;  // a move into it was accepted and has not ended
  };

  // `maps` are the newest in the region; older ones may still be in use.
  SlotTable(const GroupInfo& group, RankId rank, std::vector<SlotRecord> records, const Maps& maps);

  bool Owns(LayerId layer, SlotIdx slot) const;
  // Requires: Owns(layer, slot).
  const Slot& at(LayerId layer, SlotIdx slot) const { return slots_[IndexOf(layer, slot)]; }
  void Store(LayerId layer, SlotIdx slot, const SlotRecord& record, Effects& effects);
  void SetMoveOpen(LayerId layer, SlotIdx slot, bool open) { slots_[IndexOf(layer, slot)].move_open = open; }
  // Whether the slot's old content can be relied upon.
  bool HoldsContent(LayerId layer, SlotIdx slot) const;

  // Slots that an agent before this one left in `writing`.
  void FreeLeftovers(Effects& effects);

  // Rule 7, for the new map of one layer.
  absl::Status CheckNamed(LayerId layer, const algos::LayerMap& map) const;
  void SetNamed(const Maps& newest);
  // OK where no map that may be in use names the slot, with an engine that has quiesced at `quiesced`.
  absl::Status CheckWritable(LayerId layer, SlotIdx slot, Epoch quiesced) const;

  // Asks for the fingerprint of the next named slot, in turn; nothing while an answer is awaited.
  void ScrubNext(Effects& effects);
  void TakeFingerprint(const SlotFingerprinted& answer, Effects& effects);
  bool scrub_awaited() const { return scrub_awaited_; }
  void FreeLost(Epoch quiesced, Effects& effects);

  // As told at Attach: lost slots are free.
  std::vector<SlotRecord> Inventory() const;
  const std::vector<Slot>& slots() const { return slots_; }  // [num_layers * slots_per_rank]

 private:
  size_t IndexOf(LayerId layer, SlotIdx slot) const;
  LayerId LayerAt(size_t index) const;
  SlotIdx SlotAt(size_t index) const;

  algos::Shape shape_;
  int num_layers_;
  RankId rank_;
  std::vector<Slot> slots_;
  size_t scrub_cursor_ = 0;
  bool scrub_awaited_ = false;
};

}  // namespace evenkeel::agent
