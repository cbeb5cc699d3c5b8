// SPDX-License-Identifier: Apache-2.0
//
// Reference engines whose peers end in mid-step, and others that join them: the test is all the agents (protocol,
// rules 1, 4, 14 and 25).
#include <signal.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "catch2/catch.hpp"

#include "tests/engine/engine_group.h"
#include "tests/engine/rearranger.h"

namespace evenkeel::engine {
namespace {

constexpr int kRanks = 3, kTopK = 4;

std::vector<std::string> Flags(const std::vector<std::string>& extra) {
  std::vector<std::string> flags = {"--answer_seconds=600", "--drop_seconds=600"};
  flags.insert(flags.end(), extra.begin(), extra.end());
  return flags;
}

// Tokens and experts that were brought together, by the regions' counters.
uint64_t NumComputed(Rearranger& rearranger) {
  uint64_t sum = 0;
  for (int rank = 0; rank < kRanks; ++rank) {
    const CounterReading reading = rearranger.ReadCounters(rank);
    sum = std::accumulate(reading.tokens_of_slot.begin(), reading.tokens_of_slot.end(), sum);
  }
  return sum;
}

std::string StateOf(const EngineGroup& group, int rank) { return group.Status(rank).value("state", ""); }

// An engine that had not met rank 2 when that ended cannot begin, and waits for nobody in a step.
bool BothWaitForRank2(const EngineGroup& group) {
  const auto waits = [&](int rank) { return group.WaitingFor(rank) == 2; };
  const auto starts = [&](int rank) { return StateOf(group, rank) == "starting"; };
  absl::Time since = absl::InfiniteFuture();  // a state is told a second later
  const bool known = group.Await([&] {
    since = starts(0) || starts(1) ? std::min(since, absl::Now()) : absl::InfiniteFuture();
    return (waits(0) && waits(1)) || absl::Now() - since > absl::Seconds(3);
  });
  REQUIRE(known);
  return waits(0) && waits(1);
}

}  // namespace

TEST_CASE("every token meets its experts once or is counted as dropped, whatever a loss in mid-step does", "[losses]") {
  const std::string on_loss = GENERATE("reroute", "wait", "drop");
  CAPTURE(on_loss);
  // Every expert has two homes. Rank 2 serves the others, after one step of its own, until the next request for it.
  const std::vector<std::string> flags = {"--slots_per_rank=43", "--on_loss=" + on_loss};
  std::optional<EngineGroup> begun;
  std::optional<Rearranger> rearranging;
  for (bool both_wait = false; !both_wait; both_wait = BothWaitForRank2(*begun)) {
    rearranging.reset();
    begun.emplace(kRanks);
    for (int rank = 0; rank < 2; ++rank) begun->Start(rank, Flags(flags));
    begun->Start(2, Flags({flags[0], flags[1], "--tokens_per_second_max=0.001", "--fail_rank=2", "--fail_after_steps=1",
                           "--fail_as=exit"}));
    rearranging.emplace(*begun, Rearranger::Sizes{.num_ranks = kRanks, .slots_per_rank = 43});
    REQUIRE(begun->Wait(2) == 3);
  }
  EngineGroup& group = *begun;
  Rearranger& rearranger = *rearranging;
  rearranger.StoreView(2);
  const uint64_t tokens = group.Count(0, "tokens");
  REQUIRE(group.Await([&] { return group.Count(0, "tokens") > tokens + 500; }));
  CHECK(group.StopAll() == std::vector<int>{0, 0, 0});
  CHECK(group.Total("aborted_steps") == 0);
  CHECK(group.Total("mismatched_tokens") == 0);
  CHECK(group.Total("stale_slot_uses") == 0);

  const uint64_t dropped = group.Count(0, "dropped_copies") + group.Count(1, "dropped_copies");
  const uint64_t rerouted = group.Count(0, "rerouted_copies") + group.Count(1, "rerouted_copies");
  CHECK((on_loss == "drop" ? rerouted : dropped) == 0);
  CHECK((on_loss == "drop" ? dropped : rerouted) > 0);
  // Rank 2's only step read all prompts of its batch.
  const uint64_t num_tokens = group.Count(0, "tokens") + group.Count(1, "tokens") + 4 * 24;
  CHECK(NumComputed(rearranger) + dropped == num_tokens * kTopK * Rearranger::kLayers);
}

TEST_CASE("an open step finds a lost rank's experts where the newest maps have them", "[losses]") {
  const std::string on_loss = GENERATE("reroute", "wait");
  CAPTURE(on_loss);
  constexpr int kSlots = 34;
  EngineGroup group(kRanks);
  group.StartAll(Flags({"--slots_per_rank=34", "--on_loss=" + on_loss}));
  Rearranger rearranger(group, {.num_ranks = kRanks, .slots_per_rank = kSlots});
  // An engine that has not met all yet refuses those that are at other maps already.
  for (int rank = 0; rank < kRanks; ++rank) {
    REQUIRE(group.Await([&] { return StateOf(group, rank) == "serving"; }));
  }
  // Experts 55 to 63 are on rank 2 alone; as many slots of rank 1, whose experts rank 0 has too, become free.
  for (int layer = 0; layer < Rearranger::kLayers; ++layer) {
    for (size_t i = 0; i < 9; ++i) rearranger.placement(layer).expert_of_slot[kSlots + i] = kNoExpert;
  }
  rearranger.Publish();
  REQUIRE(rearranger.AwaitQuiesced());
  group.Signal(2, SIGKILL);
  CHECK(group.Wait(2) == 128 + SIGKILL);
  REQUIRE(group.Await([&] { return group.WaitingFor(0) == 2 && group.WaitingFor(1) == 2; }));
  // Restored while the survivors' steps are open, from what the dead one left behind.
  for (int layer = 0; layer < Rearranger::kLayers; ++layer) {
    for (int i = 0; i < 9; ++i) {
      const SlotIdx to(kSlots + i), from(2 * kSlots + 55 - 42 + i);
      rearranger.Copy(LayerId(layer), from, to, ExpertId(55 + i));
      rearranger.placement(layer).expert_of_slot[to.idx()] = ExpertId(55 + i);
    }
  }
  rearranger.Publish(2);
  rearranger.StoreView(2);
  const uint64_t tokens = group.Count(0, "tokens");
  CHECK(group.Await([&] { return group.Count(0, "tokens") > tokens + 500 && group.Count(1, "rerouted_copies") > 0; }));
  CHECK(group.StopAll() == std::vector<int>{0, 0, 0});
  CHECK(group.Total("aborted_steps") == 0);
  CHECK(group.Total("dropped_tokens") == 0);
  CHECK(group.Total("mismatched_tokens") == 0);
  CHECK(group.Total("stale_slot_uses") == 0);
}

TEST_CASE(
    "an engine in a lost rank's place, or beyond the first, serves once it is a member and is computed on once maps "
    "name its slots",
    "[losses]") {
  const int newcomer = GENERATE(2, 3);
  CAPTURE(newcomer);
  constexpr int kSlots = 43;
  EngineGroup group(kRanks);
  const std::vector<std::string> flags = Flags({"--slots_per_rank=43", "--ranks_max=4", "--on_loss=reroute"});
  group.StartAll(flags);
  Rearranger rearranger(group, {.num_ranks = kRanks, .ranks_max = 4, .slots_per_rank = kSlots});
  rearranger.Publish();
  REQUIRE(group.Await([&] { return group.Total("checked_tokens") > 0; }));
  if (newcomer == 2) {
    group.Signal(2, SIGKILL);
    group.Wait(2);
    rearranger.StoreView(2);
  }
  const int without = newcomer == 2 ? 2 : -1;
  for (int layer = 0; layer < Rearranger::kLayers; ++layer) {
    std::vector<ExpertId>& experts = rearranger.placement(layer).expert_of_slot;
    std::fill_n(experts.begin() + newcomer * kSlots, kSlots, kNoExpert);
  }
  rearranger.Publish(without);
  REQUIRE(rearranger.AwaitQuiesced(without));
  std::vector<std::string> joins = flags;
  joins.push_back("--join");
  group.Start(newcomer, joins);
  rearranger.Open(newcomer);
  REQUIRE(group.Await([&] { return StateOf(group, newcomer) == "outside"; }));
  CHECK(group.Count(newcomer, "steps") == 0);

  // It sends before anything is sent to it.
  rearranger.StoreView();
  rearranger.Publish();
  CHECK(group.Await([&] { return group.Count(newcomer, "checked_tokens") > 100; }));
  CHECK(group.Count(newcomer, "served_rows") == 0);
  REQUIRE(rearranger.AwaitQuiesced());
  for (int layer = 0; layer < Rearranger::kLayers; ++layer) {
    for (int local = 0; local < kSlots; ++local) {
      const SlotIdx from(local), to(newcomer * kSlots + local);
      rearranger.Copy(LayerId(layer), from, to, ExpertId(local));
      rearranger.placement(layer).expert_of_slot[to.idx()] = ExpertId(local);
    }
  }
  rearranger.Publish();
  CHECK(group.Await([&] { return group.Count(newcomer, "served_rows") > 1000; }));
  group.SignalAll(SIGTERM);
  for (int rank = 0; rank < (newcomer == 3 ? 4 : 3); ++rank) CHECK(group.Wait(rank) == 0);
  for (const char* key : {"mismatched_tokens", "stale_slot_uses", "dropped_tokens"}) {
    CAPTURE(key);
    CHECK(group.Total(key) + group.Count(3, key) == 0);
  }
}

TEST_CASE("a rank that no view has any more stops, and the others go on", "[losses]") {
  EngineGroup group(kRanks);
  group.StartAll(Flags({"--slots_per_rank=43", "--on_loss=reroute"}));
  Rearranger rearranger(group, {.num_ranks = kRanks, .slots_per_rank = 43});
  REQUIRE(group.Await([&] { return group.Total("checked_tokens") > 0; }));
  rearranger.StoreViewTo({0, 1, 2}, 2);
  CHECK(group.Await([&] { return StateOf(group, 2) == "outside"; }));
  const uint64_t tokens = group.Count(0, "tokens"), steps = group.Count(2, "steps");
  CHECK(group.Await([&] { return group.Count(0, "tokens") > tokens + 500; }));
  CHECK(group.Count(2, "steps") == steps);
  CHECK(group.StopAll() == std::vector<int>{0, 0, 0});
  CHECK(group.Total("mismatched_tokens") == 0);
  CHECK(group.Total("dropped_tokens") == 0);
}

TEST_CASE("an engine that announces a pause has its lease, one that is merely silent has none", "[losses]") {
  const bool announced = GENERATE(true, false);
  EngineGroup group(kRanks);
  group.StartAll(Flags({"--slots_per_rank=24", "--fail_rank=1", "--fail_after_steps=5", "--fail_seconds=1.5",
                        std::string("--fail_as=") + (announced ? "pause" : "silence")}));
  Rearranger rearranger(group, {.num_ranks = kRanks, .slots_per_rank = 24});
  CHECK(group.Await([&] { return group.WaitingFor(0) == 1 && group.WaitingFor(2) == 1; }));
  CHECK((rearranger.BusyLeaseLeft(1) > absl::Seconds(1)) == announced);
  const uint64_t tokens = group.Count(0, "tokens");
  CHECK(group.Await([&] { return group.Count(0, "tokens") > tokens + 500; }));
  CHECK(group.StopAll() == std::vector<int>{0, 0, 0});
  CHECK(group.Total("aborted_steps") == 0);
  CHECK(group.Total("mismatched_tokens") == 0);
}

TEST_CASE("an engine that ends in order has said so before its lock is free", "[losses]") {
  EngineGroup group(kRanks);
  group.StartAll(Flags({"--slots_per_rank=24"}));
  Rearranger rearranger(group, {.num_ranks = kRanks, .slots_per_rank = 24});
  REQUIRE(group.Await([&] { return group.Total("checked_tokens") > 0; }));
  CHECK_FALSE(rearranger.HasLeft(1));
  group.Signal(1, SIGTERM);
  CHECK(group.Wait(1) == 0);
  CHECK(rearranger.HasLeft(1));
  group.StopAll();
}

}  // namespace evenkeel::engine
