// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/faults.h"

#include <array>
#include <cmath>

namespace evenkeel::sim {

namespace {

constexpr int kCopyTries = 150;

}  // namespace

FaultInjector::FaultInjector(Cluster* cluster) : cluster_(cluster), world_(cluster->world()) { InjectLater(); }

void FaultInjector::InjectLater() {
  const absl::Duration mean = world_.options.faults.interval;
  if (mean <= absl::ZeroDuration()) return;
  world_.queue.After(-mean * std::log(1.0 - world_.rng.Uniform()), [this] {
    if (stopped_) return;
    Inject();
    InjectLater();
  });
}

void FaultInjector::Inject() {
  const FaultOptions& faults = world_.options.faults;
  const std::array<int, 19> weights = {faults.kill_agent,        faults.kill_agent_in_effect,
                                       faults.kill_controller,   faults.kill_controller_in_effect,
                                       faults.second_controller, faults.stall_agent,
                                       faults.stall_controller,  faults.stall_engine,
                                       faults.kill_engine,       faults.restart_engine,
                                       faults.restart_group,     faults.break_stream,
                                       faults.partition,         faults.jump_clock + faults.rot_slot,
                                       faults.lose_engines,      faults.lose_host,
                                       faults.hang_engine,       faults.slow_engine,
                                       faults.blame_healthy};
  int total = 0;
  for (int weight : weights) total += weight;
  if (total == 0) return;
  int at = static_cast<int>(world_.rng.Below(static_cast<uint64_t>(total)));
  size_t kind = 0;
  while (at >= weights[kind]) at -= weights[kind++];
  const int group = static_cast<int>(world_.rng.Below(static_cast<uint64_t>(world_.options.num_groups)));
  const int rank = static_cast<int>(world_.rng.Below(static_cast<uint64_t>(world_.options.num_ranks)));
  ++num_injected_;
  switch (kind) {
    case 0:
      return cluster_->agent(group, rank).Kill();
    case 1:
      return cluster_->agent(group, rank).strand().DieInEffect(1 + static_cast<int>(world_.rng.Below(12)));
    case 2:
      return cluster_->KillController();
    case 3:
      if (SimController* current = cluster_->controller()) {
        current->strand().DieInEffect(1 + static_cast<int>(world_.rng.Below(40)));
      }
      return;
    case 4:
      return cluster_->AddController(world_.queue.now() + absl::Seconds(6) * world_.rng.Uniform());
    case 5:
    case 6:
    case 7:
      return Stall(static_cast<int>(kind), group, rank);
    case 8:
    case 9:
      if (++num_engines_lost_ > kEnginesLostMax) return;
      return kind == 8 ? cluster_->KillEngine(group, rank) : cluster_->RestartEngine(group, rank);
    case 10:
      return cluster_->RestartGroup(group);
    case 11: {
      const std::vector<StreamId> open = world_.network.OpenStreams();
      if (!open.empty()) world_.network.Break(open[world_.rng.Below(open.size())]);
      return;
    }
    case 12: {
      const absl::Time until = world_.queue.now() + absl::Seconds(4) * world_.rng.Uniform();
      world_.trace.Add("agent cut off", {group, rank});
      world_.network.CutOff(world_.AgentOf(group, rank), until);
      if (world_.options.bracketed) world_.engines[static_cast<size_t>(group)]->SlowFor(rank, until);
      if (world_.rng.Chance(0.5)) return;  // nobody notices: everything is late
      for (StreamId stream : world_.network.OpenStreams()) {
        if (world_.network.agent_of(stream) == world_.AgentOf(group, rank)) world_.network.Break(stream);
      }
      return;
    }
    case 14:
    case 15:
    case 16:
    case 17:
    case 18:
      return InjectLoss(kind, group);
    default:
      if (at < faults.jump_clock) return cluster_->JumpClock();
      cluster_->RotSlot(group, rank);
  }
}

// One of these at least is left: a group all of whose members ended would start anew as a whole.
std::vector<int> FaultInjector::RanksToStay(int group) {
  std::vector<int> ranks = cluster_->HealthyRanks(group);
  std::erase_if(ranks, [&](int rank) { return world_.may_leave.contains({group, rank}); });
  return ranks;
}

int FaultInjector::DrawFrom(const std::vector<int>& ranks) { return ranks[world_.rng.Below(ranks.size())]; }

void FaultInjector::InjectLoss(size_t kind, int group) {
  const std::vector<int> healthy = RanksToStay(group);
  if (!cluster_->HasFormed(group) || healthy.size() < 2) return;
  switch (kind) {
    case 14:
      return world_.rng.Chance(0.4) ? LoseWhileCopying(group, kCopyTries) : LoseEngines(group, /*again=*/true);
    case 15:
      return LoseHost(group);
    case 16:
      ++num_lost_;
      return cluster_->HangEngine(group, DrawFrom(healthy), world_.rng.Chance(0.4));
    case 17: {
      const int rank = DrawFrom(healthy);
      world_.trace.Add("engine is slow", {group, rank});
      const absl::Duration length = absl::Seconds(8) * world_.rng.Uniform();
      return world_.engines[static_cast<size_t>(group)]->Slow(rank, world_.queue.now() + length);
    }
    default:
      return BlameHealthy(group);
  }
}

void FaultInjector::LoseEngines(int group, bool again) {
  std::vector<int> healthy = RanksToStay(group);
  if (stopped_ || healthy.size() < 2) return;
  const uint64_t most = healthy.size() - 1;
  const uint64_t num = world_.rng.Chance(0.5) ? 1 : 1 + world_.rng.Below(most);
  const bool with_agents = world_.rng.Chance(0.4);
  for (uint64_t i = 0; i < num; ++i) {
    const size_t at = world_.rng.Below(healthy.size());
    cluster_->LoseEngine(group, healthy[at], with_agents);
    healthy.erase(healthy.begin() + static_cast<int64_t>(at));
    ++num_lost_;
  }
  if (!again || !world_.rng.Chance(0.3)) return;
  const double part = world_.rng.Uniform();
  world_.queue.After(absl::Seconds(1.5) * part * part, [this, group] { LoseEngines(group, /*again=*/false); });
}

void FaultInjector::LoseWhileCopying(int group, int tries) {
  if (world_.transfers.AnyInto(group)) return LoseEngines(group, /*again=*/true);
  if (tries == 0 || stopped_) return;
  world_.queue.After(absl::Milliseconds(20), [this, group, tries] { LoseWhileCopying(group, tries - 1); });
}

void FaultInjector::LoseHost(int group) {
  const std::vector<int> healthy = RanksToStay(group);
  const int host = world_.stores.HostOf(DrawFrom(healthy));
  std::vector<int> of_host;
  for (int rank : healthy) {
    if (world_.stores.HostOf(rank) == host) of_host.push_back(rank);
  }
  if (of_host.size() == healthy.size()) return;
  for (int rank : of_host) {
    cluster_->LoseEngine(group, rank, /*with_agent=*/true);
    ++num_lost_;
  }
}

// Its engine may be about to end itself; the one cut off is well.
void FaultInjector::BlameHealthy(int group) {
  const std::vector<int> healthy = RanksToStay(group);
  for (int rank : healthy) {
    if (cluster_->agent(group, rank).blames()) return;  // one at a time: two would be believed
  }
  const int rank = DrawFrom(healthy);
  const int cut_off = DrawFrom(healthy);
  const absl::Duration length = absl::Seconds(2) + absl::Seconds(4) * world_.rng.Uniform();
  const absl::Time until = world_.queue.now() + length;
  world_.trace.Add("rank blames all others; cut off is", {group, rank}, cut_off);
  cluster_->agent(group, rank).BlameOthers(until);
  if (cut_off != rank) world_.network.CutOff(world_.AgentOf(group, cut_off), until);
  if (!world_.rng.Chance(0.4)) return;
  world_.queue.At(until, [this, group, rank] {
    if (stopped_ || RanksToStay(group).size() < 2) return;
    cluster_->LoseEngine(group, rank, /*with_agent=*/false);
    ++num_lost_;
  });
}

void FaultInjector::Stall(int kind, int group, int rank) {
  const absl::Time until = world_.queue.now() + absl::Seconds(5) * world_.rng.Uniform();
  world_.trace.Add("stalls: process", {group, rank}, kind);
  if (kind == 5) return cluster_->agent(group, rank).strand().Stall(until);
  RegionModel* const region = world_.engines[static_cast<size_t>(group)]->region(rank);
  if (kind == 7 && world_.options.losses && region != nullptr && world_.rng.Chance(0.5)) region->busy_until = until;
  if (kind == 7) return world_.engines[static_cast<size_t>(group)]->Stall(rank, until);
  if (SimController* current = cluster_->controller()) current->strand().Stall(until);
}

}  // namespace evenkeel::sim
