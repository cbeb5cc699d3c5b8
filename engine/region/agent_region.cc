// SPDX-License-Identifier: Apache-2.0
#include "engine/region/agent_region.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"
#include "algos/base/status_macros.h"
#include "engine/region/device_slots.h"
#include "engine/region/hand_over.h"
#include "engine/region/ready_region.h"
#include "engine/region/region_view.h"
#include "engine/region/to_status.h"

namespace evenkeel::engine {

namespace {

// A lane chooses for tens of nanoseconds; so often it is asked again before "no bank free".
constexpr int kAsksMax = 200;

// As evenkeel_phase numbers them.
constexpr int kOtherPhase = 0;
constexpr int kPrefillPhase = 1;
constexpr int kDecodePhase = 2;
static_assert(kPhases == 3);

int64_t MonotonicNs() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

algos::LayerMap ReadTable(const LayerTable& table, int num_experts, int num_slots) {
  algos::LayerMap map;
  map.offsets.assign(table.offsets, table.offsets + num_experts + 1);
  const int32_t count = std::clamp(map.offsets.back(), 0, num_slots);
  for (int32_t i = 0; i < count; ++i) {
    map.slots.push_back(SlotIdx(table.slots[i]));
    map.bounds.push_back(table.bounds[i]);
  }
  return map;
}

void WriteTable(const algos::LayerMap& map, const LayerTable& table) {
  std::copy(map.offsets.begin(), map.offsets.end(), table.offsets);
  std::transform(map.slots.begin(), map.slots.end(), table.slots, [](SlotIdx slot) { return slot.value(); });
  std::copy(map.bounds.begin(), map.bounds.end(), table.bounds);
}

View ReadView(const RegionView& region) {
  View view{.number = region.newest_view().Load(), .members = {}};
  for (int rank = 0; rank < region.sizes().num_ranks && view.number != 0; ++rank) {
    uint64_t incarnation = 0;
    if (region.FindMember(view.number, rank, &incarnation) && incarnation != 0) {
      view.members.push_back({RankId(rank), incarnation});
    }
  }
  return view;
}

std::vector<uint64_t> ReadTokens(const RegionView& view, int phase) {
  const auto count = static_cast<size_t>(view.sizes().num_layers) * static_cast<size_t>(view.sizes().slots_counted());
  std::vector<uint64_t> tokens(count, 0);
  for (int c = 0; c < view.sizes().num_counters(); ++c) {
    const Word* row = view.counters(c, phase);
    for (size_t i = 0; i < count; ++i) tokens[i] += row[i].Load();
  }
  return tokens;
}

// Fills what RegionContent and CounterReading have in common.
template <typename Tokens>
void ReadTokensTo(const RegionView& view, Tokens& to) {
  to.prefill_of_slot = ReadTokens(view, kPrefillPhase);
  to.decode_of_slot = ReadTokens(view, kDecodePhase);
  to.tokens_of_slot = ReadTokens(view, kOtherPhase);
  for (size_t i = 0; i < to.tokens_of_slot.size(); ++i) {
    to.tokens_of_slot[i] += to.prefill_of_slot[i] + to.decode_of_slot[i];
  }
}

uint64_t SumOverLanes(const RegionView& view, Word LaneCell::*word) {
  uint64_t sum = 0;
  for (int l = 0; l < view.num_lanes(); ++l) sum += (view.lane(l).*word).Load();
  return sum;
}

}  // namespace

AgentRegion::AgentRegion(std::unique_ptr<RegionView> view) : view_(std::move(view)), group_(GroupOf(*view_)) {}
AgentRegion::~AgentRegion() = default;

absl::StatusOr<std::unique_ptr<AgentRegion>> AgentRegion::Open(const std::string& path) {
  EVENKEEL_ASSIGN_OR_RETURN(auto view, OpenReadyRegion(path, SharedMemory::Access::kReadWrite));
  const auto locked = view->memory().TryLock(kAgentLockByte);
  if (!locked.ok()) return ToStatus(locked.error);
  RegionHeader& header = view->header();
  if (!locked.value) {
    // It may be the engine itself, which holds the lock for a moment where there is no agent.
    if (view->IsSuspended() && header.suspension_granted.Load() != header.suspension.Load()) {
      return absl::UnavailableError(absl::StrCat("open ", path, ": its engine is being suspended"));
    }
    return absl::AlreadyExistsError(absl::StrCat("two agents for one rank: the agent with pid ",
                                                 header.agent_pid.Load(), " has rank ", view->sizes().rank,
                                                 " of group ", header.group));
  }
  auto region = std::unique_ptr<AgentRegion>(new AgentRegion(std::move(view)));
  region->had_agent_before_ = header.agent_pid.Load() != 0;
  header.agent_pid.Store(static_cast<uint64_t>(::getpid()));
  EVENKEEL_RETURN_IF_ERROR(region->MapDevice());
  region->last_step_ = SumOverLanes(*region->view_, &LaneCell::num_begun);
  region->ReadQuiesced();
  return region;
}

absl::Status AgentRegion::MapDevice() {
  if (!on_device()) return absl::OkStatus();
  if (const auto opened = kernels::CudaDevice::Open(device(), &device_); !opened.ok()) {
    return absl::FailedPreconditionError(absl::StrCat("open ", path(), ": ", opened.text));
  }
  auto mapping = DeviceMapping::Create(*view_, *device_);
  if (!mapping.ok()) return absl::FailedPreconditionError(absl::StrCat("open ", path(), ": ", mapping.error.message));
  mapping_ = std::move(mapping.value);
  return absl::OkStatus();
}

std::string AgentRegion::path() const { return view_->memory().path(); }
const GroupInfo& AgentRegion::group() const { return group_; }
Member AgentRegion::member() const { return {RankId(view_->sizes().rank), view_->header().incarnation.Load()}; }
bool AgentRegion::had_agent_before() const { return had_agent_before_; }
bool AgentRegion::has_post_move() const { return view_->header().has_post_move.Load() != 0; }
WeightsSegment AgentRegion::weights() const {
  if (on_device()) return {};
  return {view_->weights(), view_->sizes().weights_bytes};
}
bool AgentRegion::on_device() const { return view_->on_device(); }
kernels::CudaUuid AgentRegion::device() const { return DeviceOf(*view_); }
bool AgentRegion::EngineAlive() const { return view_->memory().IsLockedElsewhere(kEngineLockByte); }

uint64_t AgentRegion::Suspension() const {
  const uint64_t suspension = view_->header().suspension.Load();
  return suspension % 2 != 0 ? suspension : 0;
}

void AgentRegion::GrantSuspension(uint64_t suspension) { view_->header().suspension_granted.StoreAndFence(suspension); }

absl::StatusOr<RegionContent> AgentRegion::ReadContent() const {
  const RegionSizes& sizes = view_->sizes();
  const uint32_t newest = BankOf(view_->newest().Load());
  RegionContent content;
  content.group = group_;
  content.member = member();
  content.joining = sizes.joining != 0;
  content.suspension = Suspension();
  content.term_obeyed = static_cast<uint32_t>(view_->header().term_obeyed.Load());
  content.epoch = Epoch::FromPacked(view_->bank(newest).epoch.Load());
  content.maps_view_number = view_->bank(newest).view_number.Load();
  content.maps_digest = view_->bank(newest).digest.Load();
  for (int layer = 0; layer < sizes.num_layers; ++layer) {
    content.maps.push_back(ReadTable(view_->table(newest, layer), sizes.num_experts, sizes.num_slots()));
    if (absl::Status status = Validate(content.maps.back(), group_.shape, {.allow_dead_experts = true}); !status.ok()) {
      return absl::DataLossError(absl::StrCat("read layer ", layer, " of ", path(), ": ", status.message()));
    }
    for (int local = 0; local < sizes.slots_per_rank; ++local) {
      content.slots.push_back(RecordOf(view_->ReadSlot(layer, local)));
    }
  }
  content.view = ReadView(*view_);
  content.quiesced = quiesced_;
  ReadTokensTo(*view_, content);
  return content;
}

absl::StatusOr<MapsWrite> AgentRegion::TryWriteMaps(Epoch epoch, uint64_t view_number, uint64_t digest,
                                                    std::span<const algos::LayerMap> maps) {
  if (maps.size() != static_cast<size_t>(group_.num_layers)) {
    return absl::InvalidArgumentError(absl::StrCat("write maps of epoch ", epoch.ToString(), ": ", maps.size(),
                                                   " layers; the group has ", group_.num_layers));
  }
  for (size_t layer = 0; layer < maps.size(); ++layer) {
    if (absl::Status status = Validate(maps[layer], group_.shape, {.allow_dead_experts = true}); !status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("write maps of epoch ", epoch.ToString(), ", layer ", layer, ": ", status.message()));
    }
  }
  const uint64_t newest_epoch = view_->bank_epoch(BankOf(view_->newest().Load())).Load();
  if (epoch.packed() <= newest_epoch) {
    return absl::FailedPreconditionError(absl::StrCat("write maps of epoch ", epoch.ToString(),
                                                      ": the region has epoch ",
                                                      Epoch::FromPacked(newest_epoch).ToString()));
  }
  std::optional<uint32_t> free;
  for (int i = 0; i < kAsksMax && !free.has_value(); ++i) free = FindFreeBank(*view_);
  if (!free.has_value()) return MapsWrite::kNoBankFree;
  BankCell& bank = view_->bank(*free);
  bank.epoch.Store(epoch.packed());
  bank.view_number.Store(view_number);
  bank.digest.Store(digest);
  for (size_t layer = 0; layer < maps.size(); ++layer) {
    WriteTable(maps[layer], view_->table(*free, static_cast<int>(layer)));
  }
  PublishBank(*view_, *free);
  return MapsWrite::kWritten;
}

void AgentRegion::StoreTerm(uint32_t term) {
  EVENKEEL_CHECK(term >= view_->header().term_obeyed.Load());
  view_->header().term_obeyed.Store(term);
}

void AgentRegion::StoreView(const View& next) {
  const View held = ReadView(*view_);
  if (next.number <= held.number) return;
  const auto num_ranks = static_cast<size_t>(view_->sizes().num_ranks);
  std::vector<uint64_t> before(num_ranks, 0), after(num_ranks, 0);
  for (const Member& member : held.members) before[member.rank.idx()] = member.incarnation;
  for (const Member& member : next.members) {
    EVENKEEL_CHECK(member.rank.valid() && member.rank.idx() < num_ranks);
    after[member.rank.idx()] = member.incarnation;
  }
  const int bank = view_->view(0).number.Load() == held.number ? 1 : 0;
  view_->view(bank).number.Store(ViewCell::kInvalid);
  bool any_changed = false;
  for (size_t rank = 0; rank < num_ranks; ++rank) {
    view_->members(bank)[rank].Store(after[rank]);
    // In view 0 every rank of the world is a member, whatever its incarnation.
    const bool is_any = held.number == 0 && rank < static_cast<size_t>(view_->sizes().world);
    const bool joins = after[rank] != 0 && after[rank] != before[rank] && !is_any;
    if (joins) view_->joined()[rank].Store(next.number);
    any_changed |= joins || (after[rank] == 0 && (before[rank] != 0 || is_any));
  }
  if (any_changed) view_->header().newest_change.Store(next.number);
  for (size_t rank = 0; rank < num_ranks; ++rank) {
    // Polled by engines in mid-step. A newcomer is passed over until maps that presume its view are taken.
    __atomic_store_n(&view_->lost()[rank], after[rank] == 0 ? 1 : 0, __ATOMIC_RELEASE);
  }
  view_->view(bank).number.Store(next.number);
  view_->newest_view().StoreAndFence(next.number);
}

void AgentRegion::StoreSlot(LayerId layer, SlotIdx slot, const SlotRecord& record) {
  view_->WriteSlot(layer.value(), LocalSlot(slot),
                   {.state = static_cast<uint32_t>(record.state),
                    .expert = record.expert.value(),
                    .generation = record.generation,
                    .fingerprint = record.fingerprint});
}

SlotRecord AgentRegion::ReadSlot(LayerId layer, SlotIdx slot) const {
  return RecordOf(view_->ReadSlot(layer.value(), LocalSlot(slot)));
}

int AgentRegion::LocalSlot(SlotIdx slot) const {
  EVENKEEL_CHECK(slot.valid() && group_.shape.RankOf(slot).value() == view_->sizes().rank);
  return group_.shape.LocalSlot(slot);
}

void AgentRegion::RequestPostMove(LayerId layer, SlotIdx slot, uint64_t generation) {
  view_->slot(layer.value(), LocalSlot(slot)).post_move_requested.Store(generation);
  view_->header().num_post_move_requests.Add(1);
}

bool AgentRegion::PostMoveAcknowledged(LayerId layer, SlotIdx slot, uint64_t generation) const {
  return !has_post_move() || view_->slot(layer.value(), LocalSlot(slot)).post_move_done.Load() == generation;
}

Quiescence AgentRegion::ReadQuiesced() {
  std::optional<QuiescedAt> at;
  for (int i = 0; i < kAsksMax && !at.has_value(); ++i) at = FindQuiesced(*view_);
  if (at.has_value()) quiesced_ = {Epoch::FromPacked(at->epoch), at->view};
  return quiesced_;
}

CounterReading AgentRegion::ReadCounters() {
  CounterReading reading;
  reading.first_step = std::exchange(last_step_, SumOverLanes(*view_, &LaneCell::num_begun));
  reading.last_step = last_step_;
  ReadTokensTo(*view_, reading);
  const auto count = static_cast<size_t>(group_.num_layers) * static_cast<size_t>(group_.shape.num_experts);
  for (int l = 0; l < view_->num_lanes(); ++l) {
    for (size_t i = 0; i < count; ++i) reading.num_unrouted_tokens += view_->unrouted(l)[i].Load();
  }
  return reading;
}

EngineStatus AgentRegion::ReadStatus() const {
  const RegionHeader& header = view_->header();
  const int64_t now = MonotonicNs();
  EngineStatus status;
  status.alive = EngineAlive();
  status.leaving = header.leaving.Load() != 0;
  status.suspended = Suspension() != 0;
  status.busy_lease = BusyLeaseLeft();
  status.called_begin_step = header.called_begin_step.Load() != 0;
  status.num_calls_waited = header.num_calls_waited.Load();
  int64_t oldest = now;
  bool any_open = false, any_idle = false, all_idle = true;
  for (int l = 0; l < view_->num_lanes(); ++l) {
    LaneCell& lane = view_->lane(l);
    status.num_steps += lane.num_ended.Load();
    status.called_end_step |= lane.called_end_step.Load() != 0;
    status.called_route |= lane.called_route.Load() != 0;
    const uint64_t waiting_for = lane.waiting_for.Load();
    if (waiting_for != 0) status.waiting_for.push_back(RankId(static_cast<int32_t>(waiting_for - 1)));
    any_idle |= lane.idle.Load() != 0;
    all_idle &= lane.idle.Load() != 0 || lane.num_begun.Load() == 0;
    for (TicketCell& open : lane.tickets) {
      if (!IsOpen(open)) continue;
      any_open = true;
      oldest = std::min(oldest, static_cast<int64_t>(open.begun_ns.Load()));
    }
  }
  status.idle = !any_open && any_idle && all_idle;
  if (status.busy_lease == absl::ZeroDuration()) status.oldest_open_step = absl::Nanoseconds(now - oldest);
  std::sort(status.waiting_for.begin(), status.waiting_for.end());
  status.waiting_for.erase(std::unique(status.waiting_for.begin(), status.waiting_for.end()), status.waiting_for.end());
  return status;
}

StepTimes AgentRegion::ReadStepTimes() const {
  return {.num_steps = SumOverLanes(*view_, &LaneCell::num_timed),
          .total = absl::Nanoseconds(static_cast<int64_t>(SumOverLanes(*view_, &LaneCell::timed_ns)))};
}

absl::Duration AgentRegion::BusyLeaseLeft() const {
  const int64_t left = static_cast<int64_t>(view_->header().busy_until_ns.Load()) - MonotonicNs();
  return absl::Nanoseconds(std::max<int64_t>(left, 0));
}

std::vector<std::span<std::byte>> AgentRegion::SlotBytes(LayerId layer, SlotIdx slot) const {
  std::vector<std::span<std::byte>> ranges;
  for (int t = 0; t < view_->tensor_count(layer.value()); ++t) {
    ranges.push_back(view_->TensorBytes(layer.value(), t, LocalSlot(slot)));
  }
  return ranges;
}

uint64_t AgentRegion::FingerprintSlot(LayerId layer, SlotIdx slot) const {
  EVENKEEL_CHECK(!on_device());
  return view_->FingerprintSlot(layer.value(), LocalSlot(slot));
}

absl::StatusOr<std::vector<uint64_t>> AgentRegion::FingerprintSlots(
    std::span<const std::pair<LayerId, SlotIdx>> slots) const {
  std::vector<LocalSlotAt> at;
  for (const auto& [layer, slot] : slots) at.push_back({layer.value(), LocalSlot(slot)});
  std::vector<uint64_t> fingerprints(slots.size());
  EVENKEEL_RETURN_IF_ERROR(ToStatus(engine::FingerprintSlots(*view_, device_.get(), at, fingerprints.data())));
  return fingerprints;
}

}  // namespace evenkeel::engine
