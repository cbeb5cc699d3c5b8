// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon.h"

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"

#include "agent/core/map_update.h"
#include "algos/base/check.h"
#include "algos/base/status_macros.h"
#include "runtime/clock.h"

namespace evenkeel::agent {

namespace {

using runtime::MonotonicNow;

absl::StatusOr<RegionState> TakeOver(const engine::AgentRegion& region) {
  EVENKEEL_ASSIGN_OR_RETURN(engine::RegionContent content, region.ReadContent());
  auto maps = std::make_shared<Maps>();
  maps->epoch = content.epoch;
  maps->view_number = content.maps_view_number;
  maps->digest = content.maps_digest;
  maps->layers = std::move(content.maps);
  if (DigestOf(maps->layers) != maps->digest) {
    return absl::DataLossError(
        absl::StrCat("take over ", region.path(), ": maps ", maps->epoch.ToString(), " do not match their digest"));
  }
  RegionState state;
  state.group = std::move(content.group);
  state.member = content.member;
  state.joining = content.joining;
  state.suspension = content.suspension;
  state.term_obeyed = content.term_obeyed;
  state.maps = std::move(maps);
  state.view = std::move(content.view);
  state.quiesced_epoch = content.quiesced.epoch;
  state.slots = std::move(content.slots);
  state.tokens_of_slot = std::move(content.tokens_of_slot);
  state.prefill_of_slot = std::move(content.prefill_of_slot);
  state.decode_of_slot = std::move(content.decode_of_slot);
  return state;
}

void LogMessage(int rank, const AgentMessage& message) {
  if (const auto* finished = std::get_if<MoveFinished>(&message)) {
    spdlog::info("rank {} move {} layer {} slot {} generation {} finished bytes {} ms {} mismatches {}", rank,
                 finished->move_id, finished->layer.value(), finished->slot.value(), finished->generation,
                 finished->bytes, absl::ToInt64Milliseconds(finished->elapsed), finished->num_mismatches);
  } else if (const auto* failed = std::get_if<MoveFailed>(&message)) {
    spdlog::warn("rank {} move {} layer {} slot {} generation {} failed kept {} source {} mismatches {}: {}", rank,
                 failed->move_id, failed->layer.value(), failed->slot.value(), failed->generation, failed->content_kept,
                 failed->source.value(), failed->num_mismatches, failed->status.ToString());
  } else if (const auto* refused = std::get_if<MapsRefused>(&message)) {
    spdlog::warn("rank {} refuses epoch {} holds {}: {}", rank, refused->epoch.ToString(),
                 refused->held_epoch.ToString(), refused->reason);
  } else if (const auto* lost = std::get_if<SlotLost>(&message)) {
    spdlog::error("rank {} layer {} slot {} generation {} no longer matches its fingerprint", rank, lost->layer.value(),
                  lost->slot.value(), lost->generation);
  } else if (const auto* report = std::get_if<LoadReport>(&message)) {
    spdlog::trace("rank {} reports load until {} ns, entries {}", rank, absl::ToUnixNanos(report->time),
                  report->entries.size());
  } else if (const auto* quiesced = std::get_if<Quiesced>(&message)) {
    spdlog::debug("rank {} quiesced epoch {} view {}", rank, quiesced->epoch.ToString(), quiesced->view_number);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(Options options, std::unique_ptr<engine::AgentRegion> region,
                                                      std::vector<std::unique_ptr<Transport>> transports,
                                                      StoreKeeper::Options stores) {
  EVENKEEL_ASSIGN_OR_RETURN(RegionState state, TakeOver(*region));
  for (const auto& transport : transports) {
    // What stores there are is told when it is known.
    if (Endpoint endpoint = transport->endpoint(); !endpoint.is_store()) state.endpoints.push_back(std::move(endpoint));
  }
  const bool leftovers = std::any_of(state.slots.begin(), state.slots.end(),
                                     [](const SlotRecord& record) { return record.state == SlotState::kWriting; });
  const absl::Time begin = MonotonicNow() + (leftovers ? kTakeoverWait : absl::ZeroDuration());
  const uint64_t suspension = state.suspension;
  spdlog::info("rank {} takes over {} incarnation {:x} epoch {} term {} leftovers {}", state.member.rank.value(),
               region->path(), state.member.incarnation, state.maps->epoch.ToString(), state.term_obeyed, leftovers);
  std::unique_ptr<Daemon> daemon(new Daemon(std::move(options), std::move(region), std::move(state), begin,
                                            std::move(transports), std::move(stores)));
  Daemon* self = daemon.get();
  EVENKEEL_RETURN_IF_ERROR(self->strand_.PostEssential([self, suspension] {
    self->strand_.AssertHeld();
    if (suspension != 0) self->BeginSuspension(suspension);
    self->strand_.SetTimer({.next_wakeup =
                                [self] {
                                  self->strand_.AssertHeld();
                                  return self->NextWakeup();
                                },
                            .on_wakeup =
                                [self] {
                                  self->strand_.AssertHeld();
                                  self->WakeUp();
                                }});
  }));
  return daemon;
}

Daemon::Daemon(Options options, std::unique_ptr<engine::AgentRegion> region, RegionState state, absl::Time begin,
               std::vector<std::unique_ptr<Transport>> transports, StoreKeeper::Options stores)
    : options_(std::move(options)),
      region_(std::move(region)),
      begin_(begin),
      rank_(state.member.rank.value()),
      strand_({.name = "agent"}),
      worker_(state),
      view_(state.view),
      watch_(*region_),
      peers_(region_->path().substr(0, region_->path().rfind('/')), state.group.name, state.member.rank),
      stream_(strand_,
              {.controller = options_.controller,
               .credentials = options_.credentials,
               .group = state.group,
               .seed = options_.seed},
              {.opened =
                   [this](uint64_t stream) {
                     strand_.AssertHeld();
                     Feed(StreamOpened{stream});
                   },
               .received =
                   [this](uint64_t stream, ControllerMessage message) {
                     strand_.AssertHeld();
                     Receive(stream, std::move(message));
                   },
               .ended =
                   [this](uint64_t stream, const absl::Status& why) {
                     strand_.AssertHeld();
                     StreamEnded(stream, why);
                   }}),
      suspension_(0),
      own_endpoints_(state.endpoints),
      transfers_(strand_, *region_, std::move(transports),
                 [this](Event event) {
                   strand_.AssertHeld();
                   Feed(std::move(event));
                 }),
      stores_(std::move(stores), *region_, [this](std::vector<Endpoint> offered) { OfferStores(std::move(offered)); }) {
  stores_.SetMaps(state.maps);
}

Daemon::~Daemon() { Stop(); }

void Daemon::Stop() {
  if (std::exchange(stopped_, true)) return;
  absl::Notification shut;
  EVENKEEL_CHECK(strand_
                     .PostEssential([this, &shut] {
                       strand_.AssertHeld();
                       strand_.SetTimer({});
                       stream_.Shut([&shut] { shut.Notify(); });
                     })
                     .ok());
  shut.WaitForNotification();
  stores_.Stop();
  transfers_.Stop();
  strand_.Stop();
}

void Daemon::End(absl::Status outcome) {
  if (over_.HasBeenNotified()) return;
  outcome_ = std::move(outcome);
  over_.Notify();
}

// ---- Time

absl::Time Daemon::NextWakeup() const {
  if (over_.HasBeenNotified()) return absl::InfiniteFuture();
  const absl::Time next = std::min(
      {worker_.NextWakeup(), watch_.NextPoll(), peers_.NextPoll(), stream_.NextWakeup(), engine_ended_at_ + kFarewell});
  return std::max(next, begin_);
}

void Daemon::WakeUp() {
  const absl::Time now = MonotonicNow();
  if (watch_.NextPoll() <= now) {
    for (Event& event : watch_.Poll(now)) Feed(std::move(event));
    if (suspension_ == 0 && watch_.suspension() != 0) BeginSuspension(watch_.suspension());
    if (watch_.suspension() != suspension_) End(absl::AbortedError("the engine has resumed"));
  }
  if (peers_.NextPoll() <= now) CheckPeers(now);
  CheckEngine(now);
  stream_.Advance(now);
  if (worker_.NextWakeup() <= now) Feed(Tick{});
}

void Daemon::CheckPeers(absl::Time now) {
  for (const Member& member : peers_.Poll(now)) {
    if (std::binary_search(view_.members.begin(), view_.members.end(), member)) {
      spdlog::warn("rank {} sees that the engine of rank {} incarnation {:x} has ended", rank_, member.rank.value(),
                   member.incarnation);
    }
    transfers_.Forget(member);
    Feed(PeerEngineEnded{member});
  }
}

void Daemon::CheckEngine(absl::Time now) {
  if (now - transfers_.OldestDeadline() > kCopyStuck) {
    spdlog::critical("rank {} a copy does not end; leaving the region to the next agent", rank_);
    std::_Exit(3);
  }
  if (watch_.engine_alive()) return;
  engine_ended_at_ = std::min(engine_ended_at_, now);
  if (now - engine_ended_at_ >= kFarewell) End(absl::OkStatus());
}

// ---- The core

void Daemon::Feed(Event event) {
  events_.push_back(std::move(event));
  if (std::exchange(feeding_, true)) return;
  while (!events_.empty()) {
    const Event next = std::move(events_.front());
    events_.pop_front();
    const Effects effects = worker_.Step(MonotonicNow(), next);
    for (const Effect& effect : effects) {
      std::visit(
          [this](const auto& one) {
            strand_.AssertHeld();
            Carry(one);
          },
          effect);
    }
  }
  feeding_ = false;
}

void Daemon::Receive(uint64_t stream, ControllerMessage message) {
  if (auto* welcome = std::get_if<Welcome>(&message)) {
    AgentSettings& settings = welcome->settings;
    if (!options_.transport.empty()) settings.transport = options_.transport;
    if (const uint64_t bound = options_.bytes_per_second_max; bound > 0) {
      const uint64_t allowed = settings.bytes_per_second_max;
      settings.bytes_per_second_max = allowed == 0 ? bound : std::min(allowed, bound);
    }
    stores_.Configure(settings);
    stream_.SetBackoffMax(settings.reconnect_max);
    spdlog::info("rank {} controller {} term {}", rank_, options_.controller, welcome->term);
    stream_trouble_.clear();
  }
  Feed(MessageReceived{std::move(message), stream});
}

void Daemon::StreamEnded(uint64_t stream, const absl::Status& why) {
  // Told once, not at every attempt.
  if (std::string trouble = why.ToString(); trouble != stream_trouble_) {
    spdlog::warn("rank {} controller {} stream {} ended: {}", rank_, options_.controller, stream, trouble);
    stream_trouble_ = std::move(trouble);
  }
  Feed(StreamClosed{stream});
}

void Daemon::OfferStores(std::vector<Endpoint> stores) {
  stores.insert(stores.begin(), own_endpoints_.begin(), own_endpoints_.end());
  const absl::Status posted = strand_.PostEssential([this, stores = std::move(stores)] {
    strand_.AssertHeld();
    spdlog::info("rank {} offers {} endpoints, stores among them", rank_, stores.size());
    Feed(OffersChanged{stores});
  });
  static_cast<void>(posted);  // refused only while the agent ends
}

// ---- Effects

void Daemon::Carry(const SendToController& effect) {
  LogMessage(rank_, effect.message);
  stream_.Send(effect.message);
}

void Daemon::Carry(const CloseStream& effect) { stream_.Disconnect(effect.why); }

void Daemon::Carry(const StoreTerm& effect) {
  spdlog::info("rank {} obeys term {}", rank_, effect.term);
  region_->StoreTerm(effect.term);
}

void Daemon::Carry(const WriteMaps& effect) {
  const Maps& maps = *effect.maps;
  stores_.SetMaps(effect.maps);
  const absl::StatusOr<engine::MapsWrite> write =
      region_->TryWriteMaps(maps.epoch, maps.view_number, maps.digest, maps.layers);
  if (!write.ok()) {
    spdlog::critical("rank {} epoch {} does not fit the region: {}", rank_, maps.epoch.ToString(),
                     write.status().ToString());
    return End(write.status());
  }
  const bool written = *write == engine::MapsWrite::kWritten;
  if (written) {
    spdlog::debug("rank {} epoch {} view {} written", rank_, maps.epoch.ToString(), maps.view_number);
    watch_.AwaitQuiescence(MonotonicNow(), maps.epoch, maps.view_number);
  }
  events_.push_back(MapsWritten{.epoch = maps.epoch, .written = written});
}

void Daemon::Carry(const StoreView& effect) {
  spdlog::info("rank {} view {} members {}", rank_, effect.view.number, effect.view.members.size());
  region_->StoreView(effect.view);
  for (const Member& member : view_.members) {
    if (!std::binary_search(effect.view.members.begin(), effect.view.members.end(), member)) {
      transfers_.Forget(member);
    }
  }
  view_ = effect.view;
  watch_.AwaitQuiescence(MonotonicNow(), Epoch{}, view_.number);
}

void Daemon::Carry(const StoreSlot& effect) { region_->StoreSlot(effect.layer, effect.slot, effect.record); }

void Daemon::Carry(const StartTransfer& effect) {
  spdlog::debug("rank {} move {} attempt {} layer {} slot {} expert {} from rank {} slot {}", rank_, effect.move_id,
                effect.attempt, effect.layer.value(), effect.slot.value(), effect.expert.value(),
                effect.source.member.rank.value(), effect.source.slot.value());
  StartTransfer bounded = effect;
  // The transports share one throttle, which holds the sum to the rate named by each.
  if (effect.bytes_per_second_max > 0) bounded.bytes_per_second_max = worker_.settings().bytes_per_second_max;
  transfers_.Start(bounded);
}

void Daemon::Carry(const CancelTransfer& effect) { transfers_.Cancel(effect); }

void Daemon::Carry(const NotifyPostMove& effect) {
  region_->RequestPostMove(effect.layer, effect.slot, effect.generation);
  if (region_->PostMoveAcknowledged(effect.layer, effect.slot, effect.generation)) {
    events_.push_back(
        PostMoveAcknowledged{.layer = effect.layer, .slot = effect.slot, .generation = effect.generation});
  } else {
    watch_.AwaitPostMove(MonotonicNow(), effect.layer, effect.slot, effect.generation);
  }
}

void Daemon::Carry(const FingerprintSlot& effect) { transfers_.Fingerprint(effect); }

void Daemon::Carry(const ReadCounters&) {
  engine::CounterReading reading = region_->ReadCounters();
  CountersRead event;
  event.first_step = reading.first_step;
  event.last_step = reading.last_step;
  event.tokens_of_slot = std::move(reading.tokens_of_slot);
  event.prefill_of_slot = std::move(reading.prefill_of_slot);
  event.decode_of_slot = std::move(reading.decode_of_slot);
  event.num_unrouted_tokens = reading.num_unrouted_tokens;
  events_.push_back(std::move(event));
}

// ---- Suspension

void Daemon::BeginSuspension(uint64_t suspension) {
  suspension_ = suspension;
  spdlog::info("rank {} suspension {} asked for", rank_, suspension);
  stores_.EndSoon([this] {
    const absl::Status posted = strand_.PostEssential([this] {
      strand_.AssertHeld();
      stores_ended_ = true;
      GrantIfQuiet();
    });
    static_cast<void>(posted);  // refused only while the agent ends
  });
}

void Daemon::Carry(const GrantSuspension&) {
  core_grants_ = true;
  GrantIfQuiet();
}

void Daemon::GrantIfQuiet() {
  if (!core_grants_ || !stores_ended_ || over_.HasBeenNotified()) return;
  transfers_.CloseTransports();
  region_->GrantSuspension(suspension_);
  spdlog::info("rank {} suspension {} granted", rank_, suspension_);
}

}  // namespace evenkeel::agent
