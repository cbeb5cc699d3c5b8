// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>

#include "catch2/catch.hpp"

#include "controller/core/operations.h"
#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

TEST_CASE("a stalled engine delays moves and nothing is overwritten under it", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.agents[2].stalled = true;
  cluster.Rearrange("r1");
  cluster.Run(absl::Seconds(5));
  CHECK(cluster.orders.empty());
  const auto blocked = cluster.Status().waves_blocked;
  REQUIRE_FALSE(blocked.empty());
  CHECK(blocked.front().rank == RankId(2));
  CHECK(blocked.front().reason.find("has not quiesced at epoch") != std::string::npos);
  cluster.Resume(2);
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
}

TEST_CASE("of several ranks that have not quiesced the one that the others wait for is named", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.agents[1].stalled = true;
  cluster.agents[2].stalled = true;
  cluster.Rearrange("r1");
  cluster.Run(absl::Seconds(2));
  REQUIRE_FALSE(cluster.Status().waves_blocked.empty());
  CHECK(cluster.Status().waves_blocked.front().rank == RankId(1));
  EngineStatus waiting;
  waiting.waiting_for = {RankId(2)};
  cluster.Send(1, waiting);
  CHECK(cluster.Status().waves_blocked.front().rank == RankId(2));
}

TEST_CASE("a wave past its deadline is undone, named, and tried again", "[coordinator]") {
  Cluster::Options options = Basic();
  options.settings.defaults.wave_deadline = absl::Seconds(4);
  Cluster cluster(options);
  StartUnderLoad(cluster);
  const auto before = ByRank(cluster, 0);
  cluster.agents[2].stalled = true;
  cluster.Rearrange("r1");
  cluster.Run(absl::Milliseconds(4050));
  CHECK(cluster.Status().totals.waves_undone >= 1);
  CHECK(cluster.orders.empty());
  CHECK(ByRank(cluster, 0) == before);  // every slot is back in the maps
  CHECK(cluster.StateOf("r1") == "running");
  cluster.Run(absl::Seconds(40));
  CHECK(std::any_of(cluster.notes.begin(), cluster.notes.end(),
                    [](const std::string& note) { return note.find("rank 2 held up 3 waves") != std::string::npos; }));
  cluster.Resume(2);
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }, absl::Minutes(3)));
}

TEST_CASE("a rank that never quiesces fails the rearrangement in the end, not the group", "[coordinator]") {
  Cluster::Options options = Basic();
  options.settings.defaults.wave_deadline = absl::Seconds(1);
  Cluster cluster(options);
  StartUnderLoad(cluster);
  cluster.agents[2].stalled = true;
  cluster.Rearrange("r1");
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "failed"; }, absl::Minutes(10)));
  CHECK(cluster.Operation("r1").detail.find("has not quiesced") != std::string::npos);
  CHECK(cluster.orders.empty());
  cluster.Resume(2);
  cluster.Rearrange("r2");
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r2") == "done"; }));
}

TEST_CASE("layers that back off do not keep one another from going on", "[coordinator]") {
  Cluster::Options options = Basic();
  options.num_layers = 3;
  options.settings.defaults.concurrent_layers_max = GENERATE(1, 2);
  options.settings.defaults.wave_deadline = absl::Seconds(1);
  Cluster cluster(options);
  StartUnderLoad(cluster);
  cluster.agents[1].stalled = true;
  cluster.Rearrange("r1");
  cluster.Run(absl::Seconds(3));
  CHECK(cluster.Status().totals.waves_undone >= 1);
  cluster.Resume(1);
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
}

TEST_CASE("no more layers move at a time than allowed, nor moves into a rank", "[coordinator]") {
  Cluster::Options options = Basic();
  options.num_layers = 6;
  options.settings.defaults.concurrent_layers_max = 3;
  options.settings.defaults.moves_per_rank_max = 1;
  Cluster cluster(options);
  StartUnderLoad(cluster);
  for (FakeAgent& agent : cluster.agents) agent.holds_moves = true;
  cluster.Rearrange("r1");
  for (int round = 0; round < 40; ++round) {
    cluster.Run(absl::Milliseconds(20));
    std::set<int> layers;
    for (const FakeAgent& agent : cluster.agents) {
      CHECK(agent.moves.size() <= 1);
      for (const auto& [key, order] : agent.moves) layers.insert(key.first);
    }
    CHECK(layers.size() <= 3);
    for (int r = 0; r < 4; ++r) {
      cluster.Resume(r);
      cluster.agents[static_cast<size_t>(r)].holds_moves = true;
    }
  }
  for (int r = 0; r < 4; ++r) cluster.Resume(r);
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
}

TEST_CASE("an undone wave leaves slots with moves to their agents' word", "[coordinator]") {
  Cluster::Options options = Basic();
  options.settings.defaults.wave_deadline = absl::Seconds(2);
  Cluster cluster(options);
  StartUnderLoad(cluster);
  for (FakeAgent& agent : cluster.agents) agent.holds_moves = true;
  cluster.Rearrange("r1");
  cluster.Run(absl::Seconds(1));
  REQUIRE_FALSE(cluster.orders.empty());
  cluster.DetachAgent(0);  // its answers, and cancels to it, are lost
  cluster.Run(absl::Seconds(2));
  CHECK(cluster.Status().totals.waves_undone >= 1);
  CHECK_FALSE(cluster.cancels.empty());
  cluster.AttachAgent(0);
  for (int r = 0; r < 4; ++r) cluster.Resume(r);
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }, absl::Minutes(2)));
}

TEST_CASE("stale and wrong acknowledgements free nothing", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.agents[2].stalled = true;
  const FakeAgent& agent = cluster.agents[2];
  cluster.Rearrange("r1");
  cluster.Run(absl::Milliseconds(100));
  REQUIRE(cluster.orders.empty());
  cluster.Send(2, Quiesced{agent.quiesced, 1, agent.view_number});   // an old epoch
  cluster.Send(2, Quiesced{agent.epoch, 12345, agent.view_number});  // the new epoch, another map
  cluster.Run(absl::Milliseconds(100));
  CHECK(cluster.orders.empty());
  CHECK(cluster.notes.back().find("with other maps than were published") != std::string::npos);
  cluster.Send(2, Quiesced{{agent.epoch.term, agent.epoch.number + 5}, 1, agent.view_number});
  CHECK(cluster.agents[2].refused.has_value());
  CHECK(cluster.orders.empty());
}

TEST_CASE("duplicated and late answers of moves change nothing", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.Rearrange("r1");
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  const GroupStatus before = cluster.Status();
  for (const MoveOrder& order : cluster.orders) {
    const int rank = cluster.options.shape.RankOf(order.slot).value();
    cluster.Send(rank,
                 MoveFinished{order.move_id, order.layer, order.slot, order.generation, order.fingerprint, 9, {}});
    cluster.Send(rank, MoveFailed{order.move_id, order.layer, order.slot, order.generation, absl::DataLossError("late"),
                                  false, RankId()});
  }
  CHECK(cluster.Status().epoch == before.epoch);
  CHECK(cluster.Status().totals.moves == before.totals.moves);
  CHECK(cluster.Status().totals.moves_failed == before.totals.moves_failed);
}

TEST_CASE("a move that fails is made again, and the operation says so", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  for (FakeAgent& agent : cluster.agents) agent.num_moves_to_fail = 1;
  cluster.Rearrange("r1");
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  CHECK(cluster.Operation("r1").num_moves_failed > 0);
  CHECK(cluster.Operation("r1").num_corrupt == 0);
}

TEST_CASE("corrupt copies are counted, and a slot that keeps corrupting is condemned", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.agents[3].num_moves_to_corrupt = 3;
  cluster.Rearrange("r1");
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }, absl::Minutes(2)));
  CHECK(cluster.Operation("r1").num_corrupt == 3);
  CHECK(cluster.Status().totals.fingerprint_failures == 3);
  int condemned = 0;
  for (const LayerStatus& layer : cluster.Status().layers) condemned += layer.num_slots_condemned;
  const bool alerted = std::any_of(cluster.notes.begin(), cluster.notes.end(), [](const std::string& note) {
    return note.find("is condemned after 3 fingerprint mismatches") != std::string::npos;
  });
  CHECK(alerted == (condemned > 0));
  if (condemned > 0) CHECK_FALSE(cluster.coordinator->CheckRedundancy(kGroup)->problems.empty());
}

TEST_CASE("mismatches that an agent made good from another source are counted too", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  for (FakeAgent& agent : cluster.agents) agent.num_mismatches = 2;
  cluster.Rearrange("r1");
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  int num_made_good = 0;
  for (const FakeAgent& agent : cluster.agents) num_made_good += 2 - agent.num_mismatches;
  CHECK(num_made_good > 0);
  CHECK(cluster.Operation("r1").num_corrupt == num_made_good);
  CHECK(cluster.Operation("r1").num_moves_failed == 0);
}

TEST_CASE("an agent lost in mid-wave freezes it, and its inventory settles it", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  for (FakeAgent& agent : cluster.agents) agent.holds_moves = true;
  cluster.Rearrange("r1");
  cluster.Run(absl::Milliseconds(100));
  REQUIRE_FALSE(cluster.orders.empty());
  const int rank = cluster.options.shape.RankOf(cluster.orders.front().slot).value();
  FakeAgent& lost = cluster.agents[static_cast<size_t>(rank)];
  cluster.DetachAgent(rank);
  SECTION("the move ended well meanwhile") { cluster.Resume(rank); }
  SECTION("the order never arrived") {
    for (const auto& [key, order] : lost.moves) {
      const size_t at = static_cast<size_t>(key.first * 3 + cluster.options.shape.LocalSlot(order.slot));
      lost.slots[at] = {SlotState::kFree, ExpertId(), order.generation - 1, 0};
    }
    lost.moves.clear();
    lost.holds_moves = false;
  }
  SECTION("its successor freed what was left in writing") {
    for (SlotRecord& record : lost.slots) {
      if (record.state == SlotState::kWriting) record = {SlotState::kFree, ExpertId(), record.generation, 0};
    }
    lost.moves.clear();
    lost.holds_moves = false;
  }
  for (int r = 0; r < 4; ++r) cluster.agents[static_cast<size_t>(r)].holds_moves = false;
  cluster.Run(absl::Seconds(3));
  CHECK(cluster.StateOf("r1") == "running");
  CHECK_FALSE(cluster.Status().waves_blocked.empty());
  cluster.AttachAgent(rank);
  for (int r = 0; r < 4; ++r) cluster.Resume(r);
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }, absl::Minutes(2)));
}

TEST_CASE("a new controller goes on from inventories in the middle of a rollout", "[coordinator]") {
  const int waited = GENERATE(0, 1, 3, 10);
  CAPTURE(waited);
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  for (FakeAgent& agent : cluster.agents) agent.holds_moves = true;
  cluster.Rearrange("r1");
  cluster.Run(absl::Milliseconds(50));
  for (int i = 0; i < waited; ++i) {
    for (FakeAgent& agent : cluster.agents) agent.holds_moves = true;
    cluster.Resume(i % 4);
    cluster.Run(absl::Milliseconds(1));
  }
  const uint32_t term = cluster.coordinator->term();
  const OperationProgress unfinished = cluster.Operation("r1");
  for (FakeAgent& agent : cluster.agents) agent.holds_moves = false;
  cluster.RestartController({unfinished});
  cluster.AttachAll();
  cluster.Run(absl::Seconds(1));
  CHECK(cluster.coordinator->term() == term + 1);
  if (!IsFinished(unfinished.state)) CHECK(cluster.StateOf("r1") == "superseded");
  CHECK_FALSE(cluster.Status().forming);
  cluster.Run(absl::Seconds(20));
  CHECK(Steady(cluster));
  cluster.Rearrange("r2");
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r2") == "done"; }));
  if (!IsFinished(unfinished.state)) {
    const auto list = cluster.coordinator->ListOperations(kGroup);
    CHECK(std::any_of(list.begin(), list.end(),
                      [](const OperationProgress& operation) { return operation.cause == Cause::kTakeover; }));
  }
}

}  // namespace
}  // namespace evenkeel::controller
