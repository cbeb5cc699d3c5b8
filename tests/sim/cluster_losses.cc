// SPDX-License-Identifier: Apache-2.0
//
// Ranks of a Cluster that are lost, and those that take their places.
#include <cmath>

#include "absl/strings/str_cat.h"

#include "tests/sim/cluster.h"

namespace evenkeel::sim {

namespace {

constexpr absl::Duration kWatchInterval = absl::Seconds(1);
constexpr absl::Duration kStuckAgain = absl::Seconds(5);

}  // namespace

void Cluster::EndEngine(int group, int rank) {
  EngineModel& engines = *world_.engines[static_cast<size_t>(group)];
  const Member member = engines.region(rank)->member();
  engines.Kill(rank);
  if (!world_.options.losses) return;
  for (int r = 0; r < world_.options.num_ranks; ++r) {
    if (r != rank && world_.stores.HostOf(r) == world_.stores.HostOf(rank)) agent(group, r).PeerEnded(member);
  }
}

void Cluster::HoldDown(int group, int rank) {
  held_down_.insert(world_.AgentOf(group, rank));
  agent(group, rank).Kill();
}

void Cluster::LoseEngine(int group, int rank, bool with_agent) {
  if (!world_.engines[static_cast<size_t>(group)]->alive(rank)) return;
  world_.trace.Add("engine is lost: with its agent", {group, rank}, with_agent);
  world_.maps.AllowDeadExperts(group);
  EndEngine(group, rank);
  if (with_agent) HoldDown(group, rank);
  ReplaceMaybe(group, rank);
}

void Cluster::HangEngine(int group, int rank, bool with_agent) {
  world_.trace.Add("engine hangs: without its agent", {group, rank}, with_agent);
  world_.maps.AllowDeadExperts(group);
  world_.engines[static_cast<size_t>(group)]->Hang(rank);
  if (with_agent) HoldDown(group, rank);
  ReplaceMaybe(group, rank);
}

void Cluster::ReplaceMaybe(int group, int rank) {
  if (!world_.rng.Chance(world_.options.replaced)) return;
  const absl::Duration after = -world_.options.replaced_after * std::log(1.0 - world_.rng.Uniform());
  world_.queue.After(after, [this, group, rank] { Replace(group, rank); });
}

void Cluster::Replace(int group, int rank) {
  const EngineModel& engines = *world_.engines[static_cast<size_t>(group)];
  const RegionModel* const region = engines.region(rank);
  if (region != nullptr && !engines.hangs(rank) && !region->excluded) return;  // it was replaced already
  world_.trace.Add("rank is replaced", {group, rank});
  if (region != nullptr) EndEngine(group, rank);
  StartJoining(group, rank);
}

std::vector<int> Cluster::HealthyRanks(int group) {
  const EngineModel& engines = *world_.engines[static_cast<size_t>(group)];
  std::vector<int> healthy;
  for (int r = 0; r < world_.options.num_ranks; ++r) {
    if (engines.alive(r) && engines.region(r)->in_set && !engines.hangs(r)) healthy.push_back(r);
  }
  return healthy;
}

bool Cluster::HasFormed(int group) {
  for (int r = 0; r < world_.options.num_ranks; ++r) {
    const RegionModel* const region = world_.engines[static_cast<size_t>(group)]->region(r);
    if (region != nullptr && region->view.number > 0) return true;
  }
  return false;
}

bool Cluster::HasSource(int group, LayerId layer, ExpertId expert) {
  for (int r : HealthyRanks(group)) {
    const RegionModel& region = *world_.engines[static_cast<size_t>(group)]->region(r);
    for (int local = 0; local < world_.options.slots_per_rank; ++local) {
      const SlotIdx slot = region.info().shape.SlotAt(RankId(r), local);
      const size_t at = region.At(layer, slot);
      const bool verified = region.slots[at].state == SlotState::kVerified && region.slots[at].expert == expert;
      if (verified && !region.rotten[at] && region.HoldsGood(layer, slot, expert)) return true;
    }
    SimController* const current = controller();
    const uint64_t version = region.info().weights_version;
    if (current == nullptr || !current->HasPublished(group, layer, expert, version)) continue;
    if (!agent(group, r).running() || world_.queue.now() < world_.stores.ReadyAt(group, r)) continue;
    for (const Endpoint& endpoint : world_.stores.AllEndpoints(group, r)) {
      if (!endpoint.is_store()) continue;
      if (world_.stores.Read(group, endpoint, version, layer, expert) == GoodContent(version, layer, expert))
        return true;
    }
  }
  return false;
}

void Cluster::WatchExcluded() {
  world_.queue.After(kWatchInterval, [this] {
    WatchExcluded();
    for (int g = 0; g < world_.options.num_groups; ++g) {
      for (int r = 0; r < world_.options.num_ranks; ++r) {
        EngineModel& engines = *world_.engines[static_cast<size_t>(g)];
        const RegionModel* const region = engines.region(r);
        if (region == nullptr || !region->excluded || engines.goes_on(r) || world_.may_leave.contains({g, r})) continue;
        world_.trace.Add("engine that was left out ends", {g, r});
        world_.maps.AllowDeadExperts(g);
        EndEngine(g, r);
        if (world_.rng.Chance(world_.options.replaced)) StartJoining(g, r);
      }
    }
  });
}

void Cluster::ReplaceStuck() {
  SimController* const current = controller();
  for (int g = 0; g < world_.options.num_groups; ++g) {
    const EngineModel& engines = *world_.engines[static_cast<size_t>(g)];
    for (int r = 0; r < world_.options.num_ranks; ++r) {
      if (engines.alive(r) && engines.hangs(r)) Replace(g, r);
      if (current == nullptr || !current->running()) continue;
      const auto known = current->coordinator()->GetMembership(world_.InfoOf(g).name, current->strand().local_now());
      if (!known.ok()) continue;
      const controller::RankStatus& rank = known->ranks[static_cast<size_t>(r)];
      const RegionModel* const region = engines.region(r);
      // Where nobody is left who was told a view, the group waits for all who made it.
      if (known->forming && known->view_number == 0 && r < world_.InfoOf(g).num_first_ranks() && region == nullptr) {
        Replace(g, r);
      }
      if (!IsInView(rank.standing) || rank.incarnation == 0) continue;
      if (region != nullptr && region->member().incarnation == rank.incarnation) continue;
      world_.trace.Add("operator lets go of rank", {g, r});
      current->Drain(g, absl::StrCat("let-go-", g, "-", r, "-", ++num_incarnations_), r, absl::ZeroDuration());
    }
  }
  world_.queue.After(kStuckAgain, [this] { ReplaceStuck(); });
}

}  // namespace evenkeel::sim
