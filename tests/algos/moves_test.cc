// SPDX-License-Identifier: Apache-2.0
#include "algos/moves.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include <catch2/catch.hpp>

#include "algos/base/rng.h"
#include "algos/placement.h"

namespace evenkeel::algos {
namespace {

Placement Holding(const std::vector<int>& experts) {
  Placement placement;
  for (int expert : experts) placement.expert_of_slot.push_back(ExpertId(expert));
  return placement;
}

MoveState StateOf(const Shape& shape, const Placement& placement) {
  MoveState state;
  state.shape = shape;
  state.expert_of_slot = placement.expert_of_slot;
  for (ExpertId expert : placement.expert_of_slot) {
    state.use.push_back(expert.valid() ? SlotUse::kLive : SlotUse::kFree);
  }
  return state;
}

// Every expert once, the rest at random or blank, shuffled over all slots but those of the ranks left out.
Placement RandomPlacement(const Shape& shape, int num_ranks_used, double blank, Rng& rng) {
  std::vector<ExpertId> experts;
  for (int s = 0; s < num_ranks_used * shape.slots_per_rank; ++s) {
    const ExpertId any(static_cast<int32_t>(rng.Below(static_cast<uint64_t>(shape.num_experts))));
    experts.push_back(s < shape.num_experts ? ExpertId(s) : rng.Chance(blank) ? kNoExpert : any);
  }
  rng.Shuffle(experts);
  experts.resize(static_cast<size_t>(shape.num_slots()), kNoExpert);
  return {experts};
}

std::map<ExpertId, int> LiveReplicas(const MoveState& state) {
  std::map<ExpertId, int> live;
  for (size_t s = 0; s < state.use.size(); ++s) {
    if (state.use[s] == SlotUse::kLive) ++live[state.expert_of_slot[s]];
  }
  return live;
}

// What moves.h promises of one wave, looked up in the state that it was planned for.
void CheckWave(const MoveState& state, const Wave& wave, const MoveLimits& limits) {
  const auto at = [](SlotIdx slot) { return static_cast<size_t>(slot.value()); };
  std::map<ExpertId, int> live = LiveReplicas(state);
  std::map<SlotIdx, int> reads;
  std::map<RankId, int> into, out;
  for (SlotIdx slot : wave.retire) {
    REQUIRE(state.use[at(slot)] == SlotUse::kLive);
    REQUIRE((state.readers.empty() || state.readers[at(slot)] == 0));
    REQUIRE(--live[state.expert_of_slot[at(slot)]] >= 1);
  }
  for (const PlannedMove& move : wave.moves) {
    const bool retired = std::count(wave.retire.begin(), wave.retire.end(), move.slot) == 1;
    REQUIRE((state.use[at(move.slot)] == SlotUse::kFree || retired));
    REQUIRE(!move.sources.empty());
    for (SlotIdx source : move.sources) {
      REQUIRE(state.use[at(source)] == SlotUse::kLive);
      REQUIRE(state.expert_of_slot[at(source)] == move.expert);
      REQUIRE(std::count(wave.retire.begin(), wave.retire.end(), source) == 0);
    }
    ++reads[move.sources.front()];
    ++out[state.shape.RankOf(move.sources.front())];
    ++into[state.shape.RankOf(move.slot)];
  }
  for (const auto& [slot, count] : reads) REQUIRE(count <= limits.copies_per_source_max);
  for (const auto& [rank, count] : into) REQUIRE(count <= limits.moves_per_rank_max);
  for (const auto& [rank, count] : out) REQUIRE(count <= limits.reads_per_rank_max);
  REQUIRE(static_cast<int>(wave.moves.size()) <= limits.num_moves_max);
}

struct Tally {
  int num_waves = 0;
  int num_moves = 0;
  int num_rooms = 0;
};

// Plans all waves and checks each against the state that it meets.
Tally Follow(const Shape& shape, const Placement& current, const Placement& target, const MoveLimits& limits) {
  const absl::StatusOr<std::vector<Wave>> waves = PlanMoves(shape, current, target, limits);
  REQUIRE(waves.ok());
  MoveState state = StateOf(shape, current);
  Tally tally;
  for (const Wave& wave : *waves) {
    CheckWave(state, wave, limits);
    for (SlotIdx slot : wave.retire) state.use[slot.idx()] = SlotUse::kFree;
    for (const PlannedMove& move : wave.moves) {
      state.use[move.slot.idx()] = SlotUse::kLive;
      state.expert_of_slot[move.slot.idx()] = move.expert;
    }
    ++tally.num_waves;
    tally.num_moves += static_cast<int>(wave.moves.size());
    tally.num_rooms += wave.num_into_spare_room;
  }
  REQUIRE(Reached(state, target));
  return tally;
}

MoveLimits RandomLimits(Rng& rng) {
  MoveLimits limits;
  limits.moves_per_rank_max = static_cast<int>(rng.Between(1, 4));
  limits.copies_per_source_max = static_cast<int>(rng.Between(1, 3));
  if (rng.Chance(0.3)) limits.reads_per_rank_max = static_cast<int>(rng.Between(1, 4));
  if (rng.Chance(0.3)) limits.num_moves_max = static_cast<int>(rng.Between(1, 6));
  return limits;
}

}  // namespace

TEST_CASE("one blank slot is enough for every rearrangement of small layers", "[moves]") {
  // The experts of the last slots are blanks or second replicas.
  struct Case {
    Shape shape;
    std::vector<int> experts;
  };
  const Case c = GENERATE(Case{{5, 6, 1}, {0, 1, 2, 3, 4, -1}}, Case{{5, 3, 2}, {0, 1, 2, 3, 4, -1}},
                          Case{{5, 2, 3}, {0, 1, 2, 3, 4, -1}}, Case{{5, 6, 1}, {0, 1, 2, 3, 4, 0}},
                          Case{{5, 3, 2}, {0, 1, 2, 3, 4, 4}}, Case{{4, 3, 2}, {0, 1, 2, 3, 1, 1}},
                          Case{{7, 4, 2}, {0, 1, 2, 3, 4, 5, 6, -1}}, Case{{6, 7, 1}, {0, 1, 2, 3, 4, 5, 3}});
  const Placement current = Holding(c.experts);
  std::vector<int> order = c.experts;
  std::sort(order.begin(), order.end());
  int num_targets = 0;
  do {
    const Placement target = Holding(order);
    const Tally tally = Follow(c.shape, current, target, {});
    const int bound = CountMoves(c.shape, current, target);
    REQUIRE(tally.num_moves >= bound);
    REQUIRE(tally.num_moves <= bound + 2 * tally.num_rooms);
    REQUIRE(tally.num_rooms <= (bound + 1) / 2);
    ++num_targets;
  } while (std::next_permutation(order.begin(), order.end()));
  CHECK(num_targets >= 120);
}

TEST_CASE("random rearrangements are safe at every wave and move no more than they must", "[moves]") {
  const uint64_t seed = static_cast<uint64_t>(GENERATE(range(0, 300)));
  CAPTURE(seed);
  Rng rng(seed);
  const int num_ranks = static_cast<int>(rng.Between(2, 12)), slots = static_cast<int>(rng.Between(1, 6));
  const int used_before = static_cast<int>(rng.Between((num_ranks + 1) / 2, num_ranks));
  const int used_after = static_cast<int>(rng.Between((num_ranks + 1) / 2, num_ranks));
  const int room = std::min(used_before, used_after) * slots;
  const Shape shape{static_cast<int>(rng.Between(1, room)), num_ranks, slots};
  Placement current = RandomPlacement(shape, used_before, 0.2, rng);
  if (room == shape.num_experts) current = RandomPlacement(shape, used_before, 1.0, rng);
  const Placement target = RandomPlacement(shape, used_after, 0.2, rng);
  const MoveLimits limits = RandomLimits(rng);
  const int bound = CountMoves(shape, current, target);
  if (shape.num_redundant() == 0 && bound > 0) return;

  const Tally tally = Follow(shape, current, target, limits);

  CHECK(tally.num_moves >= bound);
  CHECK(tally.num_moves <= bound + 2 * tally.num_rooms);
  CHECK(tally.num_rooms <= 2 + bound / 4);
}

TEST_CASE("moves that fail, lag or outlive a wave leave every expert a replica and the target in reach", "[moves]") {
  const uint64_t seed = static_cast<uint64_t>(GENERATE(range(0, 200)));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape{static_cast<int>(rng.Between(4, 23)), 6, 4};
  const Placement target = RandomPlacement(shape, 6, 0.1, rng);
  const MoveLimits limits = RandomLimits(rng);
  MoveState state = StateOf(shape, RandomPlacement(shape, 6, 0.1, rng));
  std::vector<PlannedMove> under_way;
  int num_steps = 0;
  while (!Reached(state, target)) {
    REQUIRE(++num_steps < 2000);
    state.readers.assign(24, 0);
    state.reads_from_rank.assign(6, 0);
    for (const PlannedMove& move : under_way) {
      ++state.readers[move.sources.front().idx()];
      ++state.reads_from_rank[shape.RankOf(move.sources.front()).idx()];
    }
    const absl::StatusOr<Wave> wave = NextWave(state, target, limits);
    REQUIRE(wave.ok());
    CheckWave(state, *wave, limits);
    for (SlotIdx slot : wave->retire) state.use[slot.idx()] = SlotUse::kFree;
    for (const PlannedMove& move : wave->moves) {
      state.use[move.slot.idx()] = SlotUse::kBusy;
      state.expert_of_slot[move.slot.idx()] = move.expert;
      under_way.push_back(move);
    }
    REQUIRE(static_cast<int>(LiveReplicas(state).size()) == shape.num_experts);
    REQUIRE((!wave->empty() || !under_way.empty()));
    std::vector<PlannedMove> lagging;
    for (const PlannedMove& move : under_way) {
      if (rng.Chance(0.3)) {
        lagging.push_back(move);
      } else {
        state.use[move.slot.idx()] = rng.Chance(0.2) ? SlotUse::kFree : SlotUse::kLive;
      }
    }
    under_way = lagging;
  }
  CHECK(under_way.empty());
}

TEST_CASE("n copies of one expert take about log2 n waves, as receivers become sources", "[moves]") {
  const int num_copies = GENERATE(8, 16, 31);
  CAPTURE(num_copies);
  const Shape shape{1, num_copies + 1, 1};
  std::vector<int> before(static_cast<size_t>(num_copies) + 1, -1), after(before.size(), 0);
  before[3] = 0;

  const Tally tally = Follow(shape, Holding(before), Holding(after), {.copies_per_source_max = 1});

  CHECK(tally.num_moves == num_copies);
  CHECK(tally.num_waves == static_cast<int>(std::ceil(std::log2(num_copies + 1))));
}

TEST_CASE("a rank that holds its target's experts in other slots is not touched", "[moves]") {
  const Shape shape{4, 2, 3};
  const Placement current = Holding({0, 1, 2, 3, 0, -1});
  const Placement target = Holding({2, 0, 1, 0, -1, 3});

  CHECK(CountMoves(shape, current, target) == 0);
  CHECK(Reached(StateOf(shape, current), target));
  CHECK(PlanMoves(shape, current, target, {})->empty());
}

TEST_CASE("the least loaded replica retires, the nearest source is read, and sources are spread", "[moves]") {
  // Rank 3 holds second replicas of 0, 1, 2 and shall hold 3 instead of one more; 3 is on ranks 0, 2 and 4.
  const Shape shape{4, 5, 4};
  const Placement current = Holding({0, 3, -1, -1, 1, 2, -1, -1, 3, -1, -1, -1, 0, 1, 2, -1, 3, -1, -1, -1});
  const Placement target = Holding({0, 3, -1, -1, 1, 2, 3, -1, 3, -1, -1, -1, 0, 2, 3, -1, 3, -1, -1, -1});
  MoveState state = StateOf(shape, current);
  state.use[15] = state.use[6] = SlotUse::kUnavailable;
  state.load_of_slot.assign(20, 50);
  state.load_of_slot[13] = 7;
  MoveLimits limits;
  limits.node_of_rank = {0, 0, 1, 1, 1};
  limits.copies_per_source_max = 2;

  const absl::StatusOr<Wave> wave = NextWave(state, target, limits);

  REQUIRE(wave.ok());
  CHECK(wave->retire == std::vector<SlotIdx>{SlotIdx(13)});
  REQUIRE(wave->moves.size() == 2);
  CHECK(wave->moves[0] == PlannedMove{SlotIdx(7), ExpertId(3), {SlotIdx(1), SlotIdx(16), SlotIdx(8)}});
  CHECK(wave->moves[1] == PlannedMove{SlotIdx(13), ExpertId(3), {SlotIdx(8), SlotIdx(16), SlotIdx(1)}});
}

TEST_CASE("what a rank is not to hold any more is retired once it lives elsewhere", "[moves]") {
  const Shape shape{2, 3, 1};
  const Placement current = Holding({0, 1, -1}), target = Holding({-1, 1, 0});

  const absl::StatusOr<std::vector<Wave>> waves = PlanMoves(shape, current, target, {});

  REQUIRE(waves.ok());
  REQUIRE(waves->size() == 2);
  CHECK(waves->at(0).retire.empty());
  CHECK(waves->at(0).moves == std::vector<PlannedMove>{{SlotIdx(2), ExpertId(0), {SlotIdx(0)}}});
  CHECK(waves->at(1).retire == std::vector<SlotIdx>{SlotIdx(0)});
  CHECK(waves->at(1).moves.empty());
}

TEST_CASE("budgets of moves, bytes and links bound a wave", "[moves]") {
  const Shape shape{4, 2, 8};
  const Placement current = Holding({0, 1, 2, 3, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1});
  const Placement target = Holding({0, 1, 2, 3, -1, -1, -1, -1, 0, 1, 2, 3, -1, -1, -1, -1});
  const auto first = [&](const MoveLimits& limits) {
    return NextWave(StateOf(shape, current), target, limits)->moves.size();
  };

  CHECK(first({.moves_per_rank_max = 9}) == 4);
  CHECK(first({.moves_per_rank_max = 3}) == 3);
  CHECK(first({.moves_per_rank_max = 9, .reads_per_rank_max = 2}) == 2);
  CHECK(first({.moves_per_rank_max = 9, .num_moves_max = 1}) == 1);
  CHECK(first({.moves_per_rank_max = 9, .bytes_max = 250, .expert_bytes = 100}) == 2);
  CHECK(first({.moves_per_rank_max = 9, .bytes_max = 50, .expert_bytes = 100}) == 1);
  MoveState state = StateOf(shape, current);
  state.moves_into_rank = {0, 2};
  CHECK(NextWave(state, target, {})->empty());
}

TEST_CASE("targets out of reach are refused with the reason", "[moves]") {
  const Shape full{4, 2, 2};
  const Placement current = Holding({0, 1, 2, 3}), swapped = Holding({2, 1, 0, 3});
  const absl::Status swap = PlanMoves(full, current, swapped, {}).status();
  CHECK(swap.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(swap.message() == "2 moves wait for one another: no slot is free and no expert has a second replica");

  MoveState dead = StateOf({4, 3, 2}, Holding({0, 1, 2, 3, 0, 2}));
  dead.use[5] = SlotUse::kUnavailable;
  CHECK(NextWave(dead, Holding({0, 1, 2, 3, 0, 2}), {}).status().message() ==
        "target wants 2 experts on rank 2, which has 1 usable slots");

  MoveState lost = StateOf({3, 2, 2}, Holding({0, 1, -1, -1}));
  const Placement whole = Holding({0, 1, 2, -1});
  CHECK(NextWave(lost, whole, {}).status().code() == absl::StatusCode::kFailedPrecondition);

  CHECK(PlanMoves(full, current, Holding({0, 1, 2, 2}), {}).status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(PlanMoves(full, current, Holding({0, 1, 2, 4}), {}).status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(PlanMoves(full, current, Holding({0, 1, 2}), {}).status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(PlanMoves(full, current, current, {.moves_per_rank_max = 0}).status().code() ==
        absl::StatusCode::kInvalidArgument);
}

}  // namespace evenkeel::algos
