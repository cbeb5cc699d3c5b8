// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/simulation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace evenkeel::sim {

namespace {

constexpr absl::Duration kRestCheckInterval = absl::Milliseconds(100);

// Where slots are condemned there may be none left to move through; such layers stay as they are (rule 27).
bool HasRoom(const controller::GroupStatus& status) {
  return std::all_of(status.layers.begin(), status.layers.end(),
                     [](const controller::LayerStatus& layer) { return layer.free_redundancy > 0; });
}

}  // namespace

std::string Outcome::ToString() const {
  return absl::StrFormat(
      "%d events, %d faults, %d ended, %d left out (%d silent), %d steps, %d tokens, %d epochs, %d copies (%d good, %d "
      "from stores), %d reloads, rest after %.1f s, digest %016x",
      num_events, num_faults, num_ended, num_left_out, num_silent, num_steps, num_tokens, num_epochs, num_copies,
      num_good_copies, num_from_stores, num_reloads, absl::ToDoubleSeconds(rest_after), digest);
}

Simulation::Simulation(const Options& options)
    : options_(options),
      cluster_(options),
      world_(cluster_.world()),
      faults_(&cluster_),
      ranks_(&cluster_),
      weights_(&cluster_),
      final_operations_(static_cast<size_t>(options.num_groups)) {
  RearrangeLater();
}

void Simulation::RearrangeLater() {
  if (options_.rearrange_interval <= absl::ZeroDuration()) return;
  const absl::Duration after = -options_.rearrange_interval * std::log(1.0 - world_.rng.Uniform());
  world_.queue.After(after, [this] {
    if (world_.calm) return;
    constexpr std::array<const char*, 3> kPolicies = {"", "greedy", "deepseek"};
    const int group = static_cast<int>(world_.rng.Below(static_cast<uint64_t>(options_.num_groups)));
    const char* policy = kPolicies[world_.rng.Below(kPolicies.size())];
    if (SimController* controller = cluster_.controller()) {
      controller->Rearrange(group, absl::StrCat("request-", ++num_requests_), policy);
    }
    RearrangeLater();
  });
}

bool Simulation::RunUntil(absl::Time end) {
  while (!world_.trace.violated() && world_.queue.RunNext(end)) {
  }
  return !world_.trace.violated();
}

Outcome Simulation::Run() {
  const absl::Time begin = world_.queue.now();
  if (RunUntil(begin + options_.duration)) {
    faults_.Stop();
    cluster_.Calm();
    const absl::Time calm = world_.queue.now();
    std::string missing = "nothing was looked at";
    while (!missing.empty() && world_.queue.now() < calm + options_.converge_max) {
      if (!RunUntil(world_.queue.now() + kRestCheckInterval)) break;
      OrderFinalRearrangements();
      missing = NotAtRest();
    }
    if (!missing.empty()) {
      world_.trace.Violation(
          absl::StrCat("no rest ", absl::FormatDuration(options_.converge_max), " after the last fault: ", missing));
    }
  }
  Outcome outcome = {.ok = !world_.trace.violated(),
                     .violation = world_.trace.violation(),
                     .last_lines = world_.trace.LastLines(),
                     .digest = world_.trace.digest(),
                     .num_events = world_.queue.num_run(),
                     .num_faults = faults_.num_injected(),
                     .num_ended = faults_.num_lost(),
                     .num_left_out = world_.losses.num_lost(),
                     .num_silent = world_.losses.num_silent(),
                     .num_from_stores = world_.transfers.num_from_stores(),
                     .num_epochs = world_.maps.num_epochs(),
                     .num_copies = world_.transfers.num_started(),
                     .num_good_copies = world_.transfers.num_good(),
                     .tokens_reported = world_.load.tokens_reported(),
                     .most_copies_out_of_a_slot = world_.transfers.most_out_of_a_slot(),
                     .rest_after = world_.queue.now() - begin - options_.duration};
  for (const auto& engines : world_.engines) {
    outcome.num_steps += engines->num_steps();
    outcome.num_tokens += engines->num_tokens();
    outcome.num_reloads += engines->num_reloads();
  }
  return outcome;
}

// ---- Rest ----------------------------------------------------------------------------------------------------------

void Simulation::OrderFinalRearrangements() {
  SimController* const controller = cluster_.controller();
  if (controller == nullptr || !controller->running()) return;
  for (int g = 0; g < options_.num_groups; ++g) {
    std::string& operation = final_operations_[static_cast<size_t>(g)];
    const auto known = controller->coordinator()->GetOperation(operation);
    if (known.ok() && known->state != controller::OperationState::kFailed) continue;
    const auto status = controller->coordinator()->GetGroup(world_.InfoOf(g).name, controller->strand().local_now());
    if (!status.ok() || status->forming || !status->static_reason.empty() || !status->running_operation.empty())
      continue;
    operation = absl::StrCat("last-", ++num_requests_);
    controller->Rearrange(g, operation, "greedy");
  }
}

std::string Simulation::NotAtRest() {
  SimController* const controller = cluster_.controller();
  if (controller == nullptr || !controller->running()) return "there is no controller";
  for (int g = 0; g < options_.num_groups; ++g) {
    if (!cluster_.IsWhole(g)) continue;
    std::string missing = NotAtRest(g, *controller->coordinator());
    if (missing.empty()) missing = SlotsDiffer(g, *controller->coordinator());
    if (missing.empty() && options_.losses) missing = LossesNotMended(g, *controller->coordinator());
    if (!missing.empty()) return absl::StrCat("group ", g, ": ", missing);
  }
  return "";
}

std::string Simulation::NotAtRest(int group, const controller::Coordinator& coordinator) {
  const absl::Time now = cluster_.controller()->strand().local_now();
  const auto status = coordinator.GetGroup(world_.InfoOf(group).name, now);
  if (!status.ok()) return std::string(status.status().message());
  if (status->forming) return "it is forming";
  for (const controller::MemberStatus& member : status->members) {
    const int r = member.member.rank.value();
    const auto& view = status->view.members;
    if (std::find(view.begin(), view.end(), member.member) == view.end()) continue;
    const RegionModel* const known = world_.engines[static_cast<size_t>(group)]->region(r);
    if (known == nullptr) return absl::StrCat("rank ", r, " has ended and is a member");
    const RegionModel& region = *known;
    if (!member.attached) return absl::StrCat("rank ", r, " is not attached");
    if (region.suspended()) return absl::StrCat("rank ", r, " is suspended");
    if (region.info().weights_version != world_.weights_version[static_cast<size_t>(group)]) {
      return absl::StrCat("rank ", r, " has weights version ", region.info().weights_version);
    }
    if (region.maps->epoch != status->epoch) {
      return absl::StrCat("rank ", r, " is at epoch ", region.maps->epoch.ToString(), " of ", status->epoch.ToString());
    }
    if (member.quiesced_epoch != status->epoch) return absl::StrCat("rank ", r, " has not quiesced");
  }
  if (!status->static_reason.empty() || !HasRoom(*status)) return "";
  const auto operation = coordinator.GetOperation(final_operations_[static_cast<size_t>(group)]);
  if (!operation.ok()) return "the last rearrangement is not known";
  using State = controller::OperationState;
  if (operation->state == State::kPlanning || operation->state == State::kRunning) {
    return absl::StrCat("the last rearrangement runs: ", operation->detail);
  }
  if (operation->state == State::kFailed) return absl::StrCat("the last rearrangement failed: ", operation->detail);
  if (!status->running_operation.empty()) return absl::StrCat("operation ", status->running_operation, " runs");
  for (const controller::LayerStatus& layer : status->layers) {
    if (layer.phase != "steady") return absl::StrCat("layer ", layer.layer.value(), " is ", layer.phase);
    if (layer.num_slots_writing > 0) return absl::StrCat("layer ", layer.layer.value(), " has slots in writing");
  }
  return "";
}

std::string Simulation::LossesNotMended(int group, const controller::Coordinator& coordinator) {
  const std::string name = world_.InfoOf(group).name;
  const auto ranks = coordinator.GetMembership(name, cluster_.controller()->strand().local_now());
  const auto maps = coordinator.GetMaps(name);
  if (!ranks.ok() || !maps.ok()) return "it is not known";
  const EngineModel& engines = *world_.engines[static_cast<size_t>(group)];
  for (const controller::RankStatus& rank : ranks->ranks) {
    const int r = rank.rank.value();
    if (!engines.alive(r) || world_.may_leave.contains({group, r})) continue;
    if (engines.hangs(r)) return absl::StrCat("rank ", r, " hangs and is there");
    if (rank.standing != controller::Standing::kServing) return absl::StrCat("rank ", r, " lives and does not serve");
  }
  for (const controller::LayerMapStatus& layer : maps->layers) {
    std::vector<int> num_live(static_cast<size_t>(options_.num_experts));
    int num_spare = 0;  // slots that could be written without harm
    for (const controller::SlotStatus& slot : layer.slots) {
      if (slot.use == controller::SlotUse::kLive) ++num_live[slot.expert.idx()];
    }
    for (size_t s = 0; s < layer.slots.size(); ++s) {
      const controller::SlotStatus& slot = layer.slots[s];
      const RankId rank = world_.InfoOf(group).shape.RankOf(SlotIdx(static_cast<int32_t>(s)));
      if (ranks->ranks[rank.idx()].standing != controller::Standing::kServing) continue;
      if (slot.use == controller::SlotUse::kCondemned) continue;
      num_spare += slot.use != controller::SlotUse::kLive || num_live[slot.expert.idx()] > 1;
    }
    for (int e = 0; e < options_.num_experts; ++e) {
      if (num_live[static_cast<size_t>(e)] > 0 || num_spare == 0) continue;
      if (!cluster_.HasSource(group, layer.layer, ExpertId(e))) continue;
      return absl::StrCat("expert ", e, " of layer ", layer.layer.value(), " is dead, and a source of it survives");
    }
  }
  return "";
}

std::string Simulation::SlotsDiffer(int group, const controller::Coordinator& coordinator) {
  const auto maps = coordinator.GetMaps(world_.InfoOf(group).name);
  if (!maps.ok()) return std::string(maps.status().message());
  for (const controller::LayerMapStatus& layer : maps->layers) {
    for (int s = 0; s < static_cast<int>(layer.slots.size()); ++s) {
      const SlotIdx slot(s);
      const int rank = world_.InfoOf(group).shape.RankOf(slot).value();
      const RegionModel* const known = world_.engines[static_cast<size_t>(group)]->region(rank);
      if (known == nullptr && layer.slots[slot.idx()].use == controller::SlotUse::kFree) continue;  // of no member
      if (known == nullptr) return absl::StrCat("rank ", rank, " has ended and holds slots");
      const RegionModel& region = *known;
      const SlotRecord& record = region.slots[region.At(layer.layer, slot)];
      const controller::SlotStatus& believed = layer.slots[slot.idx()];
      const std::string where = absl::StrCat("slot ", s, " of layer ", layer.layer.value());
      if (record.state == SlotState::kWriting) return absl::StrCat(where, " is left in writing");
      if (region.rotten[region.At(layer.layer, slot)] && believed.use == controller::SlotUse::kLive) {
        return absl::StrCat(where, " is damaged and nobody noticed");
      }
      const bool holds = believed.use == controller::SlotUse::kLive || believed.use == controller::SlotUse::kVerified ||
                         believed.use == controller::SlotUse::kRetired;
      if (!holds) continue;
      if (record.state != SlotState::kVerified || record.expert != believed.expert ||
          !region.HoldsGood(layer.layer, slot, believed.expert)) {
        return absl::StrCat(where, " does not hold expert ", believed.expert.value(), " as the controller believes");
      }
    }
  }
  return "";
}

// ---- Reports -------------------------------------------------------------------------------------------------------

Outcome RunAndReport(const Options& options) {
  Simulation simulation(options);
  const Outcome outcome = simulation.Run();
  if (outcome.ok) return outcome;
  std::printf("\nseed %llu: %s\n%s\n", static_cast<unsigned long long>(options.seed), outcome.violation.c_str(),
              Describe(options).c_str());
  for (const std::string& line : outcome.last_lines) std::printf("  %s\n", line.c_str());
  std::printf("to run it again: %s\n", CommandFor(options).c_str());
  return outcome;
}

std::string CommandFor(const Options& options) {
  std::string command = absl::StrCat("bazel run -c opt //tests/sim:simulate -- --seed ", options.seed);
  if (options.losses) absl::StrAppend(&command, " --losses");
  if (options.mutant != Mutant::kNone) absl::StrAppend(&command, " --mutant ", std::string(NameOf(options.mutant)));
  return command;
}

}  // namespace evenkeel::sim
