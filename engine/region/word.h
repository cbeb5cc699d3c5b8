// SPDX-License-Identifier: Apache-2.0
//
// Word: eight bytes of a region, written by one thread of one process and read by any.
//
// Loads and stores are plain moves on x86; StoreAndFence also empties the store buffer, so that every later load of
// this thread sees what others stored before they fenced and read this word (Dekker's pattern, protocol rule 16).
#pragma once

#include <atomic>
#include <cstdint>

namespace evenkeel::engine {

class Word {
 public:
  uint64_t Load() const { return value_.load(std::memory_order_seq_cst); }
  void Store(uint64_t value) { value_.store(value, std::memory_order_release); }
  void StoreAndFence(uint64_t value) { value_.store(value, std::memory_order_seq_cst); }

  // The writer's own: no other thread writes in between.
  void Add(uint64_t amount) { Store(value_.load(std::memory_order_relaxed) + amount); }

 private:
  std::atomic<uint64_t> value_;
};
static_assert(sizeof(Word) == 8 && std::atomic<uint64_t>::is_always_lock_free);

}  // namespace evenkeel::engine
