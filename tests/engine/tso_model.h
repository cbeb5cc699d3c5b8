// SPDX-License-Identifier: Apache-2.0
//
// TsoModel: every execution of a few threads over shared words under x86's total store order, explored exhaustively.
//
// Each thread runs an endless list of rounds of ordinary code over ModelWord. Its stores go into a FIFO buffer that
// drains at any later time, at the latest when it is full; its loads see its own buffer first; a fence waits for the buffer to drain. Code is run by
// replay: a round is executed again from its beginning with the values it loaded before, then one load further. States
// that were seen are not explored again, so rounds may repeat for ever. A round must keep nothing between rounds but
// words, and tell what must not be by TsoModel::Fail.
//
// Limits:    values below 2^16 - 1, and LaneCell::kChoosing, which stands for itself.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <unordered_set>
#include <vector>

namespace evenkeel::engine {

class TsoModel {
 public:
  static constexpr int kThreadsMax = 3;
  static constexpr int kWordsMax = 32;

  using Value = uint16_t;

  // One round of a thread.
  using Round = std::function<void()>;

  explicit TsoModel(std::vector<Round> rounds) : rounds_(std::move(rounds)) { current_ = this; }
  ~TsoModel() { current_ = nullptr; }

  // Explores all states; the first failure found, empty where there is none.
  std::string Explore() {
    const State first;
    std::vector<State> open = {first};
    seen_.insert(HashOf(first));
    while (!open.empty() && failure_.empty()) {
      const State state = std::move(open.back());
      open.pop_back();
      for (size_t t = 0; t < rounds_.size() && failure_.empty(); ++t) {
        Visit(Drain(state, t), open);
        Visit(Advance(state, t), open);
      }
    }
    return failure_;
  }

  size_t num_states() const { return seen_.size(); }

  // For the rounds.
  static TsoModel& current() { return *current_; }
  void Fail(const std::string& what) {
    if (failure_.empty()) failure_ = what;
  }
  // A value outside of memory that all rounds see at once.
  Value& ghost() { return running_->ghost; }

  // `is_private`: no other thread writes the word, so that loading it is no event.
  uint64_t Load(int word, bool is_private) {
    Thread& thread = running_->threads[thread_];
    if (position_ < thread.log_size) return Wide(thread.log[position_++]);
    if (!is_private && loads_left_-- == 0) throw Paused{};
    Value value = running_->memory[static_cast<size_t>(word)];
    for (size_t i = 0; i < thread.buffer_size; ++i) {
      if (thread.buffer[i].word == word) value = thread.buffer[i].value;
    }
    Log(thread, value);
    return Wide(value);
  }
  void Store(int word, uint64_t value) {
    Thread& thread = running_->threads[thread_];
    if (position_ < thread.log_size) {
      ++position_;
      return;
    }
    if (thread.buffer_size == thread.buffer.size()) throw Paused{};
    Log(thread, 0);
    thread.buffer.at(thread.buffer_size++) = {static_cast<Value>(word), static_cast<Value>(value)};
  }
  void Fence() {
    Thread& thread = running_->threads[thread_];
    if (position_ < thread.log_size) {
      ++position_;
      return;
    }
    if (thread.buffer_size != 0) throw Paused{};
    Log(thread, 0);
  }
  // True while what follows was not executed before: for effects on the ghost and checks.
  bool IsNew() const { return position_ >= running_->threads[thread_].log_size; }

 private:
  struct Paused {};
  struct Pending {
    Value word;
    Value value;
  };
  struct Thread {
    std::array<Value, 36> log = {};       // of this round
    std::array<Pending, 12> buffer = {};  // stores not yet in memory, oldest first
    uint32_t log_size = 0;
    uint32_t buffer_size = 0;
  };
  struct State {
    std::array<Value, kWordsMax> memory = {};
    std::array<Thread, kThreadsMax> threads;
    Value ghost = 0;
  };

  static uint64_t Wide(Value value) { return value == UINT16_MAX ? UINT64_MAX : value; }

  void Log(Thread& thread, Value value) {
    thread.log.at(thread.log_size++) = value;
    ++position_;
  }

  void Visit(const State& state, std::vector<State>& open) {
    if (seen_.insert(HashOf(state)).second) open.push_back(state);
  }

  State Drain(State state, size_t t) {
    Thread& thread = state.threads[t];
    if (thread.buffer_size == 0) return state;
    state.memory[thread.buffer[0].word] = thread.buffer[0].value;
    std::copy(thread.buffer.begin() + 1, thread.buffer.end(), thread.buffer.begin());
    --thread.buffer_size;
    return state;
  }

  State Advance(State state, size_t t) {
    running_ = &state;
    thread_ = t;
    position_ = 0;
    loads_left_ = 1;
    try {
      rounds_[t]();
      state.threads[t].log_size = 0;
    } catch (const Paused&) {
    }
    running_ = nullptr;
    return state;
  }

  static uint64_t HashOf(const State& state) {
    uint64_t hash = state.ghost;
    const auto add = [&hash](uint64_t value) {
      hash = (hash ^ value) * 0x9FB21C651E98DF25u;
      hash ^= hash >> 29;
    };
    for (size_t w = 0; w < state.memory.size(); w += 4) {
      uint64_t four = 0;
      std::memcpy(&four, &state.memory[w], sizeof(four));
      add(four);
    }
    for (const Thread& thread : state.threads) {
      add(uint64_t{thread.log_size} << 32 | thread.buffer_size);
      for (uint32_t i = 0; i < thread.log_size; ++i) add(thread.log[i]);
      for (uint32_t i = 0; i < thread.buffer_size; ++i)
        add(uint64_t{thread.buffer[i].word} << 16 | thread.buffer[i].value);
    }
    return hash ^ hash >> 32;
  }

  inline static TsoModel* current_ = nullptr;

  const std::vector<Round> rounds_;
  std::unordered_set<uint64_t> seen_;
  std::string failure_;
  // Of the round that is running.
  State* running_ = nullptr;
  size_t thread_ = 0;
  size_t position_ = 0;
  int loads_left_ = 0;
};

}  // namespace evenkeel::engine
