// SPDX-License-Identifier: Apache-2.0
//
// The hand-over of maps, every interleaving under store buffering: the very functions of engine/region/hand_over.h
// with two lanes that step for ever and an agent that writes several maps; then mutants of it, all to be caught.
#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "catch2/catch.hpp"

#include "engine/region/hand_over.h"
#include "tests/engine/tso_model.h"

namespace evenkeel::engine {
namespace {

constexpr int kNumLanes = 2;
constexpr int kBanksMax = kNumLanes + 2;
constexpr uint64_t kNumMaps = 3;

struct Rules {
  bool lane_fences = true;
  bool agent_fences = true;
  bool lane_says_choosing = true;
  bool lane_takes_newest = true;
  bool agent_heeds_choosing = true;
  bool agent_heeds_announced = true;
  bool lane_reroutes = false;  // lane 0 takes the newest maps again within each step
  bool reroute_says_choosing = true;
  int num_banks = kBanksMax;
};
Rules rules;

constexpr int kAgent = kNumLanes;

class ModelWord {
 public:
  ModelWord() = default;
  ModelWord(int word, int writer) : word_(word), writer_(writer) {}

  uint64_t Load() const { return TsoModel::current().Load(word_, writer_ == running_thread); }
  void Store(uint64_t value) {
    if (value == LaneCell::kChoosing && !rules.lane_says_choosing) return;
    TsoModel::current().Store(word_, value);
  }
  void StoreAndFence(uint64_t value) {
    Store(value);
    if (writer_ == kAgent ? rules.agent_fences : rules.lane_fences) TsoModel::current().Fence();
  }

  inline static int running_thread = 0;

 private:
  int word_ = 0;
  int writer_ = 0;
};

// A word that the model leaves out.
struct NoWord {
  uint64_t Load() const { return 0; }
  void Store(uint64_t) {}
  void StoreAndFence(uint64_t) {}
};

struct ModelTicket {
  ModelWord ticket;
  ModelWord epoch;
  NoWord view;
  NoWord begun_ns;
  NoWord done;
};

struct ModelLane {
  ModelWord announced;
  std::array<ModelTicket, 1> tickets;
  std::array<NoWord, kBanksMax> copy_of_bank;
  NoWord copies_done;
};

struct ModelServing {
  NoWord accepted;
};

struct ModelWords {
  ModelWords() {
    int next = 0;
    newest_ = ModelWord(next++, kAgent);
    for (int l = 0; l < kNumLanes; ++l) {
      lanes_[static_cast<size_t>(l)].announced = ModelWord(next++, l);
      lanes_[static_cast<size_t>(l)].tickets[0].ticket = ModelWord(next++, l);
      lanes_[static_cast<size_t>(l)].tickets[0].epoch = ModelWord(next++, l);
    }
    for (size_t b = 0; b < kBanksMax; ++b) {
      epochs_[b] = ModelWord(next++, kAgent);
      entries_[b] = ModelWord(next++, kAgent);
    }
  }
  ModelWord& newest() { return newest_; }
  NoWord& newest_view() { return no_view_; }
  ModelWord& bank_epoch(uint32_t bank) { return epochs_[bank]; }
  ModelWord& entry(uint32_t bank) { return entries_[bank]; }
  int num_banks() const { return rules.num_banks; }
  int num_lanes() const { return kNumLanes; }
  ModelLane& lane(int l) { return lanes_[static_cast<size_t>(l)]; }
  int num_serving() const { return 0; }
  ModelServing& serving(int) { return no_serving_; }

 private:
  ModelWord newest_;
  NoWord no_view_;
  ModelServing no_serving_;
  std::array<ModelLane, kNumLanes> lanes_;
  std::array<ModelWord, kBanksMax> epochs_, entries_;
};
ModelWords words;

// The ghost is the newest epoch that was ever reported as quiesced.
void UseMaps(const TakenMaps& taken, ModelWord& entry) {
  const bool is_new = TsoModel::current().IsNew();
  const uint64_t value = entry.Load();
  if (!is_new) return;
  if (value != taken.epoch) TsoModel::current().Fail("a step read a bank that was being written");
  if (taken.epoch < TsoModel::current().ghost()) {
    TsoModel::current().Fail("a step was open under an epoch older than the quiesced one");
  }
}

// Other maps, the ticket as it was.
void Reroute(ModelLane& lane) {
  TakenMaps taken;
  if (rules.reroute_says_choosing) {
    taken = TakeNewest(words, lane);
  } else {
    taken.newest = words.newest().Load();
    taken.epoch = words.bank_epoch(BankOf(taken.newest)).Load();
    lane.announced.StoreAndFence(taken.newest);
  }
  const uint64_t begun_with = lane.tickets[0].epoch.Load();
  const bool is_new = TsoModel::current().IsNew();
  const uint64_t value = words.entry(BankOf(taken.newest)).Load();
  if (!is_new) return;
  if (value != taken.epoch) TsoModel::current().Fail("a step read a bank that was being written");
  if (begun_with < TsoModel::current().ghost()) {
    TsoModel::current().Fail("a step was open under an epoch older than the quiesced one");
  }
}

void LaneRound(int l) {
  ModelWord::running_thread = l;
  ModelLane& lane = words.lane(l);
  TakenMaps taken;
  if (rules.lane_takes_newest) {
    taken = BeginStep(words, lane, 0, 1, 0);
  } else {
    // Keeps the bank it has although there is a newer one.
    taken.newest = lane.announced.Load();
    lane.announced.StoreAndFence(LaneCell::kChoosing);
    taken.epoch = words.bank_epoch(BankOf(taken.newest)).Load();
    lane.tickets[0].epoch.Store(taken.epoch);
    lane.tickets[0].ticket.Store(1);
    lane.announced.Store(taken.newest);
  }
  UseMaps(taken, words.entry(BankOf(taken.newest)));
  if (rules.lane_reroutes && l == 0) Reroute(lane);
  EndStep(lane, 0);
}

std::optional<uint32_t> ChooseBank() {
  if (!rules.agent_heeds_announced) return (BankOf(words.newest().Load()) + 1) % static_cast<uint32_t>(rules.num_banks);
  return FindFreeBank(words);
}

// Writes one map where there are some left, then asks for quiescence.
void AgentRound() {
  ModelWord::running_thread = kAgent;
  const uint64_t newest = words.newest().Load();
  const uint64_t epoch = newest >> 8;
  if (epoch < kNumMaps) {
    const std::optional<uint32_t> bank = ChooseBank();
    if (!bank.has_value()) return;
    words.bank_epoch(*bank).Store(epoch + 1);
    words.entry(*bank).Store(epoch + 1);
    PublishBank(words, *bank);
  }
  std::optional<QuiescedAt> at = FindQuiesced(words);
  if (!at.has_value() && !rules.agent_heeds_choosing) {
    at = QuiescedAt{words.bank_epoch(BankOf(words.newest().Load())).Load(), 0};
  }
  if (at.has_value())
    TsoModel::current().ghost() = std::max(TsoModel::current().ghost(), static_cast<TsoModel::Value>(at->epoch));
}

struct Outcome {
  std::string failure;
  size_t num_states = 0;
};

Outcome Check(const Rules& with) {
  rules = with;
  std::vector<TsoModel::Round> rounds = {[] { LaneRound(0); }, AgentRound};
  if (!rules.lane_reroutes) rounds.push_back([] { LaneRound(1); });
  TsoModel model(std::move(rounds));
  Outcome outcome;
  outcome.failure = model.Explore();
  outcome.num_states = model.num_states();
  return outcome;
}

}  // namespace

TEST_CASE("no interleaving shows a step a half-written bank or reports quiescence too early", "[hand_over]") {
  const Outcome outcome = Check({});
  INFO(outcome.num_states << " states");
  CHECK(outcome.failure == "");
  CHECK(outcome.num_states > 100000);
}

TEST_CASE("nor does any where a step takes the newest maps again", "[hand_over]") {
  const Outcome outcome = Check({.lane_reroutes = true});
  INFO(outcome.num_states << " states");
  CHECK(outcome.failure == "");
  CHECK(outcome.num_states > 10000);
}

TEST_CASE("the model catches a step that takes the newest maps again unannounced", "[hand_over]") {
  CHECK(Check({.lane_reroutes = true, .reroute_says_choosing = false}).failure ==
        "a step read a bank that was being written");
}

TEST_CASE("the model catches a hand-over with two banks", "[hand_over]") {
  CHECK(Check({.agent_heeds_announced = false, .num_banks = 2}).failure == "a step read a bank that was being written");
}

TEST_CASE("the model catches an agent that does not look at what lanes announce", "[hand_over]") {
  CHECK(Check({.agent_heeds_announced = false, .num_banks = 3}).failure == "a step read a bank that was being written");
}

TEST_CASE("the model catches a missing fence of the engine", "[hand_over]") {
  CHECK(Check({.lane_fences = false}).failure != "");
}

TEST_CASE("the model catches a missing fence of the agent", "[hand_over]") {
  CHECK(Check({.agent_fences = false}).failure != "");
}

TEST_CASE("the model catches a lane that reads the newest bank before it announces anything", "[hand_over]") {
  CHECK(Check({.lane_says_choosing = false}).failure != "");
}

TEST_CASE("the model catches a lane that falls back to an older bank", "[hand_over]") {
  CHECK(Check({.lane_takes_newest = false}).failure == "a step was open under an epoch older than the quiesced one");
}

TEST_CASE("the model catches an agent that counts a beginning step as quiescent", "[hand_over]") {
  CHECK(Check({.agent_heeds_choosing = false}).failure == "a step was open under an epoch older than the quiesced one");
}

TEST_CASE("with one bank a lane and two more, the agent finds one whenever no lane is choosing", "[hand_over]") {
  // Every assignment of banks to lanes: what FindFreeBank sees when it sees no choosing.
  for (int num_lanes = 1; num_lanes <= 3; ++num_lanes) {
    const RegionSizes sizes{.num_lanes = num_lanes};
    int num_cases = 1;
    for (int l = 0; l <= num_lanes; ++l) num_cases *= sizes.num_banks();
    for (int picked = 0; picked < num_cases; ++picked) {
      uint32_t taken = 0;
      for (int l = 0, rest = picked; l <= num_lanes; ++l, rest /= sizes.num_banks()) {
        taken |= uint32_t{1} << (rest % sizes.num_banks());
      }
      REQUIRE(taken != (uint32_t{1} << sizes.num_banks()) - 1);
    }
  }
}

}  // namespace evenkeel::engine
