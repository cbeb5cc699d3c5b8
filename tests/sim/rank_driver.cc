// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/rank_driver.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"

namespace evenkeel::sim {

using controller::RankStatus;
using controller::Standing;

namespace {

// Of a rank that everybody has quiesced without, and that only has to end its own requests.
constexpr std::string_view kEmptyAndBusy = "is empty; its engine may end what it does";

}  // namespace

RankDriver::RankDriver(Cluster* cluster) : cluster_(cluster), world_(cluster->world()) {
  if (world_.options.ranks_interval <= absl::ZeroDuration()) return;
  ActLater();
  LookLater();
}

void RankDriver::ActLater() {
  world_.queue.After(-world_.options.ranks_interval * std::log(1.0 - world_.rng.Uniform()), [this] {
    if (world_.calm) return;
    Act();
    ActLater();
  });
}

void RankDriver::LookLater() {
  world_.queue.After(absl::Milliseconds(200), [this] {
    Look();
    LookLater();
  });
}

void RankDriver::Act() {
  SimController* const controller = cluster_->controller();
  if (controller == nullptr || !controller->running()) return;
  const int group = static_cast<int>(world_.rng.Below(static_cast<uint64_t>(world_.options.num_groups)));
  const auto membership =
      controller->coordinator()->GetMembership(world_.InfoOf(group).name, controller->strand().local_now());
  if (!membership.ok() || membership->forming) return;
  std::vector<int> may_drain, may_join;
  bool draining = false;
  for (const RankStatus& rank : membership->ranks) {
    const bool runs = world_.engines[static_cast<size_t>(group)]->region(rank.rank.value()) != nullptr;
    draining |= rank.standing == Standing::kDraining;
    if (rank.standing == Standing::kServing && runs) may_drain.push_back(rank.rank.value());
    if (!IsInView(rank.standing) && !runs) may_join.push_back(rank.rank.value());
  }
  const std::string id = absl::StrCat("ranks-", ++num_asked_);
  const bool joins = !may_join.empty() && (draining || may_drain.size() < 3 || world_.rng.Chance(0.5));
  if (joins) {
    const int rank = may_join[world_.rng.Below(may_join.size())];
    ++num_joined_;
    world_.trace.Add("rank is to join", {group, rank});
    // Asked before the engine comes, or after.
    if (world_.rng.Chance(0.5)) controller->Admit(group, id, rank);
    cluster_->StartJoining(group, rank);
    controller->Admit(group, id, rank);
  } else if (!draining && may_drain.size() >= 3) {
    const int rank = may_drain[world_.rng.Below(may_drain.size())];
    world_.trace.Add("rank is to leave", {group, rank});
    world_.may_leave.insert({group, rank});
    controller->Drain(group, id, rank, absl::Seconds(2) * world_.rng.Uniform());
  }
}

void RankDriver::CutOffMaybe(int group, int rank) {
  const double chance = world_.options.faults.cut_off_leaving;
  if (world_.calm || chance <= 0 || !world_.rng.Chance(chance)) return;
  const absl::Time until = world_.queue.now() + absl::Seconds(3) * world_.rng.Uniform();
  world_.trace.Add("rank that leaves is cut off", {group, rank});
  world_.network.CutOff(world_.AgentOf(group, rank), until);
  world_.engines[static_cast<size_t>(group)]->SlowFor(rank, until);
}

void RankDriver::Look() {
  SimController* const controller = cluster_->controller();
  if (controller == nullptr || !controller->running()) return;
  for (int group = 0; group < world_.options.num_groups; ++group) {
    const auto membership =
        controller->coordinator()->GetMembership(world_.InfoOf(group).name, controller->strand().local_now());
    if (!membership.ok() || membership->forming) continue;
    for (const RankStatus& rank : membership->ranks) {
      const int r = rank.rank.value();
      const RegionModel* const region = world_.engines[static_cast<size_t>(group)]->region(r);
      if (rank.standing == Standing::kDraining && rank.note == kEmptyAndBusy) CutOffMaybe(group, r);
      if (!rank.safe_to_terminate || region == nullptr || region->member().incarnation != rank.incarnation) continue;
      ++num_drained_;
      world_.maps.CheckUnnamed(group, r);
      cluster_->Terminate(group, r);
    }
  }
}

}  // namespace evenkeel::sim
