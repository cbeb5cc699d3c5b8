// SPDX-License-Identifier: Apache-2.0
#include "controller/core/coordinator.h"

#include <algorithm>
#include <set>

#include "catch2/catch.hpp"

#include "algos/base/rng.h"
#include "controller/core/operations.h"
#include "tests/controller/cluster.h"

namespace evenkeel::controller {
namespace {

constexpr const char* kGroup = Cluster::kGroup;

Cluster::Options Basic() {
  Cluster::Options options;
  options.settings.defaults.placement_enabled = false;
  return options;
}

// Load on which greedy plans something else than the default placement.
std::vector<std::vector<uint64_t>> Skewed(const Cluster& cluster) {
  std::vector<uint64_t> layer(static_cast<size_t>(cluster.options.shape.num_experts), 1000);
  layer[0] = 40000;
  layer[1] = 20000;
  return std::vector<std::vector<uint64_t>>(static_cast<size_t>(cluster.options.num_layers), layer);
}

void Start(Cluster& cluster) {
  cluster.AttachAll();
  cluster.Run(absl::Seconds(1));
  REQUIRE_FALSE(cluster.Status().forming);
}

void StartUnderLoad(Cluster& cluster) {
  cluster.load = Skewed(cluster);
  Start(cluster);
  cluster.Run(absl::Seconds(4));
}

bool Steady(const Cluster& cluster) {
  for (const LayerStatus& layer : cluster.Status().layers) {
    if (layer.phase != "steady") return false;
  }
  return true;
}

// Experts on each rank by the maps in force.
std::vector<std::multiset<int>> ByRank(const Cluster& cluster, int layer) {
  const GroupMaps maps = *cluster.coordinator->GetMaps(kGroup);
  std::vector<std::multiset<int>> by_rank(static_cast<size_t>(cluster.options.shape.num_ranks));
  const auto& placement = maps.layers[static_cast<size_t>(layer)].placement.expert_of_slot;
  for (size_t s = 0; s < placement.size(); ++s) {
    by_rank[cluster.options.shape.RankOf(SlotIdx(static_cast<int>(s))).idx()].insert(placement[s].value());
  }
  return by_rank;
}

// ---- Start, terms

TEST_CASE("a controller listens, then takes a term above all it heard and welcomes", "[coordinator]") {
  Cluster::Options options = Basic();
  options.settings.stored_term = 3;
  Cluster cluster(options);
  cluster.agents[1].term_obeyed = 7;
  REQUIRE(cluster.coordinator->NextWakeup() == absl::InfinitePast());
  cluster.AttachAll();
  CHECK(cluster.coordinator->listening());
  CHECK_FALSE(cluster.agents[0].welcomed);
  cluster.Run(absl::Milliseconds(499));
  CHECK_FALSE(cluster.agents[0].welcomed);
  cluster.Run(absl::Milliseconds(2));
  CHECK(cluster.coordinator->term() == 8);
  CHECK(cluster.stored_term == 8);
  CHECK(cluster.agents[0].welcomed);
  CHECK(cluster.agents[3].epoch == Epoch{8, 1});
}

TEST_CASE("a higher term heard later makes the controller step down and say nothing more", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  cluster.DetachAgent(2);
  cluster.agents[2].term_obeyed = 9;
  cluster.AttachAgent(2);
  CHECK(cluster.stepped_down == 9u);
  CHECK(cluster.coordinator->stepped_down());
  CHECK(cluster.coordinator->NextWakeup() == absl::InfiniteFuture());
  CHECK(cluster.coordinator->Step(cluster.now, Tick{}).empty());
}

TEST_CASE("an agent that obeys our term but was never welcomed by us has another leader", "[coordinator]") {
  Cluster cluster(Basic());
  cluster.AttachAgent(0);
  cluster.Run(absl::Seconds(1));
  cluster.agents[1].term_obeyed = cluster.coordinator->term();
  cluster.AttachAgent(1);
  CHECK(cluster.coordinator->stepped_down());
}

TEST_CASE("nothing is published before every rank has attached, then the view comes first", "[coordinator]") {
  Cluster cluster(Basic());
  for (int r = 0; r < 3; ++r) cluster.AttachAgent(r);
  cluster.Run(absl::Seconds(5));
  CHECK(cluster.Status().forming);
  CHECK(cluster.updates.empty());
  CHECK(cluster.agents[0].view_number == 0);
  CHECK(cluster.Status().members[3].note == "has not attached yet");
  cluster.AttachAgent(3);
  CHECK(cluster.agents[0].view_number == 1);
  CHECK(cluster.agents[0].epoch == Epoch{1, 1});
  CHECK(cluster.Status().view.members.size() == 4);
}

// ---- Refusals

TEST_CASE("agents of another kind are refused with both values", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  cluster.DetachAgent(3);
  Attach attach = cluster.AttachOf(3);
  std::string expected;
  SECTION("model") {
    attach.group.model = "other";
    expected = "attach: model other, but the group has m";
  }
  SECTION("world size") {
    attach.group.shape.num_ranks = 5;
    expected = "attach: world size 5, but the group has 4";
  }
  SECTION("weights version") {
    attach.group.weights_version = 2;
    expected = "attach: weights version 2, but the group has 0";
  }
  SECTION("count place") {
    attach.group.count_place = CountPlace::kRouter;
    expected = "attach: count place 1, but the group has 0";
  }
  SECTION("inventory") {
    attach.slots.pop_back();
    expected = "attach: inventory of 5 slots; a rank has 6";
  }
  const Effects effects = cluster.coordinator->Step(cluster.now, AgentMessageReceived{99, attach});
  REQUIRE(effects.size() == 2);
  const auto& sent = std::get<SendToAgent>(effects[0]);
  CHECK(std::get<Refused>(sent.message).status.message() == expected);
  CHECK(std::get<CloseSession>(effects[1]).session == 99);
  CHECK_FALSE(cluster.Status().forming);
}

TEST_CASE("a second session for a rank is refused while the first lives", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  Effects effects = cluster.coordinator->Step(cluster.now, AgentMessageReceived{99, cluster.AttachOf(1)});
  CHECK(absl::IsAlreadyExists(std::get<Refused>(std::get<SendToAgent>(effects[0]).message).status));
  cluster.DetachAgent(1);
  cluster.AttachAgent(1);
  CHECK(cluster.agents[1].welcomed);
  CHECK_FALSE(cluster.agents[1].refused.has_value());
}

TEST_CASE("an agent that speaks of what is not its own is refused, and its rank stays a member", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  LoadReport report;
  report.time = cluster.now;
  report.entries = {{LayerId(0), SlotIdx(0), ExpertId(0), 5}};
  cluster.Send(1, report);
  REQUIRE(cluster.agents[1].refused.has_value());
  CHECK(absl::IsInvalidArgument(*cluster.agents[1].refused));
  CHECK(cluster.Status().members[1].note == "its agent is away");
  CHECK(cluster.Status().totals.tokens == 0);
}

TEST_CASE("a new incarnation waits outside the set; a whole new world starts over", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  const uint64_t view = cluster.Status().view.number;
  const Epoch epoch = cluster.Status().epoch;
  cluster.DetachAgent(2);
  cluster.RestartEngine(2);
  cluster.AttachAgent(2);
  CHECK_FALSE(cluster.agents[2].welcomed);
  CHECK_FALSE(cluster.agents[2].refused.has_value());
  REQUIRE(cluster.Status().waiting.size() == 1);
  CHECK(cluster.Status().view.number == view);
  for (int r : {0, 1, 3}) {
    cluster.DetachAgent(r);
    cluster.RestartEngine(r);
    cluster.AttachAgent(r);
  }
  CHECK(cluster.Status().waiting.empty());
  CHECK_FALSE(cluster.Status().forming);
  CHECK(cluster.Status().view.number == view + 1);
  CHECK(cluster.Status().epoch > epoch);
  CHECK(cluster.agents[2].welcomed);
}

TEST_CASE("a group with nobody attached for long gives way to one of another kind", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  for (int r = 0; r < 4; ++r) cluster.DetachAgent(r);
  Attach attach = cluster.AttachOf(0);
  attach.group.model = "next";
  attach.member.incarnation = 77;
  attach.term_obeyed = 0;
  Effects effects = cluster.coordinator->Step(cluster.now, AgentMessageReceived{98, attach});
  CHECK(std::holds_alternative<Refused>(std::get<SendToAgent>(effects[0]).message));
  cluster.Run(absl::Seconds(31));
  effects = cluster.coordinator->Step(cluster.now, AgentMessageReceived{99, attach});
  CHECK(std::holds_alternative<Welcome>(std::get<SendToAgent>(effects[0]).message));
  CHECK(cluster.Status().model == "next");
}

// ---- Rearranging

TEST_CASE("a rearrangement reaches its target by safe waves and says so", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.Rearrange("r1");
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  const OperationProgress operation = cluster.Operation("r1");
  CHECK(operation.num_layers == 2);
  CHECK(operation.num_layers_done == 2);
  CHECK(operation.num_moves_done > 0);
  CHECK(operation.bytes_done == 1000u * static_cast<uint64_t>(operation.num_moves_done));
  CHECK(operation.num_waves > 0);
  CHECK(cluster.Status().totals.rollouts == 2);
  CHECK(cluster.Status().totals.moves == static_cast<uint64_t>(operation.num_moves_done));
  CHECK(Steady(cluster));
  // No two orders for the same generation of a slot.
  std::set<std::tuple<int, int, uint64_t>> seen;
  for (const MoveOrder& order : cluster.orders) {
    CHECK(seen.emplace(order.layer.value(), order.slot.value(), order.generation).second);
  }
}

TEST_CASE("rearrangements to arbitrary placements arrive, whatever fails on the way", "[coordinator]") {
  const uint64_t seed = GENERATE(range(1, 26));
  CAPTURE(seed);
  Rng rng(static_cast<uint64_t>(seed));
  Cluster::Options options = Basic();
  options.shape = {.num_experts = static_cast<int>(rng.Between(4, 10)), .num_ranks = 4, .slots_per_rank = 3};
  options.settings.defaults.wave_deadline = absl::Seconds(5);
  options.settings.defaults.move_deadline = absl::Seconds(2);
  options.settings.defaults.mismatches_until_condemned = 100;
  Cluster cluster(options);
  StartUnderLoad(cluster);
  cluster.hold_plans = true;
  for (int round = 0; round < 3; ++round) {
    const std::string id = "r" + std::to_string(round);
    cluster.Rearrange(id);
    REQUIRE(cluster.plans.size() == 1);
    std::vector<algos::Placement> target(2);
    for (algos::Placement& placement : target) {
      for (int s = 0; s < options.shape.num_slots(); ++s) placement.expert_of_slot.push_back(ExpertId(s));
      for (int s = options.shape.num_experts; s < options.shape.num_slots(); ++s) {
        placement.expert_of_slot[static_cast<size_t>(s)] =
            ExpertId(static_cast<int>(rng.Below(static_cast<uint64_t>(options.shape.num_experts))));
      }
      rng.Shuffle(placement.expert_of_slot);
    }
    for (FakeAgent& agent : cluster.agents) {
      agent.num_moves_to_fail = static_cast<int>(rng.Below(3));
      agent.num_moves_to_corrupt = static_cast<int>(rng.Below(2));
    }
    cluster.Deliver(PlanComputed{cluster.plans.front().plan_id, target});
    cluster.plans.clear();
    for (int step = 0; step < 6; ++step) {
      const int rank = static_cast<int>(rng.Below(4));
      FakeAgent& agent = cluster.agents[static_cast<size_t>(rank)];
      switch (rng.Below(4)) {
        case 0:
          cluster.DetachAgent(rank);
          cluster.Run(absl::Milliseconds(rng.Between(1, 3000)));
          cluster.AttachAgent(rank);
          break;
        case 1:
          agent.stalled = true;
          cluster.Run(absl::Milliseconds(rng.Between(1, 8000)));
          cluster.Resume(rank);
          break;
        case 2:
          agent.holds_moves = true;
          cluster.Run(absl::Milliseconds(rng.Between(1, 8000)));
          cluster.Resume(rank);
          break;
        default:
          cluster.Run(absl::Milliseconds(rng.Between(1, 500)));
      }
    }
    REQUIRE(cluster.RunUntil([&] { return cluster.StateOf(id) == "done"; }, absl::Minutes(5)));
    for (int l = 0; l < 2; ++l) {
      const auto reached = ByRank(cluster, l);
      for (size_t r = 0; r < 4; ++r) {
        std::multiset<int> wanted;
        for (size_t s = 0; s < 3; ++s) wanted.insert(target[static_cast<size_t>(l)].expert_of_slot[r * 3 + s].value());
        CHECK(reached[r] == wanted);
      }
    }
  }
}

TEST_CASE("the same events give the same effects", "[coordinator]") {
  const auto run = [] {
    Cluster cluster(Basic());
    StartUnderLoad(cluster);
    cluster.Rearrange("r1");
    cluster.agents[1].num_moves_to_fail = 1;
    cluster.Run(absl::Seconds(10));
    return cluster.trace;
  };
  CHECK(run() == run());
}

TEST_CASE("a known request id changes nothing", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.Rearrange("r1");
  cluster.Run(absl::Seconds(5));
  REQUIRE(cluster.StateOf("r1") == "done");
  const size_t orders = cluster.orders.size(), persisted = cluster.persisted.size();
  cluster.Rearrange("r1");
  CHECK(cluster.orders.size() == orders);
  CHECK(cluster.persisted.size() == persisted);
}

TEST_CASE("a dry run plans and reports and changes nothing", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.Rearrange("d1", "greedy", {}, true);
  CHECK(cluster.StateOf("d1") == "done");
  const OperationProgress operation = cluster.Operation("d1");
  CHECK(operation.num_moves > 0);
  CHECK(operation.num_moves_done == 0);
  CHECK(operation.imbalance_predicted < operation.imbalance_before);
  CHECK(operation.detail.rfind("dry run", 0) == 0);
  cluster.Run(absl::Seconds(3));
  CHECK(cluster.orders.empty());
  CHECK(cluster.Status().totals.waves == 0);
}

TEST_CASE("requests that cannot be carried out fail with the reason", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.Deliver(RearrangeRequested{"a", "nobody", "", {}, false});
  CHECK(cluster.Operation("a").detail == "unknown group nobody; known: [g]");
  cluster.Rearrange("b", "greedy", {LayerId(2)});
  CHECK(cluster.Operation("b").detail == "rearrange: unknown layer 2; the group has 2 layers");
  cluster.Rearrange("c", "nonsense");
  CHECK(cluster.StateOf("c") == "failed");
  CHECK(cluster.Operation("c").detail.find("nonsense") != std::string::npos);
}

TEST_CASE("a rearrangement during a rearrangement is refused, unless the controller's own", "[coordinator]") {
  Cluster::Options options = Basic();
  options.settings.defaults.placement_enabled = true;
  options.settings.defaults.placement_interval = absl::Seconds(3);
  Cluster cluster(options);
  cluster.load = Skewed(cluster);
  for (FakeAgent& agent : cluster.agents) agent.holds_moves = true;
  Start(cluster);
  REQUIRE(cluster.RunUntil([&] { return !cluster.Status().running_operation.empty(); }));
  const std::string own = cluster.Status().running_operation;
  CHECK(cluster.Operation(own).cause == Cause::kSlowLoop);
  cluster.Run(absl::Milliseconds(200));
  cluster.Rearrange("r1");
  CHECK(cluster.StateOf(own) == "superseded");
  CHECK(cluster.StateOf("r1") == "running");
  cluster.Rearrange("r2");
  CHECK(cluster.StateOf("r2") == "failed");
  CHECK(cluster.Operation("r2").detail == "rearrangement r1 is running");
  for (int r = 0; r < 4; ++r) cluster.Resume(r);
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
}

TEST_CASE("only the asked layers are rearranged", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.Rearrange("r1", "greedy", {LayerId(1)});
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  CHECK(cluster.Operation("r1").num_layers == 1);
  CHECK(std::all_of(cluster.orders.begin(), cluster.orders.end(),
                    [](const MoveOrder& order) { return order.layer == LayerId(1); }));
}

TEST_CASE("a plan that was overtaken is dropped", "[coordinator]") {
  Cluster::Options options = Basic();
  options.settings.defaults.placement_enabled = true;
  options.settings.defaults.placement_interval = absl::Seconds(3);
  Cluster cluster(options);
  cluster.load = Skewed(cluster);
  cluster.hold_plans = true;
  Start(cluster);
  REQUIRE(cluster.RunUntil([&] { return cluster.plans.size() == 1; }));
  const ComputePlan old = cluster.plans.front();
  cluster.Rearrange("r1");
  REQUIRE(cluster.plans.size() == 2);
  std::vector<algos::Placement> target(2, algos::DefaultPlacement(options.shape));
  std::reverse(target[0].expert_of_slot.begin(), target[0].expert_of_slot.end());
  cluster.Deliver(PlanComputed{old.plan_id, target});
  CHECK(cluster.orders.empty());
  CHECK(cluster.Status().running_operation.empty());
}

// ---- Loops

TEST_CASE("the fast loop changes shares without a move and leaves noise alone", "[coordinator]") {
  Cluster cluster(Basic());
  SECTION("load") {
    cluster.load = Skewed(cluster);
    Start(cluster);
    cluster.Run(absl::Seconds(5));
    CHECK(cluster.Status().totals.shares_updates >= 1);
    CHECK(cluster.orders.empty());
    CHECK(cluster.Status().imbalance_predicted < cluster.Status().imbalance_initial);
    const uint64_t updates = cluster.Status().totals.shares_updates;
    cluster.Run(absl::Seconds(20));
    CHECK(cluster.Status().totals.shares_updates <= updates + 1);  // steady load: nothing to gain
    const GroupStats stats = *cluster.coordinator->GetStats(kGroup, {.num_windows = 5, .span = {}}, cluster.now);
    CHECK(stats.windows.size() == 5);
    CHECK(stats.tokens > 0);
    CHECK(stats.imbalance_realised < stats.imbalance_initial);
    CHECK(stats.imbalance_realised == Approx(stats.imbalance_predicted).margin(0.01));
  }
  SECTION("noise") {
    cluster.load.assign(2, std::vector<uint64_t>(8, 10));
    cluster.load[0][0] = cluster.load[1][0] = 40;
    Start(cluster);
    cluster.Run(absl::Seconds(5));
    CHECK(cluster.Status().totals.shares_updates == 0);
    CHECK(cluster.Status().totals.publishes == 1);
  }
}

TEST_CASE("the slow loop rearranges by itself, then says why it does not", "[coordinator]") {
  Cluster::Options options = Basic();
  options.settings.defaults.placement_enabled = true;
  options.settings.defaults.placement_interval = absl::Seconds(5);
  Cluster cluster(options);
  cluster.load = Skewed(cluster);
  Start(cluster);
  REQUIRE(cluster.RunUntil([&] { return cluster.Status().totals.rollouts > 0 && Steady(cluster); }));
  REQUIRE(cluster.RunUntil([&] {
    const auto list = cluster.coordinator->ListOperations(kGroup);
    return list.front().state == OperationState::kSkipped;
  }));
  CHECK_FALSE(cluster.coordinator->ListOperations(kGroup).front().detail.empty());
}

// ---- What goes wrong

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

TEST_CASE("a live slot that lost its content leaves the maps at once", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  const GroupMaps maps = *cluster.coordinator->GetMaps(kGroup);
  // Expert 0 has two replicas by the default placement.
  const auto slots = maps.layers[0].map.slots_of(ExpertId(0));
  REQUIRE(slots.size() > 1);
  const SlotIdx slot = slots[0];
  const int rank = cluster.options.shape.RankOf(slot).value();
  cluster.agents[static_cast<size_t>(rank)].slots[static_cast<size_t>(cluster.options.shape.LocalSlot(slot))] =
      SlotRecord();
  cluster.Send(rank, SlotLost{LayerId(0), slot, 0});
  const GroupMaps after = *cluster.coordinator->GetMaps(kGroup);
  CHECK(after.epoch > maps.epoch);
  CHECK(after.layers[0].placement.expert_of_slot[slot.idx()] == kNoExpert);
  CHECK_FALSE(cluster.notes.empty());
}

TEST_CASE("refused maps are sent again in full", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  FakeAgent& agent = cluster.agents[1];
  agent.epoch = Epoch();  // as if it had kept the default maps
  const size_t updates = cluster.updates.size();
  cluster.Send(1, MapsRefused{{1, 1}, {}, 0, "no bank"});
  REQUIRE(cluster.updates.size() == updates + 1);
  CHECK(cluster.updates.back().base_epoch == cluster.updates.back().epoch);
  CHECK(cluster.Status().totals.maps_refused == 1);
}

TEST_CASE("replicas that disagree at admission are named, and the expert is not moved", "[coordinator]") {
  Cluster cluster(Basic());
  const algos::Replicas replicas = algos::Invert(algos::DefaultPlacement(cluster.options.shape), 8);
  const SlotIdx second = replicas.slots_of(ExpertId(0))[1];
  const size_t rank = cluster.options.shape.RankOf(second).idx();
  cluster.agents[rank].slots[static_cast<size_t>(cluster.options.shape.LocalSlot(second))].fingerprint = 5;
  Start(cluster);
  CHECK(std::any_of(cluster.notes.begin(), cluster.notes.end(), [](const std::string& note) {
    return note.find("replicas of expert 0 of layer 0 disagree") != std::string::npos &&
           note.find("0000000000000005") != std::string::npos;
  }));
  const GroupMaps maps = *cluster.coordinator->GetMaps(kGroup);
  CHECK(maps.layers[0].map.num_replicas(ExpertId(0)) == 1);
}

TEST_CASE("groups whose maps cannot change say why", "[coordinator]") {
  Cluster::Options options = Basic();
  SECTION("replicated routing") {
    options.routing = Routing::kReplicated;
    Cluster cluster(options);
    cluster.load = Skewed(cluster);
    Start(cluster);
    cluster.Run(absl::Seconds(5));
    CHECK(cluster.updates.empty());
    CHECK(cluster.Status().static_reason.find("several ranks") != std::string::npos);
    CHECK(cluster.Status().view.number == 1);
    cluster.Rearrange("r1");
    CHECK(cluster.StateOf("r1") == "failed");
  }
  SECTION("no redundant slot") {
    options.shape.num_experts = 12;
    Cluster cluster(options);
    cluster.load.assign(2, std::vector<uint64_t>(12, 1000));
    cluster.load[0][0] = 9000;
    Start(cluster);
    cluster.Run(absl::Seconds(5));
    CHECK(cluster.Status().totals.publishes == 1);
    CHECK(cluster.Status().static_reason.find("no redundant slot") != std::string::npos);
    cluster.Rearrange("r1");
    CHECK(cluster.StateOf("r1") == "failed");
  }
}

TEST_CASE("an engine that never calls is named with the missing call", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  EngineStatus status;
  status.called_begin_step = status.called_end_step = true;
  cluster.Send(2, status);
  CHECK(cluster.Status().members[2].missing_calls.empty());
  cluster.Run(absl::Seconds(9));
  REQUIRE(cluster.Status().members[2].missing_calls.size() == 1);
  CHECK(cluster.Status().members[2].missing_calls[0] == "never called route");
  CHECK(cluster.Status().members[1].missing_calls.empty());
}

TEST_CASE("redundancy is reported as slots to spare and ranks that may go", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  const RedundancyReport report = *cluster.coordinator->CheckRedundancy(kGroup);
  CHECK(report.layers[0].free_redundancy == 4);      // 12 slots, 8 experts
  CHECK(report.ranks_may_be_lost_serving == 1);      // 9 slots hold 8
  CHECK(report.ranks_may_be_lost_rebalancing == 1);  // and one is left
  CHECK(report.ranks_may_be_lost_at_once == 0);      // some experts have one replica only
  CHECK(report.problems.empty());
}

TEST_CASE("operations of earlier controllers stay known", "[coordinator]") {
  Cluster cluster(Basic());
  OperationProgress old;
  old.id = "r0";
  old.group = kGroup;
  old.state = OperationState::kDone;
  cluster.RestartController({old});
  StartUnderLoad(cluster);
  cluster.Rearrange("r0");
  CHECK(cluster.StateOf("r0") == "done");
  CHECK(cluster.orders.empty());
}

}  // namespace
}  // namespace evenkeel::controller
