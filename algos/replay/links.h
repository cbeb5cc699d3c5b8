// SPDX-License-Identifier: Apache-2.0
//
// Links: how long the moves of a wave take when every rank has one link each way that all layers share.
//
// Times are in windows since the first one. A move occupies the link into its rank and the link out of its source's
// rank; each link carries one move after the other.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "algos/moves.h"
#include "algos/placement.h"

namespace evenkeel::algos {

struct LinkSpeed {
  uint64_t expert_bytes = 0;         // > 0
  double link_bytes_per_second = 0;  // of a rank, each way; > 0
  double window_seconds = 0;         // > 0

  double WindowsPerMove() const { return static_cast<double>(expert_bytes) / link_bytes_per_second / window_seconds; }
  // Moves that one link carries within a window; at least one.
  int MovesPerWindow() const;
};

class Links {
 public:
  Links(const LinkSpeed& speed, int num_ranks);

  // Begins the wave's moves, each from its first source, before `window`, and returns the first window that finds
  // them done. None, and nothing begins, where they would not be done within the window and other moves keep one of
  // their links busy: it is better begun later than retired early.
  std::optional<int> Begin(const Wave& wave, const Shape& shape, int window);

 private:
  const double windows_per_move_;
  std::vector<double> in_free_at_, out_free_at_;  // [num_ranks]
};

}  // namespace evenkeel::algos
