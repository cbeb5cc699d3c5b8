// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_controller.h"

#include <algorithm>
#include <cstdio>
#include <optional>
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
  group.agent_lease = kAgentLease;
  group.engine_lease = kEngineLease;
  group.agent.reconnect_max = kAgentReconnectMax;
  group.auto_admit = options.losses;
  if (options.mutant == Mutant::kOneWitnessEnough) group.witnesses = 1;
  if (options.mutant == Mutant::kSilenceExpels) group.witnesses = 0;
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
               .hears = [this](const controller::Event& event) { Hears(event); },
               .died = [this] { Kill(); }}) {}

void SimController::Start() {
  ++process_;
  views_held_.clear();
  published_.clear();
  versions_.clear();
  views_sent_.clear();
  views_before_.clear();
  world_->trace.Add("controller starts: stored term", where(), world_->stored_term);
  world_->losses.Started(idx_, strand_.local_now());
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
  MutateUp(message);
  strand_.Post(controller::AgentMessageReceived{.session = stream, .message = std::move(message)});
}

void SimController::OnClosed(StreamId stream) { strand_.Post(controller::AgentDetached{.session = stream}); }

void SimController::Hears(const controller::Event& event) {
  world_->losses.Steps(idx_, strand_.local_now());
  if (const auto* heard = std::get_if<controller::AgentMessageReceived>(&event)) {
    world_->losses.Hears(idx_, GroupOf(heard->session), heard->session, heard->message, strand_.local_now());
    if (const auto* attach = std::get_if<Attach>(&heard->message)) {
      versions_[{GroupOf(heard->session), attach->member}] = attach->group.weights_version;
    }
  } else if (const auto* detached = std::get_if<controller::AgentDetached>(&event)) {
    world_->losses.Closes(idx_, GroupOf(detached->session), detached->session);
  }
}

void SimController::NotePublished(int group, const MapsUpdate& update) {
  std::optional<uint64_t> version;
  for (const Member& member : views_sent_[group].members) {
    const auto known = versions_.find({group, member});
    if (known == versions_.end() || version.value_or(known->second) != known->second) return;
    version = known->second;
  }
  if (!version.has_value()) return;
  for (const auto& [layer, map] : update.layers) {
    for (int e = 0; e < world_->options.num_experts; ++e) {
      if (!map.slots_of(ExpertId(e)).empty()) published_.insert({group, layer, ExpertId(e), *version});
    }
  }
}

void SimController::CarryOut(controller::Effect& effect) {
  std::visit([this](auto& one) { Do(one); }, effect);
}

void SimController::Do(controller::SendToAgent& effect) {
  if (world_->options.mutant == Mutant::kMapsBeforeView) {
    if (std::holds_alternative<ViewUpdate>(*effect.message)) return views_held_.push_back(effect);
    Send(effect);
    if (!std::holds_alternative<MapsUpdate>(*effect.message)) return;
    for (const controller::SendToAgent& view : std::exchange(views_held_, {})) Send(view);
    return;
  }
  if (!MutateDown(effect)) Send(effect);
}

void SimController::Send(const controller::SendToAgent& effect) {
  world_->losses.Sends(idx_, GroupOf(effect.session), effect.session, *effect.message);
  world_->trace.Add("controller sends: session, message", where(), static_cast<int64_t>(effect.session),
                    static_cast<int64_t>(effect.message->index()));
  if (const auto* update = std::get_if<MapsUpdate>(&*effect.message)) {
    const int group = GroupOf(effect.session);
    world_->maps.Published(group, update->epoch, update->maps_digest);
    if (world_->options.losses) NotePublished(group, *update);
  }
  if (const auto* order = std::get_if<MoveOrder>(&*effect.message)) CheckOverwritten(GroupOf(effect.session), *order);
  const auto* view = std::get_if<ViewUpdate>(&*effect.message);
  const bool not_awaited = world_->options.mutant == Mutant::kViewNotAwaited ||
                           (world_->options.mutant == Mutant::kLossNotAwaited && view != nullptr &&
                            LeavesOut(GroupOf(effect.session), *view));
  if (view != nullptr && not_awaited && quiesced_.contains(effect.session)) {
    Quiesced taken = quiesced_[effect.session];
    taken.view_number = view->view.number;
    strand_.Post(controller::AgentMessageReceived{.session = effect.session, .message = taken});
  }
  if (view != nullptr) NoteView(GroupOf(effect.session), view->view);
  world_->network.SendToAgent(effect.session, *effect.message);
}

void SimController::NoteView(int group, const View& view) {
  View& newest = views_sent_[group];
  if (view.number > newest.number) views_before_[group] = std::exchange(newest, view);
}

bool SimController::LeavesOut(int group, const ViewUpdate& update) {
  const View& newest = views_sent_[group];
  const std::vector<Member>& before = (update.view.number > newest.number ? newest : views_before_[group]).members;
  const std::vector<Member>& after = update.view.members;
  return after.size() < before.size() && std::includes(before.begin(), before.end(), after.begin(), after.end());
}

void SimController::CheckOverwritten(int group, const MoveOrder& order) {
  const FaultOptions& faults = world_->options.faults;
  if (faults.rot_slot > 0 || faults.bad_reload > 0) return;  // copies are damaged, and nobody knows yet
  const algos::Shape& shape = world_->InfoOf(group).shape;
  const auto holds = [&](const RegionModel& region, SlotIdx slot, ExpertId expert) {
    const size_t at = region.At(order.layer, slot);
    const SlotRecord& record = region.slots[at];
    return record.state == SlotState::kVerified && record.expert == expert && !region.rotten[at] &&
           region.HoldsGood(order.layer, slot, expert);
  };
  const RegionModel* const target =
      world_->engines[static_cast<size_t>(group)]->region(shape.RankOf(order.slot).value());
  if (target == nullptr || target->suspended()) return;
  const ExpertId expert = target->slots[target->At(order.layer, order.slot)].expert;
  if (!expert.valid() || !holds(*target, order.slot, expert)) return;
  for (const Member& member : views_sent_[group].members) {
    const RegionModel* const region = world_->FindRegion(group, member);
    if (region == nullptr || region->suspended()) return;  // what it holds, or held, is not known to be gone
    for (int local = 0; local < shape.slots_per_rank; ++local) {
      const SlotIdx slot = shape.SlotAt(member.rank, local);
      if (slot != order.slot && holds(*region, slot, expert)) return;
    }
  }
  world_->trace.Violation(absl::StrCat("group ", group, ": move ", order.move_id, " is ordered into slot ",
                                       order.slot.value(), " of layer ", order.layer.value(),
                                       ", which holds the last copy of expert ", expert.value()));
}

void SimController::Do(const controller::CloseSession& effect) {
  world_->losses.Closes(idx_, GroupOf(effect.session), effect.session);
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
