// SPDX-License-Identifier: Apache-2.0
//
// The hand-over where steps run on a stream, every interleaving: the very functions of engine/region/hand_over.h with a
// host that is steps ahead, a GPU that copies maps off their banks and gets to the steps' ends when it does, and an agent
// that writes several maps; then mutants of it, all to be caught.
#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "catch2/catch.hpp"

#include "engine/region/hand_over.h"
#include "tests/engine/tso_model.h"

namespace evenkeel::engine {
namespace {

constexpr int kHost = 0, kGpu = 1, kAgent = 2;
constexpr int kBanks = 3;
constexpr int kAhead = 2;  // steps
constexpr uint64_t kNumSteps = 3;
constexpr uint64_t kNumMaps = 3;

struct Rules {
  bool agent_heeds_copies = true;
  bool copy_is_told_before_announcing = true;
  bool end_waits_for_the_gpu = true;
  bool marker_follows_the_copy = true;
};
Rules rules;

class StreamWord {
 public:
  StreamWord() = default;
  StreamWord(int word, int writer) : word_(word), writer_(writer) {}

  uint64_t Load() const { return TsoModel::current().Load(word_, writer_ == running_thread); }
  void Store(uint64_t value) { TsoModel::current().Store(word_, value); }
  void StoreAndFence(uint64_t value) {
    Store(value);
    TsoModel::current().Fence();
  }

  inline static int running_thread = 0;

 private:
  int word_ = 0;
  int writer_ = 0;
};

struct Constant {
  uint64_t Load() const { return 0; }
  void Store(uint64_t) {}
  void StoreAndFence(uint64_t) {}
};

// Whether the agent sees it is a rule.
struct CopyWord {
  StreamWord word;
  uint64_t Load() const {
    const bool hidden = StreamWord::running_thread == kAgent && !rules.agent_heeds_copies;
    return hidden ? 0 : word.Load();
  }
  void Store(uint64_t value) {
    if (rules.copy_is_told_before_announcing) word.Store(value);
  }
};

struct StreamTicket {
  StreamWord ticket;
  StreamWord epoch;
  StreamWord done;
  Constant view;
  Constant begun_ns;
};

struct StreamLane {
  StreamWord announced;
  std::array<StreamTicket, kAhead> tickets;
  std::array<CopyWord, kBanks> copy_of_bank;
  StreamWord copies_done;
};

struct StreamWords {
  StreamWords() {
    int next = 0;
    newest_ = StreamWord(next++, kAgent);
    lane_.announced = StreamWord(next++, kHost);
    lane_.copies_done = StreamWord(next++, kGpu);
    for (size_t i = 0; i < kAhead; ++i) {
      lane_.tickets[i].ticket = StreamWord(next++, kHost);
      lane_.tickets[i].epoch = StreamWord(next++, kHost);
      lane_.tickets[i].done = StreamWord(next++, kGpu);
      queued_newest[i] = StreamWord(next++, kHost);
      queued_copy[i] = StreamWord(next++, kHost);
    }
    for (size_t b = 0; b < kBanks; ++b) {
      epochs_[b] = StreamWord(next++, kAgent);
      entries_[b] = StreamWord(next++, kAgent);
      lane_.copy_of_bank[b].word = StreamWord(next++, kHost);
    }
    num_begun = StreamWord(next++, kHost);
    num_copies = StreamWord(next++, kHost);
    held = StreamWord(next++, kHost);
    num_run = StreamWord(next++, kGpu);
  }
  StreamWord& newest() { return newest_; }
  Constant& newest_view() { return no_view_; }
  StreamWord& bank_epoch(uint32_t bank) { return epochs_[bank]; }
  StreamWord& entry(uint32_t bank) { return entries_[bank]; }
  int num_banks() const { return kBanks; }
  int num_lanes() const { return 1; }
  StreamLane& lane(int) { return lane_; }
  int num_serving() const { return 0; }
  struct NoServing {
    Constant accepted;
  };
  NoServing& serving(int) { return no_serving_; }

  // The stream: what steps the host enqueued, and how far the GPU is.
  std::array<StreamWord, kAhead> queued_newest, queued_copy;  // by ring place; a copy of 0: none
  StreamWord num_begun, num_copies, held, num_run;

 private:
  StreamWord newest_;
  Constant no_view_;
  NoServing no_serving_;
  StreamLane lane_;
  std::array<StreamWord, kBanks> epochs_, entries_;
};
StreamWords words;

// Begins one step, if its place in the ring is free, and enqueues it.
void HostRound() {
  StreamWord::running_thread = kHost;
  StreamLane& lane = words.lane(0);
  const uint64_t number = words.num_begun.Load() + 1;
  if (number > kNumSteps) return;
  const size_t ring = number % kAhead;
  if (number > kAhead && lane.tickets[ring].done.Load() != number - kAhead) return;
  const uint64_t held = words.held.Load(), copy = words.num_copies.Load() + 1;
  // Bank 0 is sequence 0 there: what is held is one more than a value of newest, 0 nothing.
  const TakenMaps taken = BeginStreamStep(words, lane, static_cast<int>(ring), number, 0, held - 1, copy);
  const bool copies = taken.newest != held - 1;
  words.queued_newest[ring].Store(taken.newest);
  words.queued_copy[ring].Store(copies ? copy : 0);
  if (copies) {
    words.num_copies.Store(copy);
    words.held.Store(taken.newest + 1);
  }
  words.num_begun.Store(number);
  if (!rules.end_waits_for_the_gpu) EndStep(lane, static_cast<int>(ring));
}

// Runs the next step that is enqueued. The ghost is the newest epoch that was ever reported as quiesced.
void GpuRound() {
  StreamWord::running_thread = kGpu;
  StreamLane& lane = words.lane(0);
  const uint64_t number = words.num_run.Load() + 1;
  if (words.num_begun.Load() < number) return;
  const size_t ring = number % kAhead;
  const uint64_t newest = words.queued_newest[ring].Load();
  const uint64_t copy = words.queued_copy[ring].Load();
  const uint64_t epoch = newest >> 8;
  if (copy != 0) {
    if (!rules.marker_follows_the_copy) lane.copies_done.Store(copy);
    const bool is_new = TsoModel::current().IsNew();
    const uint64_t read = words.entry(BankOf(newest)).Load();
    if (is_new && read != epoch) TsoModel::current().Fail("a copy read a bank that was being written");
    if (rules.marker_follows_the_copy) lane.copies_done.Store(copy);
  }
  const bool is_new = TsoModel::current().IsNew();
  static_cast<void>(words.newest().Load());  // the kernels take a while
  if (is_new && epoch < TsoModel::current().ghost()) {
    TsoModel::current().Fail("a step ran under an epoch older than the quiesced one");
  }
  lane.tickets[ring].done.Store(number);
  words.num_run.Store(number);
}

void AgentRound() {
  StreamWord::running_thread = kAgent;
  const uint64_t epoch = words.newest().Load() >> 8;
  if (epoch < kNumMaps) {
    const std::optional<uint32_t> bank = FindFreeBank(words);
    if (bank.has_value()) {
      words.bank_epoch(*bank).Store(epoch + 1);
      words.entry(*bank).Store(epoch + 1);
      PublishBank(words, *bank);
    }
  }
  const std::optional<QuiescedAt> at = FindQuiesced(words);
  if (!at.has_value()) return;
  auto& ghost = TsoModel::current().ghost();
  ghost = std::max(ghost, static_cast<TsoModel::Value>(at->epoch));
}

struct Outcome {
  std::string failure;
  size_t num_states = 0;
};

Outcome Check(const Rules& with) {
  rules = with;
  TsoModel model({HostRound, GpuRound, AgentRound});
  Outcome outcome;
  outcome.failure = model.Explore();
  outcome.num_states = model.num_states();
  return outcome;
}

}  // namespace

TEST_CASE("no interleaving of host, stream and agent lets a bank or a slot be overwritten too early", "[hand_over]") {
  const Outcome outcome = Check({});
  INFO(outcome.num_states << " states");
  CHECK(outcome.failure == "");
  CHECK(outcome.num_states > 10000);
}

TEST_CASE("the model catches an agent that does not look at copies under way", "[hand_over]") {
  CHECK(Check({.agent_heeds_copies = false}).failure == "a copy read a bank that was being written");
}

TEST_CASE("the model catches a copy that is told nobody", "[hand_over]") {
  CHECK(Check({.copy_is_told_before_announcing = false}).failure == "a copy read a bank that was being written");
}

TEST_CASE("the model catches a step that the host ends before the stream got there", "[hand_over]") {
  CHECK(Check({.end_waits_for_the_gpu = false}).failure == "a step ran under an epoch older than the quiesced one");
}

TEST_CASE("the model catches a marker that comes before the copy", "[hand_over]") {
  CHECK(Check({.marker_follows_the_copy = false}).failure == "a copy read a bank that was being written");
}

}  // namespace evenkeel::engine
