// SPDX-License-Identifier: Apache-2.0
//
// EventQueue: the simulator's one loop: actions ordered by (time, sequence number).
//
// Actions posted for the same time run in the order of posting. Actions are small: what they carry should fit
// into two words, so that nothing is allocated for them.
//
// Threads:   none.
// Limits:    Requires of At: `time` not before now(); earlier ones run now.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace evenkeel::sim {

class EventQueue {
 public:
  using Action = std::function<void()>;

  absl::Time now() const { return now_; }
  uint64_t num_run() const { return num_run_; }
  bool empty() const { return heap_.empty(); }

  void At(absl::Time time, Action action) {
    uint32_t place = 0;
    if (free_.empty()) {
      place = static_cast<uint32_t>(actions_.size());
      actions_.push_back(std::move(action));
    } else {
      place = free_.back();
      free_.pop_back();
      actions_[place] = std::move(action);
    }
    heap_.push_back({std::max(time, now_), next_sequence_++, place});
    std::push_heap(heap_.begin(), heap_.end(), Later);
  }
  void After(absl::Duration delay, Action action) { At(now_ + delay, std::move(action)); }

  // Runs the next action if it is due at or before `end`; otherwise the time becomes `end` and false is returned.
  bool RunNext(absl::Time end) {
    if (heap_.empty() || heap_.front().time > end) {
      now_ = std::max(now_, end);
      return false;
    }
    std::pop_heap(heap_.begin(), heap_.end(), Later);
    const Item item = heap_.back();
    heap_.pop_back();
    now_ = item.time;
    ++num_run_;
    const Action action = std::move(actions_[item.place]);
    actions_[item.place] = nullptr;
    free_.push_back(item.place);
    action();
    return true;
  }

 private:
  struct Item {
    absl::Time time;
    uint64_t sequence = 0;
    uint32_t place = 0;
  };
  static bool Later(const Item& a, const Item& b) {
    return a.time != b.time ? a.time > b.time : a.sequence > b.sequence;
  }

  absl::Time now_ = absl::UnixEpoch();
  uint64_t next_sequence_ = 0;
  uint64_t num_run_ = 0;
  std::vector<Item> heap_;
  std::vector<Action> actions_;  // by place
  std::vector<uint32_t> free_;
};

}  // namespace evenkeel::sim
