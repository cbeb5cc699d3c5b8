// SPDX-License-Identifier: Apache-2.0
//
// MapStatus: what queries tell of named maps: what operators have fixed, where a rollback can go back to, and what
// another map would move.
//
// Plain values, as those of status.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/problem.h"
#include "algos/protocol/identity.h"

namespace evenkeel::controller {

// What operators have fixed with one request.
struct PinStatus {
  std::string operation_id;
  std::vector<algos::Pin> pins;
  std::vector<LayerId> frozen;
  std::string reason;
};

// An operation before which a rollback can go back.
struct RollbackPoint {
  std::string operation_id;
  Epoch epoch;  // newest as it began
  absl::Time time;
  int num_layers = 0;  // that it was to change
};

// A rank that is to hold an expert and does not.
struct SlotReceives {
  RankId rank;
  ExpertId expert;

  friend bool operator==(const SlotReceives&, const SlotReceives&) = default;
};

struct LayerDiff {
  LayerId layer;
  std::vector<SlotReceives> received = {};  // one for each move, by rank
  uint64_t bytes = 0;
  double imbalance_before = 0;  // with shares solved for the load counted last
  double imbalance_after = 0;
  std::string conflict = {};  // why it cannot be reached; empty: it can
};

// From what the layers hold now to what they are to hold.
struct MapDiff {
  std::string group;
  Epoch epoch;  // of now
  int num_moves = 0;
  uint64_t bytes = 0;
  double imbalance_before = 0;  // means over the layers
  double imbalance_after = 0;
  std::vector<LayerDiff> layers;
};

}  // namespace evenkeel::controller
