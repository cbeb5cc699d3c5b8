// SPDX-License-Identifier: Apache-2.0
#include "tests/agent/core_script.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "agent/core/map_update.h"
#include "algos/placement.h"

namespace evenkeel::agent::script {

GroupInfo Group(CountPlace count_place) {
  GroupInfo group;
  group.name = "g";
  group.model = "m";
  group.shape = {.num_experts = 4, .num_ranks = 2, .slots_per_rank = 3};
  group.num_layers = 2;
  group.expert_bytes = 1000;
  group.count_place = count_place;
  return group;
}

uint64_t FingerprintOf(LayerId layer, ExpertId expert) {
  return static_cast<uint64_t>(100 * layer.value() + expert.value());
}

RegionState Region(CountPlace count_place) {
  RegionState region;
  region.group = Group(count_place);
  region.member = {RankId(1), kIncarnation};
  region.maps = DefaultMaps(region.group);
  for (int layer = 0; layer < 2; ++layer) {
    for (int expert : {2, 3, 0}) {
      region.slots.push_back({.state = SlotState::kVerified,
                              .expert = ExpertId(expert),
                              .fingerprint = FingerprintOf(LayerId(layer), ExpertId(expert))});
    }
  }
  region.tokens_of_slot.assign(count_place == CountPlace::kRouter ? 12 : 6, 0);
  return region;
}

algos::LayerMap MapOf(std::vector<int> experts) {
  algos::Placement placement;
  for (int expert : experts) placement.expert_of_slot.push_back(ExpertId(expert));
  return algos::EvenMap(placement, 4);
}

MapsUpdate Update(Epoch epoch, const Maps* held, std::vector<std::pair<int, algos::LayerMap>> layers,
                  uint64_t view_number) {
  MapsUpdate update{.epoch = epoch, .view_number = view_number, .base_epoch = epoch, .layers = {}};
  std::vector<algos::LayerMap> all(2);
  if (held != nullptr) {
    all = held->layers;
    update.base_epoch = held->epoch;
  }
  for (auto& [layer, map] : layers) {
    all[static_cast<size_t>(layer)] = map;
    update.layers.emplace_back(LayerId(layer), std::move(map));
  }
  update.maps_digest = DigestOf(all);
  return update;
}

MoveOrder Order(uint64_t move_id, int slot, uint64_t generation, Epoch retired_since, int num_sources) {
  MoveOrder order{.move_id = move_id,
                  .layer = LayerId(0),
                  .expert = ExpertId(1),
                  .slot = SlotIdx(slot),
                  .generation = generation,
                  .fingerprint = FingerprintOf(LayerId(0), ExpertId(1)),
                  .retired_since = retired_since,
                  .sources = {},
                  .deadline = absl::Seconds(10)};
  for (int i = 0; i < num_sources; ++i) {
    order.sources.push_back(
        {.member = {RankId(0), 66}, .slot = SlotIdx(1 + i), .generation = 0, .endpoint = {"local", "h", "a"}});
  }
  return order;
}

CancelMove CancelOf(const MoveOrder& order) {
  return {.move_id = order.move_id, .layer = order.layer, .slot = order.slot, .generation = order.generation};
}

namespace {

std::string Place(LayerId layer, SlotIdx slot) { return absl::StrCat(layer.value(), "/", slot.value()); }

std::string Short(const SlotRecord& record) {
  static constexpr const char* kStates[] = {"free", "writing", "verified", "condemned"};
  return absl::StrCat(kStates[static_cast<int>(record.state)], " e", record.expert.value(), " g", record.generation);
}

struct MessagePrinter {
  std::string operator()(const Attach& m) const {
    std::vector<std::string> slots;
    for (const SlotRecord& record : m.slots) slots.push_back(Short(record));
    return absl::StrCat("attach term ", m.term_obeyed, " epoch ", m.epoch.ToString(), " quiesced ",
                        m.quiesced_epoch.ToString(), " view ", m.view.number, m.suspended ? " suspended" : "", " [",
                        absl::StrJoin(slots, ", "), "]");
  }
  std::string operator()(const Quiesced& m) const {
    return absl::StrCat("quiesced ", m.epoch.ToString(), " view ", m.view_number);
  }
  std::string operator()(const MapsRefused& m) const {
    return absl::StrCat("refused ", m.epoch.ToString(), " held ", m.held_epoch.ToString(), ": ", m.reason);
  }
  std::string operator()(const LoadReport& m) const {
    std::vector<std::string> entries;
    for (const LoadReport::Entry& e : m.entries) {
      const bool is_split = e.prefill_tokens + e.decode_tokens > 0;
      const std::string phases = is_split ? absl::StrCat(" p", e.prefill_tokens, " d", e.decode_tokens) : "";
      entries.push_back(absl::StrCat(Place(e.layer, e.slot), " e", e.expert.value(), " ", e.tokens, phases));
    }
    return absl::StrCat("load steps ", m.first_step, "-", m.last_step, " [", absl::StrJoin(entries, ", "),
                        "] unrouted ", m.num_unrouted_tokens);
  }
  std::string operator()(const EngineStatus& m) const {
    const bool is_timed = m.mean_step_time > absl::ZeroDuration();
    return absl::StrCat(
        "engine ",
        !m.alive      ? "ended"
        : m.suspended ? "suspended"
                      : "alive",
        " steps ", m.num_steps,
        is_timed ? absl::StrCat(" mean ", absl::FormatDuration(m.mean_step_time), " a second ", m.steps_per_second)
                 : "");
  }
  std::string operator()(const MoveFinished& m) const {
    return absl::StrCat("finished ", m.move_id, " ", Place(m.layer, m.slot), " g", m.generation, " bytes ", m.bytes,
                        " mismatches ", m.num_mismatches);
  }
  std::string operator()(const MoveFailed& m) const {
    return absl::StrCat("failed ", m.move_id, " ", Place(m.layer, m.slot), " g", m.generation, " ",
                        absl::StatusCodeToString(m.status.code()), m.content_kept ? " kept" : " lost", " from ",
                        m.source.value(), " mismatches ", m.num_mismatches);
  }
  std::string operator()(const EndpointsChanged& m) const {
    return absl::StrCat("offers ", absl::StrJoin(m.endpoints, " ", [](std::string* out, const Endpoint& endpoint) {
                          absl::StrAppend(out, endpoint.transport);
                        }));
  }
  std::string operator()(const PeerEnded& m) const { return absl::StrCat("peer ended ", m.member.rank.value()); }
  std::string operator()(const SlotLost& m) const {
    return absl::StrCat("slot lost ", Place(m.layer, m.slot), " g", m.generation);
  }
};

struct EffectPrinter {
  std::string operator()(const SendToController& e) const { return std::visit(MessagePrinter{}, e.message); }
  std::string operator()(const CloseStream& e) const {
    return absl::StrCat("close ", absl::StatusCodeToString(e.why.code()));
  }
  std::string operator()(const StoreTerm& e) const { return absl::StrCat("store term ", e.term); }
  std::string operator()(const WriteMaps& e) const { return absl::StrCat("write maps ", e.maps->epoch.ToString()); }
  std::string operator()(const StoreView& e) const { return absl::StrCat("store view ", e.view.number); }
  std::string operator()(const StoreSlot& e) const {
    return absl::StrCat("store ", Place(e.layer, e.slot), " ", Short(e.record));
  }
  std::string operator()(const StartTransfer& e) const {
    return absl::StrCat("transfer ", e.move_id, ".", e.attempt, " ", Place(e.layer, e.slot), " e", e.expert.value(),
                        " from slot ", e.source.slot.value(), " rate ", e.bytes_per_second_max);
  }
  std::string operator()(const CancelTransfer& e) const {
    return absl::StrCat("cancel transfer ", e.move_id, ".", e.attempt);
  }
  std::string operator()(const NotifyPostMove& e) const {
    return absl::StrCat("post move ", Place(e.layer, e.slot), " g", e.generation);
  }
  std::string operator()(const FingerprintSlot& e) const {
    return absl::StrCat("fingerprint ", Place(e.layer, e.slot), " g", e.generation);
  }
  std::string operator()(const ReadCounters&) const { return "read counters"; }
  std::string operator()(const GrantSuspension& e) const { return absl::StrCat("grant ", e.suspension); }
};

}  // namespace

std::string Describe(const Effect& effect) { return std::visit(EffectPrinter{}, effect); }

std::string Describe(const Effects& effects) {
  return absl::StrJoin(effects, "\n",
                       [](std::string* out, const Effect& effect) { absl::StrAppend(out, Describe(effect)); });
}

AgentSettings Agent::Quiet() {
  AgentSettings settings;
  settings.report_interval = absl::Hours(24);
  settings.scrub_interval = absl::ZeroDuration();
  return settings;
}

std::string Agent::Attach(uint32_t term, AgentSettings settings) {
  Give(StreamOpened{++stream});
  return Hear(Welcome{.term = term, .settings = std::move(settings)});
}

void Agent::Settle(Epoch epoch, std::vector<int> experts) {
  Hear(Update(epoch, worker.newest_maps().get(), {{0, MapOf(std::move(experts))}}));
  Give(MapsWritten{.epoch = epoch, .written = true});
  Observe(epoch);
}

std::string Agent::Observe(Epoch quiesced, uint64_t view) {
  return Give(EngineObserved{.quiesced_epoch = quiesced, .quiesced_view = view, .status = {}});
}

std::string Agent::Count(std::vector<uint64_t> tokens_of_slot) {
  return Give(CountersRead{.first_step = 1, .last_step = 2, .tokens_of_slot = std::move(tokens_of_slot)});
}

std::string Agent::End(uint64_t move_id, int attempt, uint64_t fingerprint) {
  return Give(TransferEnded{
      .move_id = move_id, .attempt = attempt, .status = absl::OkStatus(), .fingerprint = fingerprint, .bytes = 1000});
}

std::string Agent::EndBadly(uint64_t move_id, int attempt, absl::Status status) {
  return Give(TransferEnded{.move_id = move_id, .attempt = attempt, .status = std::move(status)});
}

}  // namespace evenkeel::agent::script
