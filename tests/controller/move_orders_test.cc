// SPDX-License-Identifier: Apache-2.0
//
// Which sources an order names, and in which order.
#include "controller/core/rollout/move_orders.h"

#include <set>
#include <string>
#include <variant>

#include "catch2/catch.hpp"

namespace evenkeel::controller {
namespace {

constexpr LayerId kLayer{0};

// Four ranks of one slot; expert 0 is in slot 0, expert 1 in slot 1, slots 2 and 3 are free. Ranks 2 and 3 share host
// "b".
struct Rig {
  Rig() : members(4, 4), slots({.num_experts = 2, .num_ranks = 4, .slots_per_rank = 1}, 1, 3) {
    for (int r = 0; r < 4; ++r) {
      MemberRecord& member = members.at(RankId(r));
      member.member = {RankId(r), 7};
      member.session = static_cast<SessionId>(r + 1);
      Offer(r, {});
    }
    for (int r = 0; r < 2; ++r) slots.Confirm(kLayer, SlotIdx(r), {SlotState::kVerified, ExpertId(r), 0, 100});
    slots.FixFingerprints();
    slots.NameAllConfirmed({1, 1});
    slots.Commit({1, 1});
  }
  static std::string HostOf(int rank) { return rank == 0 ? "a" : rank == 1 ? "c" : "b"; }
  void Offer(int rank, std::vector<Endpoint> stores) {
    stores.insert(stores.begin(), {{"local", HostOf(rank), "shm"}, {"ucx", HostOf(rank), "address"}});
    members.at(RankId(rank)).endpoints = std::move(stores);
  }
  // The sources of an order of expert 0 into slot 3: "local a0", "pool b".
  std::vector<std::string> Sources(std::vector<SlotIdx> replicas, const std::string& forced = "") {
    GroupSettings settings;
    settings.agent.transport = forced;
    Effects effects;
    MoveOrders orders(1);
    const absl::Status sent = orders.Send({kLayer, SlotIdx(3), ExpertId(0), std::move(replicas), RankId()}, settings,
                                          members, slots, absl::UnixEpoch(), effects);
    std::vector<std::string> names;
    if (!sent.ok()) return {std::string(absl::StatusCodeToString(sent.code()))};
    REQUIRE(effects.size() == 1);
    const auto& order = std::get<MoveOrder>(*std::get<SendToAgent>(effects[0]).message);
    for (const MoveSource& source : order.sources) {
      const std::string rank = source.member.rank.valid() ? std::to_string(source.member.rank.value()) : "";
      names.push_back(source.endpoint.transport + " " + source.endpoint.host + rank);
    }
    REQUIRE(slots.Fail(kLayer, SlotIdx(3), order.generation, {}) == SlotTable::Outcome::kFailed);
    return names;
  }

  Membership members;
  SlotTable slots;
};

Endpoint Pool(const std::string& host) { return {"pool", host, "/pool|"}; }
Endpoint Snapshot(const std::string& host) { return {"snapshot", host, "/disk"}; }

TEST_CASE("live replicas come first, then the host's own pool, other pools, the snapshot", "[move_orders]") {
  Rig rig;
  rig.Offer(0, {Snapshot("a"), Pool("a")});
  rig.Offer(2, {Snapshot("b"), Pool("b")});
  rig.Offer(3, {Pool("b"), Snapshot("b")});
  CHECK(rig.Sources({SlotIdx(0)}) == std::vector<std::string>{"ucx a0", "pool b", "pool a", "snapshot b"});
  CHECK(rig.Sources({}) == std::vector<std::string>{"pool b", "pool a", "snapshot b"});
}

TEST_CASE("without replica and store nothing is ordered", "[move_orders]") {
  Rig rig;
  CHECK(rig.Sources({}) == std::vector<std::string>{"UNAVAILABLE"});
  rig.Offer(0, {Snapshot("a")});  // of another host's disk nothing is known
  CHECK(rig.Sources({}) == std::vector<std::string>{"UNAVAILABLE"});
  rig.Offer(2, {Snapshot("b")});
  CHECK(rig.Sources({}) == std::vector<std::string>{"snapshot b"});
}

TEST_CASE("stores of agents that are away are not named", "[move_orders]") {
  Rig rig;
  rig.Offer(0, {Pool("a")});
  rig.Offer(2, {Pool("b")});
  rig.members.at(RankId(0)).session.reset();
  CHECK(rig.Sources({}) == std::vector<std::string>{"pool b"});
}

TEST_CASE("a forced transport binds ranks and leaves stores alone", "[move_orders]") {
  Rig rig;
  rig.Offer(3, {Pool("b")});
  CHECK(rig.Sources({SlotIdx(0)}, "local") == std::vector<std::string>{"pool b"});
}

TEST_CASE("of many other hosts an order names a few pools, and the next order others", "[move_orders]") {
  constexpr int kRanks = 20;
  Membership members(kRanks, kRanks);
  SlotTable slots({.num_experts = 1, .num_ranks = kRanks, .slots_per_rank = 1}, 1, 3);
  for (int r = 0; r < kRanks; ++r) {
    const std::string host = "host" + std::to_string(r);
    MemberRecord& member = members.at(RankId(r));
    member.member = {RankId(r), 7};
    member.session = static_cast<SessionId>(r + 1);
    member.endpoints = {{"ucx", host, "address"}, Pool(host)};
  }
  slots.Confirm(kLayer, SlotIdx(0), {SlotState::kVerified, ExpertId(0), 0, 100});
  slots.FixFingerprints();
  slots.NameAllConfirmed({1, 1});
  slots.Commit({1, 1});
  std::set<std::string> named;
  for (int i = 0; i < kRanks; ++i) {
    Effects effects;
    MoveOrders orders(1);
    REQUIRE(orders.Send({kLayer, SlotIdx(3), ExpertId(0), {}, RankId()}, {}, members, slots, absl::UnixEpoch(), effects)
                .ok());
    const auto& order = std::get<MoveOrder>(*std::get<SendToAgent>(effects[0]).message);
    CHECK(order.sources.size() == 1 + MoveOrders::kOtherPoolsMax);
    CHECK(order.sources[0].endpoint.host == "host3");
    for (const MoveSource& source : order.sources) named.insert(source.endpoint.host);
    slots.Fail(kLayer, SlotIdx(3), order.generation, {});
  }
  CHECK(named.size() == kRanks);
}

}  // namespace
}  // namespace evenkeel::controller
