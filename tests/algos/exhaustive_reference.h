// SPDX-License-Identifier: Apache-2.0
//
// Exhaustive reference: the best that any placement of a tiny layer reaches with tokens split evenly among replicas,
// by trying every number of replicas of every expert and every way to put them on ranks. What no policy can beat.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "algos/placement.h"

namespace evenkeel::testing {

class ExhaustiveSearch {
 public:
  ExhaustiveSearch(algos::Shape shape, std::vector<uint64_t> tokens) : shape_(shape), tokens_(std::move(tokens)) {}

  // The least largest rank load. Requires: few slots; some ten with more than two slots a rank.
  double BestEvenSplit() {
    best_ = std::numeric_limits<double>::infinity();
    replicas_.clear();
    ChooseCounts(0, shape_.num_slots());
    return best_;
  }

 private:
  // Replicas of experts from `expert` on, with `room` slots left; slots may stay blank.
  void ChooseCounts(size_t expert, int room) {
    if (expert == tokens_.size()) {
      Pack();
      return;
    }
    const int needed = static_cast<int>(tokens_.size() - expert) - 1;
    const double load = static_cast<double>(tokens_[expert]);
    for (int count = 1; count <= std::min(room - needed, shape_.num_ranks); ++count) {
      if (load / count >= best_) continue;
      replicas_.insert(replicas_.end(), static_cast<size_t>(count), load / count);
      ChooseCounts(expert + 1, room - count);
      replicas_.resize(replicas_.size() - static_cast<size_t>(count));
    }
  }

  void Pack() {
    sorted_ = replicas_;
    std::sort(sorted_.rbegin(), sorted_.rend());
    sorted_.resize(static_cast<size_t>(shape_.num_slots()), 0.0);
    if (shape_.slots_per_rank == 2) {
      // The heaviest with the lightest, and so on: no other pairing has a smaller largest sum.
      double largest = 0;
      for (size_t i = 0; i < sorted_.size() / 2; ++i) {
        largest = std::max(largest, sorted_[i] + sorted_[sorted_.size() - 1 - i]);
      }
      best_ = std::min(best_, largest);
      return;
    }
    loads_.assign(static_cast<size_t>(shape_.num_ranks), 0.0);
    fill_.assign(loads_.size(), 0);
    PutFrom(0);
  }

  void PutFrom(size_t replica) {
    if (replica == sorted_.size()) {
      best_ = std::min(best_, *std::max_element(loads_.begin(), loads_.end()));
      return;
    }
    for (size_t rank = 0; rank < loads_.size(); ++rank) {
      if (fill_[rank] == shape_.slots_per_rank || loads_[rank] + sorted_[replica] >= best_) continue;
      bool seen = false;  // ranks that look alike are tried once
      for (size_t r = 0; r < rank; ++r) seen = seen || (fill_[r] == fill_[rank] && loads_[r] == loads_[rank]);
      if (seen) continue;
      const double before = loads_[rank];
      loads_[rank] += sorted_[replica];
      ++fill_[rank];
      PutFrom(replica + 1);
      --fill_[rank];
      loads_[rank] = before;
    }
  }

  const algos::Shape shape_;
  const std::vector<uint64_t> tokens_;
  double best_ = 0;
  std::vector<double> replicas_, sorted_, loads_;
  std::vector<int> fill_;
};

}  // namespace evenkeel::testing
