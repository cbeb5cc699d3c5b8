// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/faults.h"

#include <array>
#include <cmath>

namespace evenkeel::sim {

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
  const std::array<int, 14> weights = {faults.kill_agent,        faults.kill_agent_in_effect,
                                       faults.kill_controller,   faults.kill_controller_in_effect,
                                       faults.second_controller, faults.stall_agent,
                                       faults.stall_controller,  faults.stall_engine,
                                       faults.kill_engine,       faults.restart_engine,
                                       faults.restart_group,     faults.break_stream,
                                       faults.partition,         faults.jump_clock + faults.rot_slot};
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
      if (world_.rng.Chance(0.5)) return;  // nobody notices: everything is late
      for (StreamId stream : world_.network.OpenStreams()) {
        if (world_.network.agent_of(stream) == world_.AgentOf(group, rank)) world_.network.Break(stream);
      }
      return;
    }
    default:
      if (at < faults.jump_clock) return cluster_->JumpClock();
      cluster_->RotSlot(group, rank);
  }
}

void FaultInjector::Stall(int kind, int group, int rank) {
  const absl::Time until = world_.queue.now() + absl::Seconds(5) * world_.rng.Uniform();
  world_.trace.Add("stalls: process", {group, rank}, kind);
  if (kind == 5) return cluster_->agent(group, rank).strand().Stall(until);
  if (kind == 7) return world_.engines[static_cast<size_t>(group)]->Stall(rank, until);
  if (SimController* current = cluster_->controller()) current->strand().Stall(until);
}

}  // namespace evenkeel::sim
