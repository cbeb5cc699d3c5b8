// SPDX-License-Identifier: Apache-2.0
//
// LoadFold: from the region's monotonic counters per slot to tokens per (layer, slot, expert).
//
// A counter says how many tokens a slot has seen, not of which expert. So each difference is credited to the
// expert that the slot held up to the reading, and the slot is given its next expert only after a reading that
// was taken when nobody used it any more (protocol, rule 29). What was not reported yet adds up. Prefill and decode are
// kept apart as far as the readings do.
//
// Limits:    kExtrasMax entries of slots whose content changed wait for a report; further ones are dropped and
//            counted.
#pragma once

#include <cstdint>
#include <span>
#include <tuple>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/time/time.h"

#include "agent/core/event.h"
#include "algos/protocol/messages.h"

namespace evenkeel::agent {

class LoadFold {
 public:
  static constexpr size_t kExtrasMax = 4096;

  // Counted slots are this rank's own, or all of a layer, as `group` says. `experts` and `found` have one entry for
  // each, layer by layer; what was counted when `found` was read is nobody's.
  LoadFold(const GroupInfo& group, RankId rank, std::vector<ExpertId> experts, const CountersRead& found);

  // Credits the growth since the last reading. Readings of another length are dropped; phases of another length are not
  // told apart.
  void Fold(const CountersRead& reading);

  // From the last reading on, `slot` counts for `expert`. Slots that are not counted here are ignored.
  void SetExpert(LayerId layer, SlotIdx slot, ExpertId expert);
  ExpertId expert_of(LayerId layer, SlotIdx slot) const;

  // All that was folded since the last call.
  LoadReport Take(absl::Time now);

  uint64_t num_dropped_tokens() const { return num_dropped_tokens_; }

 private:
  struct Tokens {
    uint64_t all = 0, prefill = 0, decode = 0;
  };

  static void Add(const Tokens& more, Tokens& tokens);
  // The growth of one counter, remembered as read.
  static uint64_t Grown(const std::vector<uint64_t>& reading, size_t index, uint64_t& counter);
  // Index of a counted slot; -1 if it is not counted here.
  int64_t IndexOf(LayerId layer, SlotIdx slot) const;

  const int num_layers_;
  const int slots_per_layer_;
  const int first_slot_;
  std::vector<ExpertId> experts_;
  std::vector<Tokens> counters_;                                            // of the last reading
  std::vector<Tokens> tokens_;                                              // not reported yet, of experts_
  absl::btree_map<std::tuple<LayerId, SlotIdx, ExpertId>, Tokens> extras_;  // of experts no longer there
  uint64_t unrouted_counter_ = 0;
  bool unrouted_known_ = false;
  uint64_t unrouted_ = 0;
  bool span_open_ = false;
  uint64_t first_step_ = 0;
  uint64_t last_step_ = 0;
  uint64_t num_dropped_tokens_ = 0;
};

}  // namespace evenkeel::agent
