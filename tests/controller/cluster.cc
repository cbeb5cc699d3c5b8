// SPDX-License-Identifier: Apache-2.0
#include "tests/controller/cluster.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "catch2/catch.hpp"

#include "algos/base/hash.h"
#include "controller/core/planning/compute_plan.h"

namespace evenkeel::controller {

namespace {

uint64_t DigestOfMaps(const Maps& maps) {
  std::vector<uint64_t> digests;
  for (const algos::LayerMap& map : maps) digests.push_back(algos::DigestOf(map));
  return algos::DigestOf(digests);
}

}  // namespace

Cluster::Cluster(Options the_options) : options(std::move(the_options)), next_report_(now) {
  coordinator = std::make_unique<Coordinator>(options.settings);
  stored_term = options.settings.stored_term;
  agents.resize(static_cast<size_t>(options.shape.num_ranks));
  for (int r = 0; r < options.shape.num_ranks; ++r) RestartEngine(r);
}

void Cluster::StartJoining(int rank) {
  RestartEngine(rank);
  FakeAgent& agent = agents[static_cast<size_t>(rank)];
  agent.joining = agent.outside = true;
  agent.in_use.clear();
  agent.slots.assign(agent.slots.size(), SlotRecord());
}

uint64_t Cluster::FingerprintOf(LayerId layer, ExpertId expert, uint64_t version) const {
  return MixBits(static_cast<uint64_t>(layer.value() * 10000 + expert.value() + 1) + (version << 40));
}

void Cluster::RestartEngine(int rank) {
  FakeAgent& agent = agents[static_cast<size_t>(rank)];
  const uint64_t incarnation = agent.member.incarnation + 100 + static_cast<uint64_t>(rank);
  agent = FakeAgent();
  agent.member = {RankId(rank), incarnation};
  const algos::Placement initial = algos::DefaultPlacement(options.shape, options.world);
  agent.maps.assign(static_cast<size_t>(options.num_layers), algos::EvenMap(initial, options.shape.num_experts));
  agent.outside = options.world > 0 && rank >= options.world;
  if (!agent.outside) agent.in_use = {agent.maps};
  for (int l = 0; l < options.num_layers; ++l) {
    for (int s = 0; s < options.shape.slots_per_rank; ++s) {
      const ExpertId expert = initial.expert_of_slot[options.shape.SlotAt(RankId(rank), s).idx()];
      if (!expert.valid()) {
        agent.slots.push_back(SlotRecord());
        continue;
      }
      agent.slots.push_back({SlotState::kVerified, expert, 0, FingerprintOf(LayerId(l), expert)});
    }
  }
}

SlotRecord& Cluster::RecordOf(LayerId layer, SlotIdx slot) {
  FakeAgent& agent = agents[options.shape.RankOf(slot).idx()];
  return agent.slots[static_cast<size_t>(layer.value() * options.shape.slots_per_rank + options.shape.LocalSlot(slot))];
}

// ---- Streams

Attach Cluster::AttachOf(int rank) const {
  const FakeAgent& agent = agents[static_cast<size_t>(rank)];
  Attach attach;
  attach.group.name = kGroup;
  attach.group.model = "m";
  attach.group.shape = options.shape;
  attach.group.world = options.world;
  attach.group.num_layers = options.num_layers;
  attach.group.expert_bytes = 1000;
  attach.group.routing = options.routing;
  attach.group.weights_version = agent.weights_version;
  attach.suspended = agent.suspended;
  attach.member = agent.member;
  attach.endpoints = {{"local", "host", std::to_string(rank)}};
  attach.term_obeyed = agent.term_obeyed;
  attach.epoch = agent.epoch;
  attach.maps_digest = DigestOfMaps(agent.maps);
  attach.quiesced_epoch = agent.quiesced;
  attach.view = {agent.view_number, agent.view_members};
  attach.joining = agent.joining && agent.epoch == Epoch();
  attach.slots = agent.slots;
  return attach;
}

void Cluster::AttachAgent(int rank) {
  FakeAgent& agent = agents[static_cast<size_t>(rank)];
  agent.session = next_session_++;
  agent.welcomed = false;
  agent.refused.reset();
  Deliver(AgentMessageReceived{*agent.session, AttachOf(rank)});
}

void Cluster::AttachAll() {
  for (int r = 0; r < (options.world == 0 ? options.shape.num_ranks : options.world); ++r) AttachAgent(r);
}

void Cluster::DetachAgent(int rank) {
  FakeAgent& agent = agents[static_cast<size_t>(rank)];
  const auto session = std::exchange(agent.session, std::nullopt);
  if (session.has_value()) Deliver(AgentDetached{*session});
}

void Cluster::RestartController(std::vector<OperationProgress> stored) {
  for (FakeAgent& agent : agents) agent.session.reset();
  inbox_.clear();
  plans.clear();
  CoordinatorSettings settings = options.settings;
  settings.stored_term = stored_term;
  settings.stored_operations = std::move(stored);
  settings.stored_loads = stored_loads;
  coordinator = std::make_unique<Coordinator>(settings);
}

void Cluster::Send(int rank, AgentMessage message) {
  const FakeAgent& agent = agents[static_cast<size_t>(rank)];
  if (agent.session.has_value()) Deliver(AgentMessageReceived{*agent.session, std::move(message)});
}

void Cluster::Rearrange(std::string id, std::string policy, std::vector<LayerId> layers, bool dry_run) {
  Deliver(RearrangeRequested{std::move(id), kGroup, std::move(policy), std::move(layers), dry_run});
}

// ---- The loop

void Cluster::Deliver(const Event& event) {
  inbox_.push_back(event);
  Settle();
}

void Cluster::Settle() {
  if (settling_) return;  // the outer loop takes what was added
  settling_ = true;
  while (!inbox_.empty()) {
    const Event event = std::move(inbox_.front());
    inbox_.pop_front();
    for (const Effect& effect : coordinator->Step(now, event)) Take(effect);
  }
  settling_ = false;
}

void Cluster::Run(absl::Duration duration) {
  const absl::Time end = now + duration;
  while (now < end) {
    next_report_ = std::max(next_report_, now);
    const absl::Time next = std::min({end, next_report_, std::max(coordinator->NextWakeup(), now)});
    now = std::max(next, now + absl::Microseconds(10));
    if (next_report_ <= now) {
      next_report_ = now + absl::Milliseconds(100);
      ReportLoad();
    }
    if (coordinator->NextWakeup() <= now) Deliver(Tick{});
  }
}

bool Cluster::RunUntil(const std::function<bool()>& condition, absl::Duration limit) {
  const absl::Time end = now + limit;
  while (!condition()) {
    if (now >= end) return false;
    Run(absl::Milliseconds(10));
  }
  return true;
}

void Cluster::ReportLoad() {
  ++step;
  for (size_t r = 0; r < agents.size(); ++r) {
    const FakeAgent& agent = agents[r];
    if (!agent.session.has_value() || !agent.welcomed) continue;
    LoadReport report;
    report.time = now;
    report.first_step = report.last_step = step;
    for (size_t l = 0; l < load.size(); ++l) {
      const algos::LayerMap& map = agent.maps[l];
      for (int e = 0; e < options.shape.num_experts; ++e) {
        const auto slots = map.slots_of(ExpertId(e));
        for (size_t i = 0; i < slots.size(); ++i) {
          if (options.shape.RankOf(slots[i]).idx() != r) continue;
          const double share = ignores_shares
                                   ? (i == 0 ? 1.0 : 0.0)
                                   : static_cast<double>(map.ShareUnits(ExpertId(e), static_cast<int>(i))) / 0x1p32;
          const auto tokens = static_cast<uint64_t>(share * static_cast<double>(load[l][static_cast<size_t>(e)]) / 10);
          LoadReport::Entry entry{LayerId(static_cast<int>(l)), slots[i], ExpertId(e), tokens};
          if (l < prefill_load.size()) {
            const double part = share * static_cast<double>(prefill_load[l][static_cast<size_t>(e)]) / 10;
            entry.prefill_tokens = std::min(static_cast<uint64_t>(part), tokens);
            entry.decode_tokens = tokens - entry.prefill_tokens;
          }
          report.entries.push_back(entry);
        }
      }
    }
    Send(static_cast<int>(r), report);
    EngineStatus status;
    status.called_begin_step = status.called_end_step = status.called_route = true;
    status.mean_step_time = agent.mean_step_time;
    status.num_steps = step;
    status.idle = agent.idle;
    if (agent.mean_step_time > absl::ZeroDuration() || agent.idle) Send(static_cast<int>(r), status);
  }
}

void Cluster::Take(const Effect& effect) {
  trace = MixBits(trace ^ effect.index());
  if (const auto* send = std::get_if<SendToAgent>(&effect)) {
    trace = MixBits(trace ^ send->session ^ send->message->index() << 32);
    for (FakeAgent& agent : agents) {
      if (agent.session == send->session) ToAgent(agent, *send->message);
    }
  } else if (const auto* close = std::get_if<CloseSession>(&effect)) {
    for (FakeAgent& agent : agents) {
      if (agent.session == close->session) agent.session.reset();
    }
  } else if (const auto* plan = std::get_if<ComputePlan>(&effect)) {
    plans.push_back(*plan);
    if (hold_plans) return;
    auto computed = RunPlan(*plan);
    REQUIRE(computed.ok());
    inbox_.push_back(PlanComputed{plan->plan_id, std::move(computed)});
    plans.pop_back();
  } else if (const auto* kept = std::get_if<PersistLoad>(&effect)) {
    stored_loads.push_back(*kept->load);
  } else if (const auto* operation = std::get_if<PersistOperation>(&effect)) {
    persisted.push_back(operation->operation);
  } else if (const auto* note = std::get_if<Note>(&effect)) {
    notes.push_back(note->text);
  } else if (const auto* term = std::get_if<PersistTerm>(&effect)) {
    REQUIRE(term->term > stored_term);
    stored_term = term->term;
  } else if (const auto* down = std::get_if<StepDown>(&effect)) {
    stepped_down = down->term;
  }
}

// ---- Agents

void Cluster::ToAgent(FakeAgent& agent, const ControllerMessage& message) {
  if (const auto* welcome = std::get_if<Welcome>(&message)) {
    REQUIRE(welcome->term >= agent.term_obeyed);
    REQUIRE(welcome->term == stored_term);  // durable before anybody hears of it
    agent.term_obeyed = welcome->term;
    agent.welcomed = true;
    inbox_.push_back(AgentMessageReceived{*agent.session, EngineStatus{.called_begin_step = true,
                                                                       .called_end_step = true,
                                                                       .called_route = true,
                                                                       .oldest_open_step = {},
                                                                       .waiting_for = {}}});
  } else if (const auto* view = std::get_if<ViewUpdate>(&message)) {
    REQUIRE(view->view.number >= agent.view_number);
    JudgeView(agent, view->view);
    agent.view_number = view->view.number;
    agent.view_members = view->view.members;
    const auto& members = agent.view_members;
    if (std::find(members.begin(), members.end(), agent.member) == members.end()) {
      agent.outside = true;
      agent.in_use.clear();
    }
    Quiesce(agent);
  } else if (const auto* update = std::get_if<MapsUpdate>(&message)) {
    Obey(agent, *update);
  } else if (const auto* order = std::get_if<MoveOrder>(&message)) {
    orders.push_back(*order);
    Obey(agent, *order);
  } else if (const auto* cancel = std::get_if<CancelMove>(&message)) {
    cancels.push_back(*cancel);
    Obey(agent, *cancel);
  } else if (const auto* refused = std::get_if<Refused>(&message)) {
    agent.refused = refused->status;
  } else if (std::holds_alternative<SlotsReleased>(message)) {
    REQUIRE(agent.suspended);
    agent.released = true;
  }
}

void Cluster::Obey(FakeAgent& agent, const MapsUpdate& update) {
  const bool full = update.base_epoch == update.epoch;
  REQUIRE(agent.welcomed);
  REQUIRE(update.epoch > agent.epoch);
  REQUIRE(update.view_number == agent.view_number);
  REQUIRE((full ? update.layers.size() == agent.maps.size() : update.base_epoch == agent.epoch));
  Maps maps = agent.maps;
  for (const auto& [layer, map] : update.layers) maps[layer.idx()] = map;
  REQUIRE(DigestOfMaps(maps) == update.maps_digest);
  JudgeMaps(maps);
  agent.maps = maps;
  agent.outside = false;
  agent.in_use.push_back(std::move(maps));
  agent.epoch = update.epoch;
  updates.push_back(update);
  Quiesce(agent);
}

void Cluster::Quiesce(FakeAgent& agent) {
  if (agent.stalled) return;
  agent.in_use.clear();
  if (!agent.outside) agent.in_use.push_back(agent.maps);
  agent.quiesced = agent.epoch;
  agent.accepted = agent.view_members;
  if (agent.session.has_value()) {
    inbox_.push_back(
        AgentMessageReceived{*agent.session, Quiesced{agent.epoch, DigestOfMaps(agent.maps), agent.view_number}});
  }
}

void Cluster::Obey(FakeAgent& agent, const MoveOrder& order) {
  SlotRecord& record = RecordOf(order.layer, order.slot);
  REQUIRE(options.shape.RankOf(order.slot) == agent.member.rank);
  REQUIRE(order.generation == record.generation + 1);
  REQUIRE_FALSE(agent.suspended);
  REQUIRE(order.fingerprint == FingerprintOf(order.layer, order.expert, agent.weights_version));
  REQUIRE(!order.sources.empty());
  REQUIRE(agent.quiesced >= order.retired_since);
  JudgeWrite(order.layer, order.slot);
  const auto& source = order.sources.front();
  if (source.member.rank.valid()) {  // else a store
    const SlotRecord& content = RecordOf(order.layer, source.slot);
    REQUIRE(content.state == SlotState::kVerified);
    REQUIRE(content.expert == order.expert);
    REQUIRE_FALSE(agents[source.member.rank.idx()].released);
    REQUIRE(content.fingerprint == order.fingerprint);
  }
  record = {SlotState::kWriting, order.expert, order.generation, 0};
  agent.moves[{order.layer.value(), order.slot.value()}] = order;
  if (!agent.holds_moves) EndMove(agent, order);
}

void Cluster::EndMove(FakeAgent& agent, const MoveOrder& order) {
  agent.moves.erase({order.layer.value(), order.slot.value()});
  SlotRecord& record = RecordOf(order.layer, order.slot);
  JudgeWrite(order.layer, order.slot);
  AgentMessage answer;
  if (agent.num_moves_to_corrupt > 0 || agent.num_moves_to_fail > 0) {
    const bool corrupt = agent.num_moves_to_corrupt > 0;
    --(corrupt ? agent.num_moves_to_corrupt : agent.num_moves_to_fail);
    record = {SlotState::kFree, ExpertId(), order.generation, 0};
    MoveFailed failed{
        order.move_id, order.layer, order.slot, order.generation, {}, false, order.sources[0].member.rank};
    failed.status = corrupt ? absl::DataLossError("fingerprint mismatch") : absl::UnavailableError("peer away");
    answer = failed;
  } else {
    record = {SlotState::kVerified, order.expert, order.generation, order.fingerprint};
    answer = MoveFinished{order.move_id,
                          order.layer,
                          order.slot,
                          order.generation,
                          order.fingerprint,
                          1000,
                          absl::Milliseconds(1),
                          std::exchange(agent.num_mismatches, 0)};
  }
  if (agent.session.has_value()) inbox_.push_back(AgentMessageReceived{*agent.session, answer});
}

void Cluster::Obey(FakeAgent& agent, const CancelMove& cancel) {
  SlotRecord& record = RecordOf(cancel.layer, cancel.slot);
  MoveFailed failed{cancel.move_id, cancel.layer, cancel.slot, cancel.generation, absl::AbortedError("cancelled"),
                    false,          RankId()};
  if (record.generation == cancel.generation && record.state == SlotState::kVerified) {
    inbox_.push_back(AgentMessageReceived{
        *agent.session,
        MoveFinished{cancel.move_id, cancel.layer, cancel.slot, cancel.generation, record.fingerprint, 0, {}}});
    return;
  }
  if (record.generation < cancel.generation) {
    record.generation = cancel.generation;
    failed.content_kept = record.state == SlotState::kVerified;
  } else if (record.state == SlotState::kWriting) {
    agent.moves.erase({cancel.layer.value(), cancel.slot.value()});
    record = {SlotState::kFree, ExpertId(), cancel.generation, 0};
  }
  inbox_.push_back(AgentMessageReceived{*agent.session, failed});
}

void Cluster::Resume(int rank) {
  FakeAgent& agent = agents[static_cast<size_t>(rank)];
  agent.stalled = agent.holds_moves = false;
  Quiesce(agent);
  const auto moves = agent.moves;
  for (const auto& [key, order] : moves) EndMove(agent, order);
  Settle();
}

std::string Cluster::StateOf(std::string_view operation) const {
  static const char* const kNames[] = {"planning", "running", "done", "failed", "skipped", "superseded", "cancelled"};
  const auto found = coordinator->GetOperation(operation);
  return found.ok() ? kNames[static_cast<size_t>(found->state)] : "unknown";
}

}  // namespace evenkeel::controller
