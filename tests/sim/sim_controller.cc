// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_controller.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "controller/core/planning/compute_plan.h"
#include "controller/core/planning/planning_settings.h"

namespace evenkeel::sim {

controller::CoordinatorSettings SettingsOf(const Options& options, uint32_t stored_term, bool calm) {
  controller::CoordinatorSettings settings;
  settings.stored_term = stored_term;
  controller::GroupSettings& group = settings.defaults;
  group.policy = options.policy;
  group.planning.layer_moves_per_100_windows = controller::PaceOf(group.policy).layer_moves_per_100_windows;
  group.shares_enabled = group.placement_enabled = !calm;
  group.shares_interval = options.shares_interval;
  group.window = std::max(options.report_interval, absl::Milliseconds(200));
  group.num_windows_kept = 100;
  group.num_windows_for_placement = 10;
  group.placement_interval = options.placement_interval;
  group.placement_min_gain = 0.005;
  group.link_bytes_per_second = uint64_t{100} << 30;
  group.move_deadline = absl::Seconds(1);
  group.wave_deadline = absl::Seconds(4);
  group.agent.report_interval = options.report_interval;
  group.agent.concurrent_moves_max = options.concurrent_moves_max;
  return settings;
}

SimController::SimController(World* world, int idx, std::function<void()> on_death)
    : world_(world),
      idx_(idx),
      on_death_(std::move(on_death)),
      strand_({.queue = &world->queue,
               .trace = &world->trace,
               .rng = &world->rng,
               .effect_takes_time = world->options.faults.effect_takes_time,
               .carry_out = [this](controller::Effect& effect) { CarryOut(effect); },
               .died = [this] { Kill(); }}) {}

void SimController::Start() {
  ++process_;
  world_->trace.Add("controller starts: stored term", where(), world_->stored_term);
  strand_.Start(
      std::make_unique<controller::Coordinator>(SettingsOf(world_->options, world_->stored_term, world_->calm)));
  strand_.Post(controller::Tick{});
}

void SimController::Kill() {
  if (!running()) return;
  world_->trace.Add("controller dies", where());
  ++process_;
  strand_.Stop();
  world_->network.BreakAllOfController(idx_);
  on_death_();
}

void SimController::Rearrange(int group, const std::string& operation_id, const std::string& policy) {
  strand_.Post(controller::RearrangeRequested{
      .operation_id = operation_id, .group = world_->InfoOf(group).name, .policy = policy, .layers = {}});
}

void SimController::Admit(int group, const std::string& operation_id, int rank) {
  strand_.Post(controller::AdmitRequested{
      .operation_id = operation_id, .group = world_->InfoOf(group).name, .ranks = {RankId(rank)}});
}

void SimController::Drain(int group, const std::string& operation_id, int rank, absl::Duration grace) {
  strand_.Post(controller::DrainRequested{
      .operation_id = operation_id, .group = world_->InfoOf(group).name, .ranks = {RankId(rank)}, .grace = grace});
}

void SimController::OnMessage(StreamId stream, AgentMessage message) {
  if (const auto* quiesced = std::get_if<Quiesced>(&message)) quiesced_[stream] = *quiesced;
  strand_.Post(controller::AgentMessageReceived{.session = stream, .message = std::move(message)});
}

void SimController::OnClosed(StreamId stream) { strand_.Post(controller::AgentDetached{.session = stream}); }

void SimController::CarryOut(controller::Effect& effect) {
  std::visit([this](auto& one) { Do(one); }, effect);
}

void SimController::Do(controller::SendToAgent& effect) {
  world_->trace.Add("controller sends: session, message", where(), static_cast<int64_t>(effect.session),
                    static_cast<int64_t>(effect.message->index()));
  if (const auto* update = std::get_if<MapsUpdate>(&*effect.message)) {
    const int group = world_->network.agent_of(effect.session) / world_->options.num_ranks;
    world_->maps.Published(group, update->epoch, update->maps_digest);
  }
  const auto* view = std::get_if<ViewUpdate>(&*effect.message);
  if (view != nullptr && world_->options.mutant == Mutant::kViewNotAwaited && quiesced_.contains(effect.session)) {
    Quiesced taken = quiesced_[effect.session];
    taken.view_number = view->view.number;
    strand_.Post(controller::AgentMessageReceived{.session = effect.session, .message = taken});
  }
  world_->network.SendToAgent(effect.session, *effect.message);
}

void SimController::Do(const controller::CloseSession& effect) {
  world_->network.CloseByController(effect.session);
  world_->queue.After(absl::Milliseconds(20) * world_->rng.Uniform(),
                      [this, session = effect.session] { OnClosed(session); });
}

void SimController::Do(const controller::ComputePlan& effect) {
  const auto plans = controller::RunPlan(effect);
  const uint64_t process = process_;
  const absl::Duration late = absl::Milliseconds(200) * world_->rng.Uniform();
  world_->queue.After(late, [this, process, plan_id = effect.plan_id, plans] {
    if (process == process_) strand_.Post(controller::PlanComputed{plan_id, plans});
  });
}

void SimController::Do(const controller::PersistOperation& effect) {
  world_->trace.Add("operation: state, moves done, moves", where(), static_cast<int64_t>(effect.operation.state),
                    effect.operation.num_moves_done, effect.operation.num_moves);
  if (world_->options.verbose) std::printf("  %s: %s\n", effect.operation.id.c_str(), effect.operation.detail.c_str());
}

void SimController::Do(const controller::Note& effect) {
  if (world_->options.verbose) std::printf("  %s: %s\n", effect.group.c_str(), effect.text.c_str());
}

void SimController::Do(const controller::PersistTerm& effect) {
  world_->trace.Add("term taken", where(), effect.term);
  if (world_->options.mutant == Mutant::kTermReused) return;
  // A store that is shared takes each term once; who comes second ends.
  if (effect.term <= world_->stored_term) return Kill();
  world_->stored_term = effect.term;
}

void SimController::Do(const controller::StepDown& effect) {
  world_->trace.Add("controller steps down: term heard", where(), effect.term);
  if (world_->options.mutant != Mutant::kTermReused) {
    world_->stored_term = std::max(world_->stored_term, effect.term);
  }
  // Not within the effect: the strand is still at it.
  const uint64_t process = process_;
  world_->queue.After(absl::ZeroDuration(), [this, process] {
    if (process == process_) Kill();
  });
}

}  // namespace evenkeel::sim
