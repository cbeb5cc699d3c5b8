// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/cluster.h"

#include <utility>

namespace evenkeel::sim {

namespace {

constexpr absl::Duration kStuckFor = absl::Seconds(15);

}  // namespace

Cluster::Cluster(const Options& options) : world_(options), whole_(static_cast<size_t>(options.num_groups), true) {
  world_.network.SetHandlers(MakeHandlers());
  for (int g = 0; g < options.num_groups; ++g) {
    world_.engines.push_back(std::make_unique<EngineModel>(
        options, g,
        EngineModel::World{.queue = &world_.queue,
                           .trace = &world_.trace,
                           .maps = &world_.maps,
                           .load = &world_.load,
                           .changed = [this, g](int rank) { agent(g, rank).RegionChanged(); },
                           .suspended = [this, g](int rank) { world_.transfers.SourceSuspended(RegionOf(g, rank)); },
                           .replaces = [this, g](int rank) { world_.transfers.CheckUntouched(*RegionOf(g, rank)); }},
        MixBits(options.seed * 1000 + static_cast<uint64_t>(g))));
    for (int r = 0; r < options.num_ranks; ++r) {
      agents_.push_back(std::make_unique<SimAgent>(&world_, g, r, [this, g, r] { AgentDied(g, r); }));
      const bool other = world_.rng.Chance(options.faults.other_weights);
      versions_.push_back(other ? 2 : 1);
      if (other) whole_[static_cast<size_t>(g)] = false;
    }
  }
  for (int g = 0; g < options.num_groups; ++g) {
    for (int r = 0; r < options.num_first_ranks(); ++r) {
      RegionModel* region = FreshRegion(g, r);
      world_.engines[static_cast<size_t>(g)]->Start(region);
      const bool late = world_.rng.Chance(options.faults.agent_starts_late);
      if (late && options.mutant == Mutant::kAbsentRankAnswered) {
        region = world_.AddRegion(g, region->info(), region->member());  // not the one that the engine reads
      }
      const absl::Duration after = (late ? absl::Seconds(10) : absl::Milliseconds(100)) * world_.rng.Uniform();
      const bool at_once = options.mutant == Mutant::kAbsentRankAnswered;
      // By then the engine may be another one.
      world_.queue.After(at_once ? absl::ZeroDuration() : after, [this, region, at_once] {
        if (at_once) return agent(region->group_idx(), region->rank()).Start(region);
        StartAgent(region->group_idx(), region->rank());
      });
    }
  }
  controllers_.push_back(std::make_unique<SimController>(&world_, 0, [this] { ControllerDied(0); }));
  controllers_.back()->Start();
  world_.network.SetCurrentController(0);
  if (options.losses) WatchExcluded();
}

Network::Handlers Cluster::MakeHandlers() {
  const auto at = [this](int idx) { return agents_[static_cast<size_t>(idx)].get(); };
  return {.on_connected = [at](int agent, StreamId stream, bool opened) { at(agent)->OnConnected(stream, opened); },
          .on_message_to_agent = [at](int agent, StreamId stream,
                                      ControllerMessage message) { at(agent)->OnMessage(stream, std::move(message)); },
          .on_closed_to_agent = [at](int agent, StreamId stream) { at(agent)->OnClosed(stream); },
          .on_message_to_controller =
              [this](int idx, StreamId stream, AgentMessage message) {
                controller_at(idx)->OnMessage(stream, std::move(message));
              },
          .on_closed_to_controller = [this](int idx, StreamId stream) { controller_at(idx)->OnClosed(stream); }};
}

RegionModel* Cluster::FreshRegion(int group, int rank) {
  GroupInfo info = world_.InfoOf(group);
  info.weights_version += versions_[static_cast<size_t>(world_.AgentOf(group, rank))] - 1;
  return world_.AddRegion(group, info, {RankId(rank), MixBits(++num_incarnations_)});
}

SimController* Cluster::controller() {
  const int current = world_.network.current_controller();
  return current < 0 ? nullptr : controller_at(current);
}

// ---- Deaths and what follows ---------------------------------------------------------------------------------------

void Cluster::AgentDied(int group, int rank) {
  const double part = world_.rng.Uniform();
  const absl::Duration after = absl::Milliseconds(5) + absl::Seconds(3) * part * part * part;
  world_.queue.After(after, [this, group, rank] { StartAgent(group, rank); });
}

void Cluster::StartAgent(int group, int rank) {
  SimAgent& dead = agent(group, rank);
  if (dead.running() || held_down_.contains(world_.AgentOf(group, rank))) return;
  RegionModel* const region = world_.engines[static_cast<size_t>(group)]->region(rank);
  if (region != nullptr) dead.Start(region);
}

void Cluster::KillController() {
  if (SimController* current = controller()) current->Kill();
}

void Cluster::ControllerDied(int idx) {
  if (world_.network.current_controller() != idx) return;
  world_.network.SetCurrentController(-1);
  const double part = world_.rng.Uniform();
  world_.queue.After(absl::Milliseconds(10) + absl::Seconds(4) * part * part * part, [this, idx] {
    if (world_.network.current_controller() >= 0) return;
    controller_at(idx)->Start();
    world_.network.SetCurrentController(idx);
  });
}

void Cluster::AddController(absl::Time end) {
  if (controller() == nullptr) return;
  const int old = world_.network.current_controller();
  const int idx = num_controllers();
  world_.trace.Add("a second controller", {-1, idx});
  controllers_.push_back(std::make_unique<SimController>(&world_, idx, [this, idx] { ControllerDied(idx); }));
  controllers_.back()->Start();
  world_.network.SetCurrentController(idx);
  for (StreamId stream : world_.network.OpenStreams()) {
    if (world_.rng.Chance(0.6)) world_.network.Break(stream);
  }
  world_.queue.At(end, [this, old] { controller_at(old)->Kill(); });
}

void Cluster::KillEngine(int group, int rank) {
  EngineModel& engines = *world_.engines[static_cast<size_t>(group)];
  if (!engines.alive(rank)) return;
  world_.trace.Add("engine dies", {group, rank});
  whole_[static_cast<size_t>(group)] = false;
  world_.maps.AllowDeadExperts(group);
  engines.Kill(rank);
}

void Cluster::RestartEngine(int group, int rank) {
  EngineModel& engines = *world_.engines[static_cast<size_t>(group)];
  const RegionModel* const old = engines.region(rank);
  if (old == nullptr) return;
  KillEngine(group, rank);
  RegionModel* region = FreshRegion(group, rank);
  const bool unnoticed = world_.options.mutant == Mutant::kRestartUnnoticed;
  if (unnoticed) region = world_.AddRegion(group, old->info(), old->member());
  region->in_set = unnoticed;
  engines.Start(region);
  world_.trace.Add("engine restarts", {group, rank});
  agent(group, rank).Kill();
}

void Cluster::StartJoining(int group, int rank) {
  EngineModel& engines = *world_.engines[static_cast<size_t>(group)];
  if (engines.region(rank) != nullptr) return;
  GroupInfo info = world_.InfoOf(group);
  held_down_.erase(world_.AgentOf(group, rank));
  world_.may_leave.erase({group, rank});
  RegionModel* region = world_.AddRegion(group, info, {RankId(rank), MixBits(++num_incarnations_)}, true);
  engines.Start(region);
  world_.trace.Add("engine comes to join", {group, rank});
  agent(group, rank).Kill();
  StartAgent(group, rank);
}

void Cluster::Terminate(int group, int rank) {
  EngineModel& engines = *world_.engines[static_cast<size_t>(group)];
  if (!engines.alive(rank)) return;
  world_.trace.Add("drained rank ends", {group, rank});
  EndEngine(group, rank);
  agent(group, rank).Kill();
}

void Cluster::RestartGroup(int group) {
  for (int r = 0; r < world_.options.num_ranks; ++r) KillEngine(group, r);
  world_.maps.ForgetGroup(group);
  whole_[static_cast<size_t>(group)] = true;
  world_.trace.Add("group restarts", {group, -1});
  for (int r = 0; r < world_.options.num_ranks; ++r) {
    const size_t idx = static_cast<size_t>(world_.AgentOf(group, r));
    if (versions_[idx] != 1) whole_[static_cast<size_t>(group)] = false;
    world_.engines[static_cast<size_t>(group)]->Start(FreshRegion(group, r));
    SimAgent& one = agent(group, r);
    one.Kill();
    StartAgent(group, r);
  }
}

int64_t Cluster::SlotToSpare(int group, int rank) {
  const RegionModel* const region = world_.engines[static_cast<size_t>(group)]->region(rank);
  if (region == nullptr || !region->in_set) return -1;
  const size_t at = world_.rng.Below(region->num_slots());
  if (region->slots[at].state != SlotState::kVerified || region->being_written[at] > 0) return -1;
  const LayerId layer(static_cast<int>(at) / world_.options.slots_per_rank);
  return NumGood(group, layer, region->slots[at].expert) < 3 ? -1 : static_cast<int64_t>(at);
}

bool Cluster::RotSlot(int group, int rank) {
  const int64_t index = SlotToSpare(group, rank);
  if (index < 0) return false;
  const size_t at = static_cast<size_t>(index);
  RegionModel* const region = world_.engines[static_cast<size_t>(group)]->region(rank);
  world_.maps.AllowDeadExperts(group);
  world_.trace.Add("slot rots: index", {group, rank}, static_cast<int64_t>(at));
  region->contents[at] = region->derived[at] = world_.rng.Next();
  region->rotten[at] = true;
  ++region->num_writes[at];
  return true;
}

int Cluster::NumGood(int group, LayerId layer, ExpertId expert) {
  int num_good = 0;
  for (int r = 0; r < world_.options.num_ranks; ++r) {
    const RegionModel* const region = world_.engines[static_cast<size_t>(group)]->region(r);
    for (int local = 0; region != nullptr && local < world_.options.slots_per_rank; ++local) {
      const SlotIdx slot = region->info().shape.SlotAt(RankId(r), local);
      const size_t at = region->At(layer, slot);
      const bool verified = region->slots[at].state == SlotState::kVerified && region->slots[at].expert == expert;
      num_good += verified && !region->rotten[at] && region->HoldsGood(layer, slot, expert);
    }
  }
  return num_good;
}

bool Cluster::IsWhole(int group) {
  if (!whole_[static_cast<size_t>(group)]) return false;
  if (world_.options.losses) return true;
  for (int r = 0; r < world_.options.num_ranks; ++r) {
    const RegionModel* const region = world_.engines[static_cast<size_t>(group)]->region(r);
    const bool may_be_away = world_.options.ranks_interval > absl::ZeroDuration();
    if (!may_be_away && (region == nullptr || !region->in_set)) return false;
  }
  for (int l = 0; l < world_.options.num_layers; ++l) {
    for (int e = 0; e < world_.options.num_experts; ++e) {
      if (NumGood(group, LayerId(l), ExpertId(e)) == 0) return false;
    }
  }
  return true;
}

void Cluster::JumpClock() {
  const absl::Duration ahead = absl::Seconds(8) * world_.rng.Uniform() * world_.rng.Uniform();
  const uint64_t process = world_.rng.Below(agents_.size() + 1);
  world_.trace.Add("clock jumps: process, ms", {}, static_cast<int64_t>(process), absl::ToInt64Milliseconds(ahead));
  if (process < agents_.size()) {
    agents_[process]->strand().JumpClock(ahead);
  } else if (SimController* current = controller()) {
    current->strand().JumpClock(ahead);
  }
}

void Cluster::Calm() {
  world_.trace.Add("calm", {});
  world_.calm = true;
  world_.network.Calm();
  world_.transfers.Calm();
  for (const auto& engines : world_.engines) engines->Calm();
  for (int idx = 0; idx < num_controllers(); ++idx) {
    if (idx != world_.network.current_controller()) controller_at(idx)->Kill();
    controller_at(idx)->strand().EndStall();
    controller_at(idx)->strand().DieInEffect(0);
  }
  for (const auto& one : agents_) {
    one->strand().EndStall();
    one->strand().DieInEffect(0);
  }
  if (world_.options.last_controller) KillController();
  if (world_.options.losses) world_.queue.After(kStuckFor, [this] { ReplaceStuck(); });
}

}  // namespace evenkeel::sim
