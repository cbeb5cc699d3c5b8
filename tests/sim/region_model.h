// SPDX-License-Identifier: Apache-2.0
//
// RegionModel: one rank's region: what survives its agent's death, and what the engine does that the agent sees.
//
// Slots hold content as one number: GoodContent for an expert's weights, anything else for bytes of no use. The
// newest maps are taken by steps as they begin. Open steps and open work for others hold the quiesced epoch back.
//
// Threads:   none.
// Owns:      values only. Maps are shared and never change.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/time/time.h"

#include "agent/core/event.h"
#include "algos/protocol/identity.h"
#include "algos/protocol/messages.h"

namespace evenkeel::sim {

// What every correct copy of an expert's weights looks like.
uint64_t GoodContent(uint64_t weights_version, LayerId layer, ExpertId expert);

struct Quiescence {
  Epoch epoch;
  uint64_t view_number = 0;
};

// Maps at one epoch, and under which view work began.
struct Began {
  Epoch epoch;
  uint64_t view_number = 0;

  friend auto operator<=>(const Began&, const Began&) = default;
};

class RegionModel {
 public:
  // A fresh region: default placement, its weights in place; of an engine that was started to join: all slots free,
  // outside the set. Ids are dense and never used twice.
  RegionModel(uint32_t id, int group_idx, const GroupInfo& group, Member member, bool joining);

  uint32_t id() const { return id_; }
  int group_idx() const { return group_idx_; }
  const GroupInfo& info() const { return info_; }
  void SetWeightsVersion(uint64_t version) { info_.weights_version = version; }
  Member member() const { return member_; }
  int rank() const { return member_.rank.value(); }

  // Index of one of this rank's own slots into slots, contents, ...
  size_t At(LayerId layer, SlotIdx slot) const;
  size_t num_slots() const { return slots.size(); }

  // What an agent finds when it takes the region over.
  agent::RegionState Read() const;

  void Begin(Began began) { ++open_[began]; }
  void End(Began began);
  void BeginServing(Began began) { ++serving_[began]; }
  void EndServing(Began began);
  bool idle() const { return open_.empty(); }
  Quiescence Quiesced(bool steps_count, bool serving_counts) const;

  void WriteContent(LayerId layer, SlotIdx slot, uint64_t content);
  bool HoldsGood(LayerId layer, SlotIdx slot, ExpertId expert) const;

  // Written by agents.
  uint32_t term_obeyed = 0;
  std::shared_ptr<const agent::Maps> maps;      // newest
  std::shared_ptr<const agent::Maps> previous;  // the one before it
  View view;
  std::vector<SlotRecord> slots;
  bool had_agent = false;
  bool has_agent = false;
  absl::Time agent_gone = absl::InfinitePast();

  // Memory of the slots, parallel to `slots`.
  std::vector<uint64_t> contents;
  std::vector<uint64_t> derived;        // content that derived tensors were made from
  std::vector<uint64_t> num_writes;     // changes of content so far
  std::vector<uint32_t> being_written;  // transfers and late writes that may still change it
  std::vector<bool> rotten;             // content was damaged by nobody's fault
  std::vector<bool> refresh_wanted;     // post_move is called at the next begin_step

  // Written by the engine.
  bool engine_alive = true;
  bool in_set = true;        // it serves with the others; false for a restarted engine before a view names it
  bool excluded = false;     // a view that somebody took left it out: it comes back with a new region alone
  uint64_t joined_view = 0;  // the first that named it; maps that presume an older one mean somebody else
  std::vector<uint64_t> tokens_of_slot;
  uint64_t num_unrouted = 0;
  uint64_t num_steps = 0;
  absl::Time busy_until = absl::InfinitePast();  // of a pause that it announced
  int num_computing = 0;                         // tokens, of whomever
  uint64_t suspension = 0;                       // odd: the engine is suspended (rule 22)
  uint64_t suspension_granted = 0;               // by its agent, or itself: nobody reads or writes the slots
  bool suspended() const { return suspension % 2 != 0; }
  bool granted() const { return suspended() && suspension_granted == suspension; }

 private:
  const uint32_t id_;
  const int group_idx_;
  GroupInfo info_;
  const Member member_;
  const bool joining_;
  absl::btree_map<Began, int> open_;     // steps
  absl::btree_map<Began, int> serving_;  // work for others
};

}  // namespace evenkeel::sim
