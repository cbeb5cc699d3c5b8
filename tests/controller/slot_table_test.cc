// SPDX-License-Identifier: Apache-2.0
#include "controller/core/rollout/slot_table.h"

#include "catch2/catch.hpp"

namespace evenkeel::controller {
namespace {

using Outcome = SlotTable::Outcome;

constexpr LayerId kLayer{0};
constexpr Epoch kFirst{1, 1}, kSecond{1, 2}, kThird{1, 3};

SlotRecord Verified(int expert, uint64_t generation = 0) {
  return {SlotState::kVerified, ExpertId(expert), generation, static_cast<uint64_t>(expert + 100)};
}

// Two ranks of two slots, three experts: slots hold 0, 1 | 2, 0.
SlotTable Formed() {
  SlotTable table({.num_experts = 3, .num_ranks = 2, .slots_per_rank = 2}, 1, 3);
  const int experts[] = {0, 1, 2, 0};
  for (int s = 0; s < 4; ++s) table.Confirm(kLayer, SlotIdx(s), Verified(experts[s]));
  REQUIRE(table.FixFingerprints().empty());
  table.NameAllConfirmed(kFirst);
  REQUIRE(table.Commit(kFirst) == std::vector<LayerId>{kLayer});
  return table;
}

// Slot 3 retired at kSecond and ordered to take expert 1.
SlotTable Moving() {
  SlotTable table = Formed();
  table.StageRetire(kLayer, SlotIdx(3));
  table.Commit(kSecond);
  REQUIRE(table.Order(kLayer, SlotIdx(3), ExpertId(1), 9) == 1);
  return table;
}

TEST_CASE("all confirmed content is named, and what is not named is in no map from there on", "[slot_table]") {
  SlotTable table({.num_experts = 2, .num_ranks = 1, .slots_per_rank = 3}, 1, 3);
  table.Confirm(kLayer, SlotIdx(0), Verified(0));
  table.Confirm(kLayer, SlotIdx(1), Verified(1));
  table.Confirm(kLayer, SlotIdx(2), SlotRecord());
  table.FixFingerprints();
  table.NameAllConfirmed(kFirst);
  table.Commit(kFirst);
  CHECK(table.at(kLayer, SlotIdx(0)).use == SlotUse::kLive);
  CHECK(table.at(kLayer, SlotIdx(2)).use == SlotUse::kFree);
  CHECK(table.at(kLayer, SlotIdx(2)).since == kFirst);
}

TEST_CASE("a retirement that would take an expert's last live slot is dropped", "[slot_table]") {
  SlotTable table = Formed();
  table.StageRetire(kLayer, SlotIdx(0));
  table.StageRetire(kLayer, SlotIdx(3));
  table.StageRetire(kLayer, SlotIdx(1));
  table.Commit(kSecond);
  CHECK(table.at(kLayer, SlotIdx(0)).use == SlotUse::kRetired);
  CHECK(table.at(kLayer, SlotIdx(3)).use == SlotUse::kLive);
  CHECK(table.at(kLayer, SlotIdx(1)).use == SlotUse::kLive);
  CHECK(table.NumLive(kLayer, ExpertId(0)) == 1);
}

TEST_CASE("adding a slot again clears since, and a later retirement counts anew", "[slot_table]") {
  SlotTable table = Formed();
  table.StageRetire(kLayer, SlotIdx(3));
  table.Commit(kSecond);
  CHECK(table.at(kLayer, SlotIdx(3)).since == kSecond);
  table.StageAdd(kLayer, SlotIdx(3));
  table.Commit(kThird);
  CHECK(table.at(kLayer, SlotIdx(3)).since == Epoch());
  table.StageRetire(kLayer, SlotIdx(3));
  table.Commit({1, 4});
  CHECK(table.at(kLayer, SlotIdx(3)).since == Epoch{1, 4});
}

TEST_CASE("a slot that a move was ordered into is not added before its agent's word", "[slot_table]") {
  SlotTable table = Moving();
  table.StageAdd(kLayer, SlotIdx(3));
  CHECK(table.Commit(kThird).empty());
  SECTION("nothing was written") {
    CHECK(table.Fail(kLayer, SlotIdx(3), 1, {.content_kept = true, .mismatch = false}) == Outcome::kFailed);
    table.StageAdd(kLayer, SlotIdx(3));
    table.Commit({1, 4});
    CHECK(table.at(kLayer, SlotIdx(3)).use == SlotUse::kLive);
    CHECK(table.at(kLayer, SlotIdx(3)).expert == ExpertId(0));
  }
  SECTION("it was written") {
    CHECK(table.Fail(kLayer, SlotIdx(3), 1, {}) == Outcome::kFailed);
    table.StageAdd(kLayer, SlotIdx(3));
    CHECK(table.Commit({1, 4}).empty());
    CHECK(table.at(kLayer, SlotIdx(3)).use == SlotUse::kFree);
  }
}

TEST_CASE("a move ends once, with its own generation and the expected fingerprint", "[slot_table]") {
  SlotTable table = Moving();
  CHECK(table.Finish(kLayer, SlotIdx(3), 0, 101) == Outcome::kNothing);
  SECTION("well") {
    CHECK(table.Finish(kLayer, SlotIdx(3), 1, 101) == Outcome::kVerified);
    CHECK(table.at(kLayer, SlotIdx(3)).expert == ExpertId(1));
    CHECK(table.at(kLayer, SlotIdx(3)).since == kSecond);
    CHECK(table.Finish(kLayer, SlotIdx(3), 1, 101) == Outcome::kNothing);
    CHECK(table.Fail(kLayer, SlotIdx(3), 1, {}) == Outcome::kNothing);
    CHECK(table.at(kLayer, SlotIdx(3)).use == SlotUse::kVerified);
  }
  SECTION("with other content") {
    CHECK(table.Finish(kLayer, SlotIdx(3), 1, 999) == Outcome::kFailed);
    CHECK(table.at(kLayer, SlotIdx(3)).use == SlotUse::kFree);
  }
}

TEST_CASE("a slot is condemned after three mismatches in a row", "[slot_table]") {
  SlotTable table = Moving();
  for (uint64_t attempt = 1; attempt <= 3; ++attempt) {
    CHECK(table.at(kLayer, SlotIdx(3)).use == SlotUse::kWriting);
    table.Fail(kLayer, SlotIdx(3), attempt, {.content_kept = false, .mismatch = true});
    if (attempt < 3) CHECK(table.Order(kLayer, SlotIdx(3), ExpertId(1), 9 + attempt) == attempt + 1);
  }
  CHECK(table.at(kLayer, SlotIdx(3)).use == SlotUse::kCondemned);
  CHECK(table.Confirm(kLayer, SlotIdx(3), Verified(0, 5)) == Outcome::kNothing);
  CHECK(table.at(kLayer, SlotIdx(3)).use == SlotUse::kCondemned);
}

TEST_CASE("an inventory settles what became of an open order", "[slot_table]") {
  SlotTable table = Moving();
  const auto confirm = [&](SlotRecord record) { return table.Confirm(kLayer, SlotIdx(3), record); };
  SECTION("not arrived") { CHECK(confirm(Verified(0, 0)) == Outcome::kUnresolved); }
  SECTION("under way") { CHECK(confirm({SlotState::kWriting, ExpertId(1), 1, 0}) == Outcome::kNothing); }
  SECTION("done") { CHECK(confirm(Verified(1, 1)) == Outcome::kVerified); }
  SECTION("failed") { CHECK(confirm({SlotState::kFree, ExpertId(), 1, 0}) == Outcome::kFailed); }
  SECTION("done with other content") {
    CHECK(confirm({SlotState::kVerified, ExpertId(1), 1, 7}) == Outcome::kFailed);
    CHECK_FALSE(table.at(kLayer, SlotIdx(3)).holds_content());
  }
}

TEST_CASE("a slot left writing by an earlier term waits for its agent's word", "[slot_table]") {
  SlotTable table({.num_experts = 2, .num_ranks = 1, .slots_per_rank = 3}, 1, 3);
  table.Confirm(kLayer, SlotIdx(0), Verified(0));
  table.Confirm(kLayer, SlotIdx(1), Verified(1));
  CHECK(table.Confirm(kLayer, SlotIdx(2), {SlotState::kWriting, ExpertId(1), 4, 0}) == Outcome::kOrphan);
  table.FixFingerprints();
  table.NameAllConfirmed(kFirst);
  table.Commit(kFirst);
  CHECK(table.at(kLayer, SlotIdx(2)).use == SlotUse::kWriting);
  SECTION("freed") {
    CHECK(table.Fail(kLayer, SlotIdx(2), 4, {}) == Outcome::kUpdated);
    CHECK(table.at(kLayer, SlotIdx(2)).use == SlotUse::kFree);
    CHECK(table.Order(kLayer, SlotIdx(2), ExpertId(0), 1) == 5);
  }
  SECTION("ended well") {
    CHECK(table.Finish(kLayer, SlotIdx(2), 4, 101) == Outcome::kUpdated);
    CHECK(table.at(kLayer, SlotIdx(2)).expert == ExpertId(1));
  }
}

TEST_CASE("a lost live slot may be written only after its loss was published", "[slot_table]") {
  SlotTable table = Formed();
  CHECK(table.Lose(kLayer, SlotIdx(0), 0) == Outcome::kLost);
  CHECK(table.dirty());
  CHECK(table.at(kLayer, SlotIdx(0)).since > Epoch{1, 1000000});
  CHECK(table.Commit(kSecond) == std::vector<LayerId>{kLayer});
  CHECK(table.at(kLayer, SlotIdx(0)).since == kSecond);
  CHECK(table.Live(kLayer).expert_of_slot[0] == kNoExpert);
}

TEST_CASE("a retired slot returns to the maps when its expert lost the last live one", "[slot_table]") {
  SlotTable table = Formed();
  table.StageRetire(kLayer, SlotIdx(3));
  table.Commit(kSecond);
  REQUIRE(table.Lose(kLayer, SlotIdx(0), 0) == Outcome::kLost);
  CHECK(table.Commit(kThird) == std::vector<LayerId>{kLayer});
  CHECK(table.at(kLayer, SlotIdx(3)).use == SlotUse::kLive);
  CHECK(table.NumLive(kLayer, ExpertId(0)) == 1);
}

TEST_CASE("a rank's content returns to the maps after new weights when the last live slot was lost meanwhile",
          "[slot_table]") {
  SlotTable table = Formed();
  table.StageRetire(kLayer, SlotIdx(3));
  table.Commit(kSecond);
  table.SetRenewed(table.shape().RankOf(SlotIdx(3)), true);
  REQUIRE(table.Lose(kLayer, SlotIdx(0), 0) == Outcome::kLost);
  table.Commit(kThird);
  CHECK(table.NumLive(kLayer, ExpertId(0)) == 0);
  CHECK(table.Refix(SlotTable::Version::kSame).empty());
  CHECK(table.Commit({1, 4}) == std::vector<LayerId>{kLayer});
  CHECK(table.NumLive(kLayer, ExpertId(0)) == 1);
}

TEST_CASE("a rank's content returns to the maps once it is barred no more", "[slot_table]") {
  SlotTable table = Formed();
  table.StageRetire(kLayer, SlotIdx(3));
  table.Commit(kSecond);
  const RankId rank = table.shape().RankOf(SlotIdx(3));
  table.SetBarred(rank, true);
  REQUIRE(table.Lose(kLayer, SlotIdx(0), 0) == Outcome::kLost);
  table.Commit(kThird);
  CHECK(table.NumLive(kLayer, ExpertId(0)) == 0);
  table.SetBarred(rank, false);
  table.Commit({1, 4});
  CHECK(table.NumLive(kLayer, ExpertId(0)) == 1);
}

TEST_CASE("word of a loss from before the present content is stale", "[slot_table]") {
  SlotTable table = Moving();
  REQUIRE(table.Finish(kLayer, SlotIdx(3), 1, 101) == Outcome::kVerified);
  CHECK(table.Lose(kLayer, SlotIdx(3), 0) == Outcome::kNothing);
  CHECK(table.Lose(kLayer, SlotIdx(3), 1) == Outcome::kUpdated);
}

TEST_CASE("an inventory that contradicts a live slot takes it out", "[slot_table]") {
  SlotTable table = Formed();
  CHECK(table.Confirm(kLayer, SlotIdx(0), Verified(0, 3)) == Outcome::kNothing);  // a cancel consumed generations
  CHECK(table.at(kLayer, SlotIdx(0)).generation == 3);
  CHECK(table.Confirm(kLayer, SlotIdx(0), {SlotState::kVerified, ExpertId(0), 3, 1}) == Outcome::kLost);
  table.Commit(kSecond);
  CHECK_FALSE(table.at(kLayer, SlotIdx(0)).holds_content());
  CHECK(table.Confirm(kLayer, SlotIdx(1), {SlotState::kFree, ExpertId(), 1, 0}) == Outcome::kLost);
  table.Commit(kThird);
  CHECK(table.NumLive(kLayer, ExpertId(1)) == 0);
}

TEST_CASE("where replicas disagree, the value that most have is kept", "[slot_table]") {
  SlotTable table({.num_experts = 1, .num_ranks = 3, .slots_per_rank = 1}, 1, 3);
  table.Confirm(kLayer, SlotIdx(0), {SlotState::kVerified, ExpertId(0), 0, 7});
  table.Confirm(kLayer, SlotIdx(1), {SlotState::kVerified, ExpertId(0), 0, 8});
  table.Confirm(kLayer, SlotIdx(2), {SlotState::kVerified, ExpertId(0), 0, 8});
  const auto conflicts = table.FixFingerprints();
  REQUIRE(conflicts.size() == 1);
  CHECK(conflicts[0].kept == 8);
  CHECK(conflicts[0].other == 7);
  CHECK(conflicts[0].rank_kept == RankId(1));
  CHECK(conflicts[0].rank_other == RankId(0));
  CHECK(table.InConflict(kLayer, ExpertId(0)));
  CHECK_FALSE(table.at(kLayer, SlotIdx(0)).holds_content());
}

}  // namespace
}  // namespace evenkeel::controller
