// SPDX-License-Identifier: Apache-2.0
//
// Engines of EngineModel that are suspended and have their weights replaced (rules 22, 23).
#include <cmath>

#include "tests/sim/engine_model.h"

namespace evenkeel::sim {

namespace {

constexpr absl::Duration kLooksEvery = absl::Milliseconds(5);
constexpr absl::Duration kAgentSettled = absl::Seconds(1);  // after its end

}  // namespace

void EngineModel::Suspend(int rank, const Reload& reload) {
  RegionModel* const region = At(rank).region;
  if (region == nullptr || region->suspended() || At(rank).hung) return;
  ++region->suspension;
  world_.trace->Add("engine is suspended: version", {group_, rank}, static_cast<int64_t>(reload.version));
  world_.suspended(rank);
  world_.changed(rank);
  ReloadWhenGranted(region, reload);
}

void EngineModel::ReloadWhenGranted(RegionModel* region, const Reload& reload) {
  world_.queue->After(kLooksEvery, [this, region, reload] {
    if (At(region->rank()).region != region) return;
    if (!IsStalled(region->rank()) && region->idle() && region->num_computing == 0) {
      GrantAlone(region);
      if (region->granted() || options_.mutant == Mutant::kSuspensionNotAwaited) return Replace(region, reload);
    }
    ReloadWhenGranted(region, reload);
  });
}

// Where there is no agent to do so.
void EngineModel::GrantAlone(RegionModel* region) {
  if (region->has_agent || region->granted()) return;
  if (region->had_agent && world_.queue->now() - region->agent_gone < kAgentSettled) return;
  for (SlotRecord& slot : region->slots) {
    if (slot.state == SlotState::kWriting)
      slot = {.state = SlotState::kFree, .expert = kNoExpert, .generation = slot.generation};
  }
  region->suspension_granted = region->suspension;
}

void EngineModel::Replace(RegionModel* region, const Reload& reload) {
  world_.replaces(region->rank());
  for (size_t i = 0; i < region->num_slots(); ++i) {
    region->contents[i] = rng_.Next();
    ++region->num_writes[i];
  }
  world_.queue->After(reload.takes, [this, region, reload] { Resume(region, reload); });
}

void EngineModel::Resume(RegionModel* region, const Reload& reload) {
  const int rank = region->rank();
  if (At(rank).region != region) return;
  if (Deferred(rank, [this, region, reload] { Resume(region, reload); })) return;
  region->SetWeightsVersion(reload.version);
  for (int l = 0; l < options_.num_layers; ++l) {
    for (int local = 0; local < options_.slots_per_rank; ++local) {
      const LayerId layer(l);
      const SlotIdx slot = region->info().shape.SlotAt(RankId(rank), local);
      const size_t at = region->At(layer, slot);
      SlotRecord& record = region->slots[at];
      ++record.generation;
      region->refresh_wanted[at] = false;
      if (record.state != SlotState::kVerified) continue;
      const bool bad = reload.bad_slot == static_cast<int64_t>(at);
      const uint64_t good = GoodContent(reload.version, layer, record.expert);
      region->WriteContent(layer, slot, bad ? MixBits(good) : good);
      region->derived[at] = record.fingerprint = region->contents[at];
      region->rotten[at] = bad;
    }
  }
  ++region->suspension;
  ++num_reloads_;
  world_.trace->Add("engine resumes: version", {group_, rank}, static_cast<int64_t>(reload.version));
  world_.maps->CheckRank(*region);
  world_.changed(rank);
  if (!region->in_set && !At(rank).alone) return;
  for (int lane = 0; lane < options_.num_lanes; ++lane) {
    if (!At(rank).lane_waits[static_cast<size_t>(lane)]) ScheduleBegin(rank, lane, Exponential(options_.step_mean));
  }
}

}  // namespace evenkeel::sim
