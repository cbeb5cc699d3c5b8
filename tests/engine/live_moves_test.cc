// SPDX-License-Identifier: Apache-2.0
//
// Reference engines whose slots are rearranged, whose peers die and come back, under them: the test is all the agents.
#include <signal.h>

#include <numeric>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/base/rng.h"
#include "tests/engine/engine_group.h"
#include "tests/engine/rearranger.h"

namespace evenkeel::engine {
namespace {

constexpr int kRanks = 3;

std::vector<std::string> Flags(const std::vector<std::string>& extra = {}) {
  std::vector<std::string> flags = {"--slots_per_rank=24", "--batch=8", "--answer_seconds=1", "--drop_seconds=600"};
  flags.insert(flags.end(), extra.begin(), extra.end());
  return flags;
}

TEST_CASE("text stays the same while a hundred slots are rewritten under it", "[moves]") {
  const uint64_t seed = 11;
  CAPTURE(seed);
  Rng rng(seed);
  EngineGroup group(kRanks);
  group.StartAll(Flags());
  Rearranger rearranger(group, {.num_ranks = kRanks, .slots_per_rank = 24});
  int num_moves = 0;
  for (int wave = 0; wave < 200 && num_moves < 100; ++wave) num_moves += rearranger.MoveRandomly(rng);
  CHECK(num_moves >= 100);
  const uint64_t checked = group.Total("checked_tokens");
  CHECK(group.Await([&] { return group.Total("checked_tokens") > checked + 1000; }));
  CHECK(group.Status(0)["epoch"] != "0.0");
  for (int rank = 0; rank < kRanks; ++rank) {
    const CounterReading reading = rearranger.ReadCounters(rank);
    const auto sum = [](const std::vector<uint64_t>& tokens) {
      return std::accumulate(tokens.begin(), tokens.end(), uint64_t{0});
    };
    // Every token is of the one or the other, whoever sent it.
    CHECK(sum(reading.prefill_of_slot) > 0);
    CHECK(sum(reading.decode_of_slot) > 0);
    CHECK(sum(reading.prefill_of_slot) + sum(reading.decode_of_slot) == sum(reading.tokens_of_slot));
    CHECK(rearranger.ReadStepTimes(rank).num_steps > 0);
    CHECK(rearranger.ReadStepTimes(rank).total > absl::ZeroDuration());
  }
  CHECK(group.StopAll() == std::vector<int>{0, 0, 0});
  CHECK(group.Total("mismatched_tokens") == 0);
  CHECK(group.Total("stale_slot_uses") == 0);
  CHECK(group.Total("calls_that_waited") == 0);
}

TEST_CASE("a slot that is overwritten while maps name it is noticed by the stamps and in the text", "[moves]") {
  EngineGroup group(kRanks);
  group.StartAll(Flags());
  Rearranger rearranger(group, {.num_ranks = kRanks, .slots_per_rank = 24});
  REQUIRE(group.Await([&] { return group.Total("checked_tokens") > 0; }));
  for (int slot = 0; slot < 24; ++slot) {
    rearranger.Copy(LayerId(0), SlotIdx(24 + slot), SlotIdx(slot), ExpertId(21 + slot));
  }
  CHECK(group.Await([&] { return group.Total("stale_slot_uses") > 0 && group.Total("mismatched_tokens") > 0; }));
  CHECK(group.StopAll() != std::vector<int>{0, 0, 0});
}

TEST_CASE("without a lost rank the others go on, and its successor joins by its first map", "[moves]") {
  EngineGroup group(kRanks);
  group.StartAll(Flags());
  Rearranger rearranger(group, {.num_ranks = kRanks, .slots_per_rank = 24});
  REQUIRE(group.Await([&] { return group.Total("checked_tokens") > 0; }));
  rearranger.Publish();
  REQUIRE(rearranger.AwaitQuiesced());

  group.Signal(2, SIGKILL);
  CHECK(group.Wait(2) == 128 + SIGKILL);
  CHECK(group.Await([&] { return group.WaitingFor(0) == 2 && group.WaitingFor(1) == 2; }));
  // Masked: what only rank 2 held has no replica, which ends steps until it is back.
  rearranger.StoreView(2);
  rearranger.Publish(2);
  CHECK(group.Await([&] { return group.Count(0, "aborted_steps") > 0 && group.WaitingFor(0) == -1; }));

  group.Start(2, Flags());
  rearranger.Open(2);
  CHECK(group.Await([&] { return group.Status(2).value("state", "") == "outside"; }));
  CHECK(group.Count(2, "tokens") == 0);
  rearranger.StoreView();
  rearranger.Publish();
  const uint64_t tokens = group.Count(0, "tokens");
  CHECK(group.Await([&] { return group.Count(0, "tokens") > tokens + 200 && group.Count(2, "checked_tokens") > 100; }));
  CHECK(group.StopAll() == std::vector<int>{0, 0, 0});
  CHECK(group.Total("mismatched_tokens") == 0);
  CHECK(group.Total("stale_slot_uses") == 0);
  CHECK(group.Total("dropped_tokens") == 0);
}

TEST_CASE("where every expert has a second home, survivors route the open step anew and lose nothing", "[moves]") {
  EngineGroup group(kRanks);
  group.StartAll(Flags(
      {"--slots_per_rank=43", "--answer_seconds=600", "--fail_rank=2", "--fail_after_steps=20", "--fail_as=exit"}));
  Rearranger rearranger(group, {.num_ranks = kRanks, .slots_per_rank = 43});
  CHECK(group.Wait(2) == 3);
  CHECK(group.Await([&] { return group.WaitingFor(0) == 2 && group.WaitingFor(1) == 2; }));
  rearranger.StoreView(2);
  const uint64_t tokens = group.Count(0, "tokens");
  CHECK(group.Await([&] { return group.Count(0, "tokens") > tokens + 500 && group.Count(0, "rerouted_copies") > 0; }));
  CHECK(group.StopAll() == std::vector<int>{0, 0, 0});
  CHECK(group.Total("aborted_steps") == 0);
  CHECK(group.Total("dropped_tokens") == 0);
  CHECK(group.Total("mismatched_tokens") == 0);
}

TEST_CASE("tokens of an expert without any replica are dropped after the time told, counted and not compared",
          "[moves]") {
  EngineGroup group(kRanks);
  group.StartAll(Flags({"--drop_seconds=0.2"}));
  Rearranger rearranger(group, {.num_ranks = kRanks, .slots_per_rank = 24});
  REQUIRE(group.Await([&] { return group.Total("checked_tokens") > 0; }));
  group.Signal(2, SIGKILL);
  group.Wait(2);
  rearranger.StoreView(2);
  CHECK(group.Await([&] { return group.Count(0, "dropped_tokens") > 0 && group.Count(1, "dropped_tokens") > 0; }));
  const uint64_t sequences = group.Count(0, "sequences");
  CHECK(group.Await([&] { return group.Count(0, "sequences") > sequences; }));
  CHECK(group.StopAll() == std::vector<int>{0, 0, 0});
  CHECK(group.Total("mismatched_tokens") == 0);
}

}  // namespace
}  // namespace evenkeel::engine
