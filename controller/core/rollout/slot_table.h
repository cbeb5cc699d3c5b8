// SPDX-License-Identifier: Apache-2.0
//
// SlotTable: every slot of a group as the controller knows it, and the one place where it is decided which slots the
// maps name (rule 5).
//
// A slot enters the maps only from content that its own agent confirmed under this term and whose fingerprint is the
// expected one; it leaves them at an epoch, `since`, and may be written once every counted member has quiesced there.
// Changes of the maps are staged, and judged against the slots as they are when Commit publishes them.
//
// Threads:   none. Owned by Group.
// Limits:    num_layers * num_slots records.
// Errors:    what an agent says and does not fit the slot is reported as Outcome, never trusted.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "algos/protocol/identity.h"
#include "algos/protocol/messages.h"
#include "controller/core/status.h"

namespace evenkeel::controller {

struct Slot {
  SlotUse use = SlotUse::kFree;
  ExpertId expert;                  // confirmed content where live, retired or verified; what it held where writing
  ExpertId incoming;                // where writing
  uint64_t generation = 0;          // last known or ordered
  uint64_t content_generation = 0;  // at which `expert` was confirmed
  uint64_t fingerprint = 0;         // of `expert`
  Epoch since;                      // where not live: no map from here on names it
  uint64_t move_id = 0;             // of the order where writing; 0: of an earlier term
  int num_mismatches = 0;           // fingerprint failures in a row

  // Confirmed content, in no map.
  bool spare() const { return use == SlotUse::kRetired || use == SlotUse::kVerified; }
  bool holds_content() const { return use == SlotUse::kLive || spare(); }
  // Forgets what it holds.
  void Clear(SlotUse new_use) {
    use = new_use;
    expert = incoming = kNoExpert;
    fingerprint = move_id = 0;
  }
};

// Replicas of an expert that disagreed when its fingerprint was to be fixed (rule 23).
struct FingerprintConflict {
  LayerId layer;
  ExpertId expert;
  RankId rank_kept, rank_other;
  uint64_t kept = 0, other = 0;
};

// "disagree: fingerprint X on rank A, Y on rank B".
std::string Describe(const FingerprintConflict& conflict);

class SlotTable {
 public:
  // A slot with `mismatches_until_condemned` fingerprint failures in a row is never used again.
  SlotTable(const algos::Shape& shape, int num_layers, int mismatches_until_condemned);

  const algos::Shape& shape() const { return shape_; }
  int num_layers() const { return num_layers_; }
  const Slot& at(LayerId layer, SlotIdx slot) const { return slots_[IndexOf(layer, slot)]; }
  std::span<const Slot> layer(LayerId layer) const;

  // ---- What agents say

  enum class Outcome {
    kNothing,     // as known, or stale
    kUpdated,     // known better now; no map is touched
    kVerified,    // an order ended well
    kFailed,      // an order ended without content, or with the old one
    kLost,        // a live slot lost its content: taken out, publish at once
    kUnresolved,  // an order is open and the agent knows nothing of it: cancel it
    kOrphan,      // writing for an order of an earlier term: cancel it
  };

  // Another incarnation takes the place of `rank`, or none: nothing is known of its slots, and no map from `since` on
  // names them. Requires: none is live.
  void Reset(RankId rank, Epoch since = Epoch());
  // The rank is no member any more: its slots hold nothing and leave the maps with the next publish. As with losses,
  // slots in no map that hold an expert without a live slot are staged to be added (rule 26).
  void Drop(RankId rank);
  // The rank was given other weights than the expected fingerprints are of: what it says of its slots from now on is
  // taken as it is, until Refix. Its slots stay in the maps, and none is added (rule 22).
  void SetRenewed(RankId rank, bool renewed) { renewed_[rank.idx()] = renewed; }
  bool AnyRenewed() const;
  // While barred, no slot of the rank enters the maps, whatever is staged (rule 14). Afterwards those are staged to be
  // added whose experts have no live slot.
  void SetBarred(RankId rank, bool barred);
  // One record of an inventory, at Attach.
  Outcome Confirm(LayerId layer, SlotIdx slot, const SlotRecord& record);
  // `expected` generation only; duplicates and stale ones are kNothing. A wrong fingerprint counts as kFailed.
  Outcome Finish(LayerId layer, SlotIdx slot, uint64_t generation, uint64_t fingerprint);
  struct Failure {
    bool content_kept = false;
    bool mismatch = false;  // counts towards condemnation
  };
  Outcome Fail(LayerId layer, SlotIdx slot, uint64_t generation, Failure failure);
  // As Confirm may, where it takes an expert's last live slot: the slots that hold the expert and are in no map are
  // staged to be added (rule 26).
  Outcome Lose(LayerId layer, SlotIdx slot, uint64_t generation);

  // ---- Fingerprints

  // Fixes the expected fingerprint of every (layer, expert) from the slots that hold content; where replicas disagree,
  // the value that most have (ties: the lowest slot's). Content that differs is forgotten. Conflicts are returned once.
  std::vector<FingerprintConflict> FixFingerprints();
  // All ranks have the weights of one version again. Where that is another one than before all fingerprints are fixed
  // anew; else those that were stay. Live slots that differ leave the maps with the next publish; slots in no map whose
  // experts have no live slot are staged to be added.
  enum class Version { kAnother, kSame };
  std::vector<FingerprintConflict> Refix(Version version);
  std::optional<uint64_t> Expected(LayerId layer, ExpertId expert) const;
  bool InConflict(LayerId layer, ExpertId expert) const { return FindConflict(layer, expert) != nullptr; }
  // The first one of the expert; null if there is none.
  const FingerprintConflict* FindConflict(LayerId layer, ExpertId expert) const;

  // ---- Orders

  // A move into `slot` was ordered; returns its generation. Requires: not live, writing or condemned.
  uint64_t Order(LayerId layer, SlotIdx slot, ExpertId incoming, uint64_t move_id);

  // ---- Maps

  // Names all confirmed content; `first` is the epoch that will say so. What is not named is in no map from there on.
  void NameAllConfirmed(Epoch first);
  void StageAdd(LayerId layer, SlotIdx slot) { adds_.push_back({layer, slot}); }
  void StageRetire(LayerId layer, SlotIdx slot) { retires_.push_back({layer, slot}); }

  // Applies what was staged as of `epoch`. Adds that are not (or no longer) confirmed content are dropped; a
  // retirement that would leave an expert without a live slot is dropped. Returns the layers whose live slots changed
  // since the last Commit, also by losses; ascending.
  std::vector<LayerId> Commit(Epoch epoch);
  bool dirty() const { return !adds_.empty() || !retires_.empty() || !lost_.empty() || !changed_.empty(); }

  // The live slots.
  algos::Placement Live(LayerId layer) const;
  // Those, and what is staged to be added to them.
  algos::Placement LiveAndComing(LayerId layer) const;
  int NumLive(LayerId layer, ExpertId expert) const;
  int NumCondemned(LayerId layer) const;

 private:
  struct Place {
    LayerId layer;
    SlotIdx slot;
  };

  size_t IndexOf(LayerId layer, SlotIdx slot) const {
    return layer.idx() * static_cast<size_t>(shape_.num_slots()) + slot.idx();
  }
  size_t ExpertIndex(LayerId layer, ExpertId expert) const {
    return layer.idx() * static_cast<size_t>(shape_.num_experts) + expert.idx();
  }
  Slot& Mutable(LayerId layer, SlotIdx slot) { return slots_[IndexOf(layer, slot)]; }
  bool Matches(LayerId layer, ExpertId expert, uint64_t fingerprint) const;
  bool MayBeAdded(const Place& place) const;
  bool MayDiffer(SlotIdx slot) const { return renewed_[shape_.RankOf(slot).idx()]; }
  Outcome TakeOut(LayerId layer, SlotIdx at);
  void StageSpares(LayerId layer, ExpertId expert);
  void StageSparesOfDead();
  Outcome ConfirmLive(LayerId layer, SlotIdx at, const SlotRecord& record);
  Outcome ConfirmWriting(LayerId layer, SlotIdx at, const SlotRecord& record);
  Outcome ConfirmIdle(LayerId layer, SlotIdx at, const SlotRecord& record);
  void FixFingerprint(LayerId layer, ExpertId expert, std::span<const SlotIdx> slots,
                      std::vector<FingerprintConflict>& conflicts);

  const algos::Shape shape_;
  const int num_layers_;
  const int mismatches_until_condemned_;
  std::vector<Slot> slots_;         // [layer * num_slots + slot]
  std::vector<bool> barred_;        // [num_ranks]
  std::vector<int32_t> num_live_;   // [layer * num_experts + expert]
  std::vector<uint64_t> expected_;  // likewise; meaningful where fixed_
  std::vector<bool> fixed_;
  std::vector<FingerprintConflict> conflicts_;
  std::vector<bool> renewed_;  // [num_ranks]
  std::vector<Place> adds_, retires_;
  std::vector<LayerId> changed_;  // beyond those of the lists; may repeat
  std::vector<Place> lost_;       // whose `since` the next Commit sets
};

}  // namespace evenkeel::controller
