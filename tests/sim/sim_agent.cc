// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_agent.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

namespace evenkeel::sim {

namespace {

constexpr absl::Duration kAgainWithin = absl::Seconds(2);

}  // namespace

SimAgent::SimAgent(World* world, int group, int rank, std::function<void()> on_death)
    : world_(world),
      group_(group),
      rank_(rank),
      on_death_(std::move(on_death)),
      strand_({.queue = &world->queue,
               .trace = &world->trace,
               .rng = &world->rng,
               .effect_takes_time = world->options.faults.effect_takes_time,
               .carry_out = [this](agent::Effect& effect) { CarryOut(effect); },
               .died = [this] { Kill(); }}) {}

void SimAgent::Violation(const std::string& text) {
  world_->trace.Violation(absl::StrCat("group ", group_, " rank ", rank_, ": ", text));
}

void SimAgent::Soon(absl::Duration delay, std::function<void()> action) {
  const uint64_t process = process_;
  world_->queue.After(delay, [this, process, action = std::move(action)] {
    if (process == process_) action();
  });
}

void SimAgent::Start(RegionModel* region) {
  region_ = region;
  process_ = ++num_processes_;
  region->has_agent = true;
  world_->trace.Add("agent starts", where());
  const bool writing = std::any_of(region->slots.begin(), region->slots.end(),
                                   [](const SlotRecord& slot) { return slot.state == SlotState::kWriting; });
  const bool waits = writing && world_->options.mutant != Mutant::kLateWriteNotAwaited;
  Soon(waits ? TransferModel::kLateMax : absl::Milliseconds(1), [this] { Begin(); });
}

void SimAgent::Begin() {
  engines().Accrue(region_);
  world_->load.TakenOver(*region_);
  last_counters_ = region_->tokens_of_slot;
  agent::RegionState state = region_->Read();
  suspension_ = state.suspension;
  if (world_->options.losses) state.endpoints = world_->stores.RankEndpoints(group_, rank_);
  strand_.Start(std::make_unique<agent::Worker>(std::move(state)));
  region_->had_agent = true;
  if (world_->options.losses) {
    LookAtPeers();
    OfferStores();
  }
  strand_.Post(agent::Tick{});
  strand_.Post(ReadEngine());
  world_->network.Connect(agent_idx());
}

void SimAgent::LookAtPeers() {
  for (const auto& region : world_->regions) {
    const bool same_host =
        region->group_idx() == group_ && world_->stores.HostOf(region->rank()) == world_->stores.HostOf(rank_);
    if (same_host && !region->engine_alive) PeerEnded(region->member());
  }
}

void SimAgent::OfferStores() {
  if (!world_->options.pool && !world_->options.snapshot) return;
  const absl::Duration after = world_->stores.ReadyAt(group_, rank_) - world_->queue.now();
  Soon(std::max(after, absl::Milliseconds(10)),
       [this] { strand_.Post(agent::OffersChanged{world_->stores.AllEndpoints(group_, rank_)}); });
}

void SimAgent::PeerEnded(const Member& member) {
  if (!strand_.running()) return;
  const absl::Duration after = absl::Milliseconds(5) + absl::Milliseconds(20) * world_->rng.Uniform();
  Soon(after, [this, member] { strand_.Post(agent::PeerEngineEnded{member}); });
}

void SimAgent::Kill() {
  if (!running()) return;
  world_->trace.Add("agent dies", where());
  End();
  on_death_();
}

void SimAgent::TakeOverAnew() {
  End();
  Start(region_);
}

void SimAgent::End() {
  process_ = 0;
  region_->has_agent = false;
  region_->agent_gone = world_->queue.now();
  strand_.Stop();
  if (stream_ != 0) world_->network.CloseByAgent(std::exchange(stream_, 0));
  world_->transfers.AgentDied(region_);
  HoldPending(nullptr);
  refreshes_.clear();
  observes_soon_ = false;
  failed_connects_ = 0;
}

void SimAgent::HoldPending(std::shared_ptr<const agent::Maps> maps) {
  if (!region_->engine_alive || region_->excluded) maps = nullptr;  // nobody depends on steps by them
  if (maps != nullptr) world_->maps.Hold(group_, maps);
  if (pending_ != nullptr) world_->maps.Release(group_, pending_->epoch);
  pending_ = std::move(maps);
}

// ---- The stream ----------------------------------------------------------------------------------------------------

void SimAgent::ConnectLater() {
  const int doublings = std::min(failed_connects_++, 4);
  const absl::Duration delay = absl::Milliseconds(50) * (1 << doublings) * (0.5 + world_->rng.Uniform());
  Soon(delay, [this] { world_->network.Connect(agent_idx()); });
}

void SimAgent::OnConnected(StreamId stream, bool opened) {
  // The process that asked may have died, and its successor may have asked too.
  if (!strand_.running() || stream_ != 0) {
    if (opened) world_->network.CloseByAgent(stream);
    return;
  }
  if (!opened) return ConnectLater();
  stream_ = stream;
  strand_.Post(agent::StreamOpened{});
}

void SimAgent::OnMessage(StreamId stream, ControllerMessage message) {
  if (stream != stream_ || !running()) return;
  if (std::holds_alternative<Welcome>(message)) failed_connects_ = 0;
  MutateDown(message);
  ComeAgainMaybe(stream, message);
  strand_.Post(agent::MessageReceived{std::move(message)});
}

void SimAgent::ComeAgainMaybe(StreamId stream, const ControllerMessage& message) {
  const double chance = world_->options.faults.order_again;
  const bool may = std::holds_alternative<MoveOrder>(message) || std::holds_alternative<CancelMove>(message);
  if (chance <= 0 || world_->calm || !may || !world_->rng.Chance(chance)) return;
  const double part = world_->rng.Uniform();
  Soon(kAgainWithin * part * part, [this, stream, again = message]() mutable {
    if (stream != stream_) return;
    world_->trace.Add("a message comes again", where(), static_cast<int64_t>(again.index()));
    MutateAgain(again);
    strand_.Post(agent::MessageReceived{std::move(again)});
  });
}

void SimAgent::OnClosed(StreamId stream) {
  if (stream != stream_ || !running()) return;
  stream_ = 0;
  strand_.Post(agent::StreamClosed{});
  ConnectLater();
}

// ---- Observation ---------------------------------------------------------------------------------------------------

void SimAgent::RegionChanged() {
  if (pending_ != nullptr && region_->excluded) HoldPending(nullptr);
  if (!strand_.running() || observes_soon_) return;
  observes_soon_ = true;
  Soon(absl::Milliseconds(5) * world_->rng.Uniform(), [this] { Observe(); });
}

void SimAgent::Observe() {
  observes_soon_ = false;
  if (!region_->engine_alive) HoldPending(nullptr);
  if (suspension_ != 0 && region_->suspension != suspension_) return TakeOverAnew();
  strand_.Post(ReadEngine());
  if (running()) AcknowledgeRefreshed();
}

agent::EngineObserved SimAgent::ReadEngine() {
  if (suspension_ == 0 && region_->suspended()) suspension_ = region_->suspension;
  const Quiescence quiesced = region_->Quiesced(world_->options.mutant != Mutant::kOpenStepsIgnored,
                                                /*serving_counts=*/world_->options.mutant != Mutant::kServingForgotten);
  agent::EngineObserved seen = {.quiesced_epoch = quiesced.epoch,
                                .quiesced_view = quiesced.view_number,
                                .status = {.alive = region_->engine_alive,
                                           .idle = region_->idle(),
                                           .suspended = suspension_ != 0,
                                           .called_begin_step = true,
                                           .called_end_step = true,
                                           .called_route = true,
                                           .num_steps = region_->num_steps,
                                           .oldest_open_step = absl::ZeroDuration(),
                                           .waiting_for = {}},
                                .suspension = suspension_};
  if (!world_->options.losses || engines().region(rank_) != region_) return seen;
  EngineModel::Waits waits = engines().WaitsOf(rank_);
  seen.status.oldest_open_step = waits.oldest_open;
  seen.status.waiting_for = std::move(waits.for_ranks);
  seen.status.busy_lease = std::max(region_->busy_until - world_->queue.now(), absl::ZeroDuration());
  if (!blames()) return seen;
  seen.status.oldest_open_step = absl::Seconds(10);
  seen.status.waiting_for.clear();
  for (int r = 0; r < world_->options.num_ranks; ++r) {
    if (r != rank_) seen.status.waiting_for.emplace_back(r);
  }
  return seen;
}

void SimAgent::AcknowledgeRefreshed() {
  std::vector<agent::PostMoveAcknowledged> done;
  std::erase_if(refreshes_, [&](const agent::PostMoveAcknowledged& asked) {
    if (region_->refresh_wanted[region_->At(asked.layer, asked.slot)]) return false;
    done.push_back(asked);
    return true;
  });
  for (const agent::PostMoveAcknowledged& event : done) strand_.Post(event);
}

// ---- Effects -------------------------------------------------------------------------------------------------------

void SimAgent::CarryOut(agent::Effect& effect) {
  std::visit([this](auto& one) { Do(one); }, effect);
}

void SimAgent::Do(agent::SendToController& effect) {
  MutateUp(effect.message);
  if (const auto* report = std::get_if<LoadReport>(&effect.message)) {
    world_->load.Reported(*region_, *report);
  } else if (!std::holds_alternative<EngineStatus>(effect.message)) {
    world_->trace.Add("agent sends: message", where(), static_cast<int64_t>(effect.message.index()));
  }
  if (stream_ != 0) world_->network.SendToController(stream_, std::move(effect.message));
}

void SimAgent::Do(const agent::CloseStream& effect) {
  world_->trace.Add("agent closes its stream: status", where(), effect.why.raw_code());
  if (stream_ == 0) return;
  world_->network.CloseByAgent(std::exchange(stream_, 0));
  strand_.Post(agent::StreamClosed{});
  ConnectLater();
}

void SimAgent::Do(const agent::StoreTerm& effect) {
  world_->trace.Add("term stored", where(), effect.term);
  if (effect.term < region_->term_obeyed) {
    Violation(absl::StrCat("term ", effect.term, " is stored over ", region_->term_obeyed));
  }
  if (world_->options.mutant != Mutant::kTermReused) region_->term_obeyed = effect.term;
}

void SimAgent::Do(const agent::WriteMaps& effect) {
  const Epoch epoch = effect.maps->epoch;
  if (epoch < region_->maps->epoch || (epoch == region_->maps->epoch && effect.maps->digest != region_->maps->digest)) {
    Violation(absl::StrCat("maps of epoch ", epoch.ToString(), " are written over ", region_->maps->epoch.ToString()));
  }
  if (effect.maps->view_number > region_->view.number) {
    Violation(absl::StrCat("maps of epoch ", epoch.ToString(), " presume view ", effect.maps->view_number,
                           ", the region has ", region_->view.number));
  }
  HoldPending(effect.maps);
  const bool busy = !world_->calm && world_->rng.Chance(world_->options.faults.bank_busy);
  if (!busy) {
    world_->trace.Add("maps written: term, number", where(), epoch.term, epoch.number);
    engines().TakeMaps(region_, effect.maps);
    HoldPending(nullptr);
  }
  strand_.Post(agent::MapsWritten{.epoch = epoch, .written = !busy});
}

bool SimAgent::WasMember(const RegionModel& region) const {
  const std::vector<Member>& members = region_->view.members;
  if (region_->view.number > 0) return std::find(members.begin(), members.end(), region.member()) != members.end();
  // The world of the headers, as long as it is the first one.
  const uint32_t num_first = static_cast<uint32_t>(world_->options.num_groups * world_->options.num_first_ranks());
  return region_->id() < num_first && region.id() < num_first;
}

void SimAgent::Do(const agent::StoreView& effect) {
  const View& view = effect.view;
  world_->trace.Add("view stored: number, members", where(), static_cast<int64_t>(view.number),
                    static_cast<int64_t>(view.members.size()));
  if (view.number < region_->view.number) {
    Violation(absl::StrCat("view ", view.number, " is stored over ", region_->view.number));
  }
  for (int r = 0; r < world_->options.num_ranks; ++r) {
    const RegionModel* region = engines().region(r);
    if (region == nullptr || !region->in_set || !WasMember(*region)) continue;
    if (world_->options.losses || world_->may_leave.contains({group_, r})) continue;  // LossChecker looks
    if (std::find(view.members.begin(), view.members.end(), region->member()) == view.members.end()) {
      Violation(absl::StrCat("view ", view.number, " lacks rank ", r, ", which lives and was a member"));
    }
  }
  engines().TakeView(region_, view);
}

void SimAgent::Do(const agent::StoreSlot& effect) {
  SlotRecord& record = region_->slots[region_->At(effect.layer, effect.slot)];
  world_->trace.Add("slot stored: slot, state, generation", where(), effect.slot.value(),
                    static_cast<int64_t>(effect.record.state), static_cast<int64_t>(effect.record.generation));
  if (effect.record.generation < record.generation) {
    Violation(absl::StrCat("slot ", effect.slot.value(), " goes back from generation ", record.generation, " to ",
                           effect.record.generation));
  }
  if (effect.record.state == SlotState::kWriting && world_->options.mutant == Mutant::kWritingNotStored) {
    record.generation = effect.record.generation;
    return;
  }
  record = effect.record;
}

void SimAgent::Do(const agent::StartTransfer& effect) {
  const uint64_t process = process_;
  auto ended = [this, process, order = effect](agent::TransferEnded event) {
    if (process != process_) return;
    event.fingerprint = MutatedFingerprint(event.fingerprint, order.layer, order.expert);
    strand_.Post(std::move(event));
  };
  auto exit = [this, process] {
    if (process == process_) Kill();
  };
  world_->transfers.Start(region_, effect, strand_.ToSimulation(effect.deadline), std::move(ended), std::move(exit));
}

void SimAgent::Do(const agent::CancelTransfer& effect) {
  world_->transfers.Cancel(region_, effect.move_id, effect.attempt);
}

void SimAgent::Do(const agent::NotifyPostMove& effect) {
  const agent::PostMoveAcknowledged event = {effect.layer, effect.slot, effect.generation};
  if (!world_->options.post_move) return strand_.Post(event);
  engines().WantRefresh(region_, effect.layer, effect.slot);
  if (world_->options.mutant == Mutant::kPostMoveNotAwaited) return strand_.Post(event);
  refreshes_.push_back(event);
}

void SimAgent::Do(const agent::FingerprintSlot& effect) {
  Soon(absl::Milliseconds(3) * world_->rng.Uniform(), [this, effect] {
    const size_t at = region_->At(effect.layer, effect.slot);
    const bool lies =
        world_->options.mutant == Mutant::kScrubAlwaysMatches || world_->options.mutant == Mutant::kVersionsIgnored;
    strand_.Post(
        agent::SlotFingerprinted{.layer = effect.layer,
                                 .slot = effect.slot,
                                 .generation = effect.generation,
                                 .fingerprint = lies ? region_->slots[at].fingerprint : region_->contents[at]});
  });
}

void SimAgent::Do(const agent::ReadCounters&) {
  Soon(absl::Milliseconds(2) * world_->rng.Uniform(), [this] {
    strand_.Post(ReadEngine());
    if (!running()) return;
    engines().Accrue(region_);
    agent::CountersRead reading = {.first_step = region_->num_steps,
                                   .last_step = region_->num_steps,
                                   .tokens_of_slot = region_->tokens_of_slot,
                                   .num_unrouted_tokens = region_->num_unrouted};
    if (world_->options.mutant == Mutant::kLoadReadLate) {
      std::swap(reading.tokens_of_slot, last_counters_);
    }
    world_->load.Read(*region_);
    strand_.Post(std::move(reading));
  });
}

void SimAgent::Do(const agent::GrantSuspension& effect) {
  if (effect.suspension != region_->suspension) return;  // its engine has given it up
  world_->trace.Add("suspension granted", where(), static_cast<int64_t>(effect.suspension));
  world_->transfers.CheckUntouched(*region_);
  region_->suspension_granted = effect.suspension;
}

}  // namespace evenkeel::sim
