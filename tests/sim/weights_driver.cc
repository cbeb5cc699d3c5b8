// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/weights_driver.h"

#include <cmath>

namespace evenkeel::sim {

namespace {

constexpr double kSleepChance = 0.15;
constexpr double kRollbackChance = 0.1;
constexpr double kAtOnceChance = 0.5;
constexpr double kLaterChance = 0.3;  // of a rank that stayed behind, at each look

}  // namespace

WeightsDriver::WeightsDriver(Cluster* cluster) : cluster_(cluster), world_(cluster->world()) {
  if (world_.options.weights_interval <= absl::ZeroDuration()) return;
  ActLater();
  LookLater();
}

void WeightsDriver::ActLater() {
  world_.queue.After(-world_.options.weights_interval * std::log(1.0 - world_.rng.Uniform()), [this] {
    if (world_.calm) return;
    Act();
    ActLater();
  });
}

void WeightsDriver::LookLater() {
  world_.queue.After(absl::Seconds(1), [this] {
    Look();
    LookLater();
  });
}

void WeightsDriver::Act() {
  const int group = static_cast<int>(world_.rng.Below(static_cast<uint64_t>(world_.options.num_groups)));
  uint64_t& version = world_.weights_version[static_cast<size_t>(group)];
  const double kind = world_.rng.Uniform();
  const bool sleeps = kind < kSleepChance;
  if (kind >= kSleepChance + kRollbackChance) {
    version = ++newest_;
  } else if (!sleeps && version > 1) {
    --version;
  }
  world_.trace.Add("weights are to be of version", {group, -1}, static_cast<int64_t>(version), sleeps);
  const bool at_once = world_.rng.Chance(kAtOnceChance);
  for (int r = 0; r < world_.options.num_ranks; ++r) {
    if (!at_once && !sleeps && world_.rng.Chance(0.2)) continue;  // it stays behind
    SuspendLater(group, r, absl::Seconds(at_once ? 0.05 : 3) * world_.rng.Uniform());
  }
}

void WeightsDriver::SuspendLater(int group, int rank, absl::Duration after) {
  world_.queue.After(after, [this, group, rank] { Suspend(group, rank); });
}

void WeightsDriver::Suspend(int group, int rank) {
  const EngineModel& engines = *world_.engines[static_cast<size_t>(group)];
  const RegionModel* const region = engines.region(rank);
  if (region == nullptr) return;
  const double part = world_.rng.Uniform();
  EngineModel::Reload reload = {.version = world_.weights_version[static_cast<size_t>(group)],
                                .takes = absl::Seconds(3) * part * part * part};
  if (!world_.calm && world_.rng.Chance(world_.options.faults.bad_reload)) {
    reload.bad_slot = cluster_->SlotToSpare(group, rank);
  }
  world_.engines[static_cast<size_t>(group)]->Suspend(rank, reload);
}

void WeightsDriver::Look() {
  for (int g = 0; g < world_.options.num_groups; ++g) {
    for (int r = 0; r < world_.options.num_ranks; ++r) {
      const RegionModel* const region = world_.engines[static_cast<size_t>(g)]->region(r);
      if (region == nullptr || region->suspended()) continue;
      if (region->info().weights_version == world_.weights_version[static_cast<size_t>(g)]) continue;
      if (world_.calm || world_.rng.Chance(kLaterChance)) Suspend(g, r);
    }
  }
}

}  // namespace evenkeel::sim
