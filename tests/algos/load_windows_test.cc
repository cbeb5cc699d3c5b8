// SPDX-License-Identifier: Apache-2.0
#include "algos/load_windows.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <numeric>

#include "algos/base/rng.h"

namespace evenkeel::algos {
namespace {

using Entry = LoadReport::Entry;

constexpr Shape kShape{.num_experts = 4, .num_ranks = 2, .slots_per_rank = 3};

absl::Time At(double seconds) { return absl::FromUnixMillis(1'700'000'000'000) + absl::Seconds(seconds); }

LoadWindows Windows(int kept = 5, absl::Duration lag = absl::Milliseconds(250)) {
  return LoadWindows({.shape = kShape, .num_layers = 2, .lag = lag, .num_windows_kept = kept}, At(0));
}

Entry EntryOf(int layer, int slot, int expert, uint64_t tokens) {
  return {.layer = LayerId(layer), .slot = SlotIdx(slot), .expert = ExpertId(expert), .tokens = tokens};
}

absl::Status AddTokens(LoadWindows& windows, double now, double from, double to, uint64_t tokens) {
  const std::vector<Entry> entries = {EntryOf(1, 3, 2, tokens)};
  return windows.Add(At(now), {.from = At(from), .to = At(to), .first_step = 1, .last_step = 2, .entries = entries});
}

// Tokens of the entry that AddTokens adds.
uint64_t TokensAt(const LoadWindows& windows, int age) { return windows.Episode(age).tokens[4 + 2]; }

uint64_t SumOf(const std::vector<uint64_t>& values) {
  return std::accumulate(values.begin(), values.end(), uint64_t{0});
}

TEST_CASE("a window closes when its lag has passed, and not before", "[load_windows]") {
  LoadWindows windows = Windows();
  REQUIRE(AddTokens(windows, 0.5, 0.4, 0.5, 100).ok());
  CHECK(windows.NextEdge() == At(1.25));
  CHECK(windows.Advance(At(1.249)) == 0);
  CHECK(windows.num_closed() == 0);
  CHECK(windows.NextEdge() == At(1.25));
  CHECK(windows.Advance(At(1.25)) == 1);
  REQUIRE(windows.num_closed() == 1);
  CHECK(TokensAt(windows, 0) == 100);
  CHECK(windows.SpanOf(0) ==
        WindowSpan{.from = At(0), .to = At(1), .first_step = 1, .last_step = 2, .num_tokens = 100});
  CHECK(windows.NextEdge() == At(2.25));
}

TEST_CASE("tokens of a phase are kept apart, split like all others", "[load_windows]") {
  LoadWindows windows = Windows();
  Entry entry = EntryOf(1, 3, 2, 1000);
  entry.prefill_tokens = 600;
  entry.decode_tokens = 300;
  const std::vector<Entry> entries = {entry, EntryOf(0, 0, 1, 50)};
  REQUIRE(windows.Add(At(1.3), {.from = At(0.8), .to = At(1.3), .entries = entries}).ok());
  windows.Advance(At(3));
  REQUIRE(windows.num_closed() == 2);
  CHECK(windows.Episode(1).tokens[4 + 2] == 400);
  CHECK(windows.Episode(1, LoadPhase::kPrefill).tokens[4 + 2] == 240);
  CHECK(windows.Episode(1, LoadPhase::kDecode).tokens[4 + 2] == 120);
  CHECK(SumOf(windows.Sum(2, LoadPhase::kPrefill).tokens) == 600);
  CHECK(SumOf(windows.Sum(2, LoadPhase::kDecode).tokens) == 300);
  CHECK(windows.SpanOf(0).NumTokens(LoadPhase::kPrefill) == 360);
  CHECK(windows.SpanOf(0).NumTokens(LoadPhase::kDecode) == 180);
  CHECK(windows.SpanOf(0).NumTokens(LoadPhase::kAll) == 630);
}

TEST_CASE("windows used again hold nothing of a phase that was there before", "[load_windows]") {
  LoadWindows windows = Windows(1);
  Entry entry = EntryOf(1, 3, 2, 10);
  entry.prefill_tokens = 10;
  const std::vector<Entry> entries = {entry};
  REQUIRE(windows.Add(At(0.5), {.from = At(0.4), .to = At(0.5), .entries = entries}).ok());
  windows.Advance(At(1.3));
  REQUIRE(windows.SpanOf(0).num_prefill_tokens == 10);
  for (int second = 1; second < 20; ++second) {
    windows.Advance(At(second + 1.3));
    CHECK(windows.SpanOf(0).num_prefill_tokens == 0);
    CHECK(SumOf(windows.Episode(0, LoadPhase::kPrefill).tokens) == 0);
  }
}

// Nothing but that `rank` has reported up to `to`.
void Reach(LoadWindows& windows, int rank, double now, double to) {
  REQUIRE(windows.Add(At(now), {.rank = RankId(rank), .from = At(to - 0.1), .to = At(to), .entries = {}}).ok());
}

LoadWindows WindowsAwaiting(const std::vector<RankId>& ranks) {
  LoadWindows windows = Windows(5, absl::Seconds(3));
  windows.SetExpected(ranks);
  return windows;
}

TEST_CASE("a window closes with the report of the last expected rank that reaches its end", "[load_windows]") {
  LoadWindows windows = WindowsAwaiting({RankId(0), RankId(1)});
  Reach(windows, 0, 1.05, 1.0);  // its end itself is enough
  Reach(windows, 1, 1.06, 0.999);
  CHECK_FALSE(windows.HasClosed());
  CHECK(windows.Advance(At(1.06)) == 0);
  const std::vector<Entry> entries = {EntryOf(1, 3, 2, 50)};
  REQUIRE(windows.Add(At(1.07), {.rank = RankId(1), .from = At(0.999), .to = At(1.049), .entries = entries}).ok());
  CHECK(windows.HasClosed());
  CHECK(windows.Advance(At(1.07)) == 1);
  CHECK_FALSE(windows.HasClosed());
  CHECK(windows.Advance(At(1.08)) == 0);
  REQUIRE(windows.num_closed() == 1);
  CHECK(windows.SpanOf(0).to == At(1));
  CHECK(TokensAt(windows, 0) == 1);  // 1 ms of 50
  CHECK(windows.NextEdge() == At(5));
  Reach(windows, 0, 2.0, 2.0);  // at the very moment of the edge
  Reach(windows, 1, 2.0, 2.0);
  CHECK(windows.Advance(At(2.0)) == 1);
  REQUIRE(AddTokens(windows, 2.1, 2.0, 2.1, 7).ok());  // what follows is of the next one
  Reach(windows, 1, 3.01, 3.0);
  Reach(windows, 0, 3.01, 3.0);
  CHECK(windows.Advance(At(3.01)) == 1);
  CHECK(TokensAt(windows, 0) == 7);
  CHECK(TokensAt(windows, 1) == 49);
}

TEST_CASE("a silent rank is waited for until the lag has passed, and what it says late is kept", "[load_windows]") {
  LoadWindows windows = WindowsAwaiting({RankId(0), RankId(1)});
  for (int i = 1; i <= 3; ++i) Reach(windows, 0, i + 0.1, i + 0.1);
  CHECK(windows.Advance(At(3.9)) == 0);
  CHECK(windows.Advance(At(4.0)) == 1);
  const std::vector<Entry> entries = {EntryOf(1, 3, 2, 40)};
  REQUIRE(windows.Add(At(4.2), {.rank = RankId(1), .from = At(0), .to = At(4), .entries = entries}).ok());
  CHECK(windows.Advance(At(4.2)) == 2);
  REQUIRE(windows.num_closed() == 3);
  for (int age = 0; age < 3; ++age) CHECK(TokensAt(windows, age) == 10);
}

TEST_CASE("ranks that are not expected hold nothing up and complete nothing", "[load_windows]") {
  LoadWindows windows = WindowsAwaiting({});
  Reach(windows, 0, 1.1, 1.1);
  Reach(windows, 1, 1.1, 1.1);
  CHECK(windows.Advance(At(1.1)) == 0);
  windows.SetExpected(std::vector<RankId>{RankId(0)});  // its report of before counts
  CHECK(windows.Advance(At(1.2)) == 1);
  windows.SetExpected(std::vector<RankId>{RankId(0), RankId(1)});
  Reach(windows, 0, 2.1, 2.1);
  CHECK(windows.Advance(At(2.1)) == 0);
  windows.SetExpected(std::vector<RankId>{RankId(0)});  // rank 1 has left
  CHECK(windows.Advance(At(2.1)) == 1);
}

TEST_CASE("a clock that runs ahead completes no window before its end", "[load_windows]") {
  LoadWindows windows = WindowsAwaiting({RankId(0)});
  Reach(windows, 0, 0.9, 7.0);
  CHECK(windows.Advance(At(0.9)) == 0);
  CHECK(windows.num_closed() == 0);
}

TEST_CASE("windows close no later than the slowest expected rank and the lag allow, and no earlier",
          "[load_windows][property]") {
  const uint64_t seed = GENERATE(range(uint64_t{1}, uint64_t{21}));
  CAPTURE(seed);
  const auto at = [](int64_t milliseconds) { return At(0) + absl::Milliseconds(milliseconds); };
  Rng rng(seed);
  const int64_t lag_ms = rng.Between(0, 4000);
  LoadWindows windows = Windows(200, absl::Milliseconds(lag_ms));
  std::array<bool, 2> expected = {false, false};
  std::array<int64_t, 2> reached_ms = {0, 0};
  int64_t now_ms = 0;
  int64_t closed = 0;
  uint64_t added = 0;
  for (int i = 0; i < 400; ++i) {
    now_ms += rng.Between(0, 300);
    const int rank = rng.Chance(0.5) ? 1 : 0;
    if (rng.Chance(0.05)) {
      expected[static_cast<size_t>(rank)] = rng.Chance(0.7);
      std::vector<RankId> ranks;
      for (int r = 0; r < 2; ++r) {
        if (expected[static_cast<size_t>(r)]) ranks.push_back(RankId(r));
      }
      windows.SetExpected(ranks);
    } else {
      int64_t& reached = reached_ms[static_cast<size_t>(rank)];
      const int64_t to = rng.Between(reached, now_ms);
      const std::vector<Entry> entries = {EntryOf(1, 3, 2, rng.Below(1000))};
      REQUIRE(
          windows.Add(at(now_ms), {.rank = RankId(rank), .from = at(reached), .to = at(to), .entries = entries}).ok());
      added += entries[0].tokens;
      reached = to;
    }
    windows.Advance(at(now_ms));
    int64_t complete_ms = 0;
    if (expected[0] || expected[1]) {
      complete_ms = std::min(expected[0] ? reached_ms[0] : now_ms, expected[1] ? reached_ms[1] : now_ms);
    }
    closed = std::max<int64_t>({closed, complete_ms / 1000, (now_ms - lag_ms) / 1000});
    REQUIRE(windows.num_closed() == closed);
  }
  CHECK(windows.num_expired_tokens() == 0);
  windows.Advance(at(now_ms + 5000));
  CHECK(SumOf(windows.Sum(200).tokens) == added);
}

TEST_CASE("reports of several ranks meet in one window, per expert and per slot", "[load_windows]") {
  LoadWindows windows = Windows();
  const std::vector<Entry> first = {EntryOf(0, 0, 1, 5), EntryOf(1, 2, 1, 6)};
  const std::vector<Entry> second = {EntryOf(0, 4, 1, 7), EntryOf(0, 4, 2, 8)};  // slot 4 changed its expert
  REQUIRE(
      windows.Add(At(0.6), {.from = At(0.1), .to = At(0.5), .first_step = 4, .last_step = 9, .entries = first}).ok());
  REQUIRE(
      windows.Add(At(0.7), {.from = At(0.2), .to = At(0.7), .first_step = 2, .last_step = 7, .entries = second}).ok());
  CHECK(SumOf(windows.OpenSlotTokens()) == 26);
  windows.Advance(At(1.3));
  const Load load = windows.Episode(0);
  CHECK(load.tokens == std::vector<uint64_t>{0, 12, 8, 0, 0, 6, 0, 0});
  CHECK(windows.SlotTokens(0) == std::vector<uint64_t>{5, 0, 0, 0, 15, 0, 0, 0, 6, 0, 0, 0});
  CHECK(windows.SpanOf(0).first_step == 2);
  CHECK(windows.SpanOf(0).last_step == 9);
}

TEST_CASE("a span over an edge is split in proportion", "[load_windows]") {
  LoadWindows windows = Windows();
  REQUIRE(AddTokens(windows, 1.2, 0.75, 1.75 - 0.55, 100).ok());  // 250 ms before the edge, 200 ms after
  windows.Advance(At(2.3));
  REQUIRE(windows.num_closed() == 2);
  CHECK(TokensAt(windows, 1) == 56);  // 100 * 250 / 450 = 55.6
  CHECK(TokensAt(windows, 0) == 44);
}

TEST_CASE("a moment on an edge belongs to the window before it", "[load_windows]") {
  LoadWindows windows = Windows();
  REQUIRE(AddTokens(windows, 1.1, 0.9, 1.0, 10).ok());
  REQUIRE(AddTokens(windows, 1.2, 1.0, 1.1, 7).ok());
  REQUIRE(AddTokens(windows, 1.2, 1.0, 1.0, 3).ok());  // an instant
  windows.Advance(At(2.3));
  CHECK(TokensAt(windows, 1) == 13);
  CHECK(TokensAt(windows, 0) == 7);
}

TEST_CASE("a late report goes to the window it belongs to while that is kept, and is counted after", "[load_windows]") {
  LoadWindows windows = Windows(2);
  windows.Advance(At(3.3));
  CHECK(windows.num_closed() == 2);
  REQUIRE(AddTokens(windows, 3.3, 1.2, 1.8, 50).ok());
  CHECK(TokensAt(windows, 1) == 50);
  REQUIRE(AddTokens(windows, 3.3, 0.2, 0.8, 11).ok());
  CHECK(windows.num_expired_tokens() == 11);
  REQUIRE(AddTokens(windows, 3.3, 0.0, 2.0, 20).ok());  // half of it expired
  CHECK(windows.num_expired_tokens() == 21);
  CHECK(TokensAt(windows, 1) == 60);
}

TEST_CASE("a clock that runs ahead is pulled back to now", "[load_windows]") {
  LoadWindows windows = Windows();
  REQUIRE(AddTokens(windows, 0.9, 100.5, 100.6, 10).ok());
  windows.Advance(At(1.3));
  CHECK(TokensAt(windows, 0) == 10);
}

TEST_CASE("the window in which the group began does not count as closed", "[load_windows]") {
  LoadWindows windows({.shape = kShape, .num_layers = 2}, At(0.5));
  REQUIRE(AddTokens(windows, 0.9, 0.5, 0.9, 10).ok());
  CHECK(windows.Advance(At(1.9)) == 0);
  CHECK(windows.num_closed() == 0);
  CHECK(windows.Advance(At(2.5)) == 1);
  CHECK(TokensAt(windows, 0) == 0);
}

TEST_CASE("sums and episodes take the last windows, oldest first", "[load_windows]") {
  LoadWindows windows = Windows(3);
  for (int i = 0; i < 5; ++i) REQUIRE(AddTokens(windows, i + 0.5, i + 0.4, i + 0.5, uint64_t{1} << i).ok());
  CHECK(windows.Advance(At(5.3)) == 5);
  CHECK(windows.num_closed() == 3);
  CHECK(windows.Sum(2).tokens[6] == 8 + 16);
  CHECK(windows.Sum(100).tokens[6] == 4 + 8 + 16);
  CHECK(SumOf(windows.SlotTokensSum(100)) == 4 + 8 + 16);
  const auto episodes = windows.Episodes(2);
  REQUIRE(episodes.size() == 2);
  CHECK(episodes[0].tokens[6] == 8);
  CHECK(episodes[1].tokens[6] == 16);
}

TEST_CASE("after a pause longer than all that is kept every window is empty", "[load_windows]") {
  LoadWindows windows = Windows(3);
  for (int i = 0; i < 5; ++i) REQUIRE(AddTokens(windows, i + 0.5, i + 0.4, i + 0.5, 9).ok());
  windows.Advance(At(10'000));
  CHECK(windows.num_closed() == 3);
  CHECK(SumOf(windows.Sum(3).tokens) == 0);
  CHECK(SumOf(windows.SlotTokensSum(3)) == 0);
  CHECK(windows.SpanOf(0).last_step == 0);
}

TEST_CASE("entries that are none of the group's are refused whole", "[load_windows]") {
  LoadWindows windows = Windows();
  const Entry good = EntryOf(0, 0, 0, 1);
  for (const Entry& bad : {EntryOf(2, 0, 0, 1), EntryOf(0, 6, 0, 1), EntryOf(0, 0, 4, 1), EntryOf(-1, 0, 0, 1)}) {
    const std::vector<Entry> entries = {good, bad};
    const auto status = windows.Add(At(0.5), {.from = At(0.4), .to = At(0.5), .entries = entries});
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  }
  CHECK(AddTokens(windows, 0.5, 0.5, 0.4, 1).code() == absl::StatusCode::kInvalidArgument);
  CHECK(SumOf(windows.OpenSlotTokens()) == 0);
}

TEST_CASE("spans without beginning or end lose no token either", "[load_windows]") {
  LoadWindows windows = Windows();
  const std::vector<Entry> entries = {EntryOf(0, 0, 0, 1000)};
  REQUIRE(windows.Add(At(3), {.from = absl::InfinitePast(), .to = absl::InfiniteFuture(), .entries = entries}).ok());
  REQUIRE(windows.Add(At(3), {.from = absl::InfinitePast(), .to = absl::InfinitePast(), .entries = entries}).ok());
  CHECK(windows.num_expired_tokens() + SumOf(windows.OpenSlotTokens()) == 2000);
}

TEST_CASE("whatever the spans, no token is lost or invented, and each window gets its part", "[load_windows]") {
  const uint64_t seed = GENERATE(range(0, 200));
  CAPTURE(seed);
  Rng rng(seed);
  LoadWindows windows = Windows(100, absl::Milliseconds(rng.Between(0, 2500)));
  double now = 0.01;  // spans end after 0, so none is pulled back before the start
  uint64_t added = 0;
  std::vector<double> expected(100, 0.0);
  for (int i = 0; i < 200; ++i) {
    now += rng.Uniform() * 0.3;
    const double to = std::max(0.001, now - rng.Uniform() * 0.4);
    const double from = std::max(0.0, to - 0.001 - rng.Uniform() * (rng.Chance(0.1) ? 20.0 : 0.3));
    const uint64_t tokens = rng.Below(rng.Chance(0.1) ? uint64_t{1} << 40 : 50);
    REQUIRE(AddTokens(windows, now, from, to, tokens).ok());
    added += tokens;
    for (size_t w = 0; w < expected.size(); ++w) {
      const double begin = static_cast<double>(w);
      const double overlap = std::min(to, begin + 1) - std::max(from, begin);
      if (overlap > 0) expected[w] += static_cast<double>(tokens) * overlap / (to - from);
    }
  }
  windows.Advance(At(now + 4));
  CHECK(windows.num_expired_tokens() == 0);
  CHECK(SumOf(windows.Sum(100).tokens) == added);
  CHECK(SumOf(windows.SlotTokensSum(100)) == added);
  for (int age = 0; age < windows.num_closed(); ++age) {
    const size_t w = static_cast<size_t>(windows.num_closed() - 1 - age);
    // Half a token for each edge of each report, and the rounding of moments to nanoseconds.
    CHECK(static_cast<double>(TokensAt(windows, age)) == Approx(expected[w]).epsilon(1e-4).margin(100));
    CHECK(windows.SpanOf(age).num_tokens == TokensAt(windows, age));
  }
}

}  // namespace
}  // namespace evenkeel::algos
