// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/engine.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"

#include "algos/base/status_macros.h"
#include "engine/evenkeel.h"
#include "engine/reference/config.h"
#include "engine/reference/corpus.h"
#include "engine/reference/exchange_client.h"
#include "engine/reference/exchange_server.h"
#include "engine/reference/expert.h"
#include "engine/reference/failure.h"
#include "engine/reference/meeting.h"
#include "engine/reference/model.h"
#include "engine/reference/options.h"
#include "engine/reference/parallel_experts.h"
#include "engine/reference/peer_service.h"
#include "engine/reference/reload.h"
#include "engine/reference/request_server.h"
#include "engine/reference/requests.h"
#include "engine/reference/safetensors.h"
#include "engine/reference/serving.h"
#include "engine/reference/signals.h"
#include "engine/reference/slots.h"
#include "engine/reference/status.h"

namespace evenkeel::engine {
namespace {

constexpr absl::Duration kStatusPeriod = absl::Milliseconds(250);
constexpr int kRequestsWaitingMax = 64;
constexpr absl::Duration kGreetPeriod = absl::Milliseconds(20);
constexpr absl::Duration kByeDeadline = absl::Seconds(1);  // how long peers that go on are served at the end

// One rank: everything it has, in the order in which it is made.
class Engine {
 public:
  Engine(const EngineOptions& options, const ModelConfig& config, Failure::Kind failure)
      : options_(options),
        config_(config),
        slots_per_rank_(SlotsPerRank(options, config.num_experts)),
        on_loss_(*ParseOnLoss(options.on_loss)),
        failure_(
            failure, static_cast<uint64_t>(options.fail_after_steps),
            {.length = options.pause,
             .announce =
                 [this](absl::Duration length) { evenkeel_busy_lease(region_, 2 * absl::ToDoubleSeconds(length)); }}),
        requests_(kRequestsWaitingMax, options.prompt_bytes + options.decode_bytes) {}
  ~Engine();

  absl::Status Load();
  absl::Status Serve();

 private:
  struct Lane {
    std::unique_ptr<ExchangeClient> client;
    std::unique_ptr<ParallelExperts> experts;
    std::optional<DenseExperts> plain;
    std::unique_ptr<Serving> serving;
    std::thread thread;
    absl::Status status;  // of the thread, once joined
  };

  absl::Status MakeRegion(const Safetensors& file);
  absl::Status TakeRequests();
  void MakeLane(int index);
  void StartService();
  absl::Status Meet();
  absl::Status AwaitFirstMap();
  void RunService();
  absl::Status AwaitEnd();
  void TellStatus(const std::string& error = {});
  void End();
  absl::Status Verdict() const;

  const EngineOptions options_;
  const ModelConfig config_;
  const int slots_per_rank_;
  const OnLoss on_loss_;
  Failure failure_;
  Counters counters_;
  Requests requests_;
  absl::Notification stop_;          // of lanes
  absl::Notification stop_service_;  // afterwards
  evenkeel_region* region_ = nullptr;
  std::optional<Model> model_;
  std::optional<DenseExperts> plain_;
  std::optional<Corpus> corpus_;
  std::optional<Mix> mix_;
  std::unique_ptr<CudaMemory> device_;  // null: the experts are in host memory
  std::unique_ptr<Slots> slots_;
  std::optional<RunDirectory> directory_;
  Greeting greeting_;
  std::unique_ptr<PeerService> service_;
  std::unique_ptr<ExchangeServer> server_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::thread service_thread_;
  std::unique_ptr<RequestServer> request_server_;
};

Engine::~Engine() {
  End();
  request_server_.reset();
  lanes_.clear();
  server_.reset();
  if (region_ != nullptr) evenkeel_destroy(region_);
}

absl::Status Engine::Load() {
  EVENKEEL_ASSIGN_OR_RETURN(const Safetensors file, Safetensors::ReadFile(options_.model_dir + "/model.safetensors"));
  EVENKEEL_ASSIGN_OR_RETURN(model_, Model::Load(file, config_));
  EVENKEEL_ASSIGN_OR_RETURN(corpus_, Corpus::Load(options_.model_dir + "/prompts"));
  EVENKEEL_RETURN_IF_ERROR(corpus_->Check(options_.prompt_bytes));
  EVENKEEL_ASSIGN_OR_RETURN(mix_, Mix::Parse(options_.mix, corpus_->domains()));
  if (options_.check != "off") {
    EVENKEEL_ASSIGN_OR_RETURN(plain_, DenseExperts::Load(file, config_));
  }
  EVENKEEL_ASSIGN_OR_RETURN(directory_, RunDirectory::Open(options_.run_dir));
  EVENKEEL_RETURN_IF_ERROR(MakeRegion(file));
  greeting_ = {.incarnation = evenkeel_incarnation(region_),
               .epoch = 0,
               .weights_version = file.digest(),
               .rank = options_.rank,
               .num_ranks = options_.num_ranks_ever(),
               .world = options_.num_ranks,
               .num_layers = config_.num_layers,
               .num_experts = config_.num_experts,
               .slots_per_rank = slots_per_rank_,
               .hidden_size = config_.hidden_size};
  std::snprintf(greeting_.group, sizeof(greeting_.group), "%s", options_.group.c_str());
  service_ = std::make_unique<PeerService>(region_, options_.num_lanes, slots_.get(), config_, &failure_, &counters_);
  EVENKEEL_ASSIGN_OR_RETURN(
      server_, ExchangeServer::Create(*directory_, greeting_,
                                      [this](const auto& request, float* y) { return service_->Serve(request, y); }));
  for (int i = 0; i < options_.num_lanes; ++i) MakeLane(i);
  return TakeRequests();
}

absl::Status Engine::MakeRegion(const Safetensors& file) {
  EVENKEEL_ASSIGN_OR_RETURN(device_, OpenDevice(options_.device, options_.rank));
  const evenkeel_options region_options = {
      .abi_version = EVENKEEL_ABI_VERSION,
      .directory = options_.region_dir.c_str(),
      .group = options_.group.c_str(),
      .model = config_.model_type.c_str(),
      .weights_version = file.digest(),
      .rank = options_.rank,
      .num_ranks = options_.num_ranks,
      .ranks_max = options_.ranks_max,
      .join = options_.join ? 1 : 0,
      .num_nodes = 1,
      .num_layers = config_.num_layers,
      .num_experts = config_.num_experts,
      .slots_per_rank = slots_per_rank_,
      .num_lanes = options_.num_lanes,
      .num_counting_threads = options_.num_lanes + 1,
      .count_place = EVENKEEL_COUNT_AFTER_DISPATCH,
      .routing = EVENKEEL_ROUTING_SENDER,
      .weights_bytes = device_ == nullptr ? Slots::WeightsBytes(config_, slots_per_rank_) : 0,
  };
  evenkeel_error error = {};
  if (evenkeel_create(&region_options, &region_, &error) != EVENKEEL_OK) {
    region_ = nullptr;
    return absl::FailedPreconditionError(absl::StrCat("make a region: ", error.message));
  }
  EVENKEEL_ASSIGN_OR_RETURN(slots_, Slots::Create(region_, config_, slots_per_rank_, file.digest(), device_.get()));
  for (int layer = 0; layer < config_.num_layers; ++layer) {
    for (int slot = 0; slot < slots_per_rank_; ++slot) {
      const int expert = evenkeel_initial_expert(region_, layer, slot);
      if (expert < 0) continue;
      EVENKEEL_ASSIGN_OR_RETURN(const ExpertTensors tensors, LoadExpert(file, config_, layer, expert));
      EVENKEEL_RETURN_IF_ERROR(slots_->Fill(layer, slot, expert, tensors));
    }
  }
  if (evenkeel_ready(region_, &error) != EVENKEEL_OK) {
    return absl::InternalError(absl::StrCat("make the region ready: ", error.message));
  }
  return absl::OkStatus();
}

absl::Status Engine::TakeRequests() {
  if (options_.requests_port < 0) return absl::OkStatus();
  requests_.Close(absl::StrCat("rank ", options_.rank, " does not serve yet"));
  EVENKEEL_ASSIGN_OR_RETURN(
      request_server_,
      RequestServer::Start(
          {.port = options_.requests_port, .rank = options_.rank, .incarnation = greeting_.incarnation}, requests_));
  return absl::OkStatus();
}

void Engine::MakeLane(int index) {
  auto lane = std::make_unique<Lane>();
  lane->client = std::make_unique<ExchangeClient>(*directory_, greeting_);
  lane->experts =
      std::make_unique<ParallelExperts>(ParallelExperts::Options{.rank = options_.rank,
                                                                 .num_ranks = options_.num_ranks_ever(),
                                                                 .slots_per_rank = slots_per_rank_,
                                                                 .lane = index,
                                                                 .on_loss = on_loss_,
                                                                 .answer_deadline = options_.answer_deadline},
                                        ParallelExperts::Parts{.region = region_,
                                                               .slots = slots_.get(),
                                                               .client = lane->client.get(),
                                                               .failure = &failure_,
                                                               .counters = &counters_,
                                                               .stop = &stop_},
                                        config_);
  lane->plain = plain_;
  lane->serving = std::make_unique<Serving>(
      Serving::Options{.lane = index,
                       .batch = options_.batch,
                       .prompt_bytes = options_.prompt_bytes,
                       .decode_bytes = options_.decode_bytes,
                       .rows_per_step_max = options_.rows_per_step_max,
                       .check_fraction = options_.check == "full" ? 1.0 : options_.check_fraction,
                       .background = options_.background,
                       .tokens_per_second_max = options_.tokens_per_second_max,
                       .may_wait = on_loss_ == OnLoss::kWait,
                       .drop_after = options_.drop_after,
                       .seed = options_.seed * 1000003 + static_cast<uint64_t>(options_.rank * kLanesMax + index)},
      Serving::Parts{.region = region_,
                     .model = &*model_,
                     .plain = lane->plain ? &*lane->plain : nullptr,
                     .experts = lane->experts.get(),
                     .corpus = &*corpus_,
                     .mix = &*mix_,
                     .requests = &requests_,
                     .failure = &failure_,
                     .counters = &counters_,
                     .stop = &stop_});
  lanes_.push_back(std::move(lane));
}

void Engine::RunService() {
  while (!stop_service_.HasBeenNotified()) {
    server_->Poll(kStatusPeriod);
    server_->SetEpoch(counters_.epoch);
    if (failure_.Take() == Failure::Kind::kCut) server_->Cut();
  }
}

void Engine::StartService() {
  service_thread_ = std::thread([this] { RunService(); });
}

// Until every peer has greeted, or one that has left the default placement shows that the group is under way.
absl::Status Engine::Meet() {
  const MeetingOptions options{.rank = options_.rank,
                               .num_ranks = options_.num_ranks,
                               .place = options_.run_dir,
                               .within = options_.startup_deadline,
                               .stop_within =
                                   [this](absl::Duration at_most) {
                                     TellStatus();
                                     return WaitForEndSignal(at_most) != 0;
                                   },
                               .last_error = [this](int rank) { return ReadError(options_.run_dir, rank); }};
  EVENKEEL_ASSIGN_OR_RETURN(const Meeting meeting, MeetPeers(options, *lanes_.front()->client, *server_));
  if (meeting == Meeting::kGroupUnderWay) return AwaitFirstMap();
  service_->Admit(PeerService::From(0));
  return absl::OkStatus();
}

// A group under way is joined by its maps alone (protocol, rules 4 and 14). Until then this engine begins no step that
// counts, or, where it was started to join, none at all.
absl::Status Engine::AwaitFirstMap() {
  service_->Admit(PeerService::kNone);
  counters_.state = EngineState::kOutside;
  absl::Time told = absl::InfinitePast();
  for (;;) {
    const int64_t ticket = counters_.library_calls.Watch(
        [this] { return evenkeel_begin_step(region_, 0, EVENKEEL_PHASE_OTHER, EVENKEEL_DUMMY); });
    const bool is_early = options_.join && ticket == EVENKEEL_FAILED_PRECONDITION;
    if (ticket <= 0 && !is_early) return absl::InternalError(absl::StrCat("begin_step: status ", ticket));
    const uint64_t epoch = is_early ? 0 : evenkeel_epoch(region_, 0);
    if (!is_early) evenkeel_end_step(region_, 0, ticket);
    evenkeel_set_idle(region_, 0);
    if (epoch != 0) {
      counters_.epoch = epoch;
      service_->Admit(PeerService::From(epoch));
      return absl::OkStatus();
    }
    if (const absl::Time now = absl::Now(); now - told >= kStatusPeriod) {
      TellStatus();
      told = now;
    }
    if (WaitForEndSignal(kGreetPeriod) != 0) return absl::CancelledError("stopped while waiting for a first map");
  }
}

absl::Status Engine::Serve() {
  StartService();
  const absl::Status met = options_.join ? AwaitFirstMap() : Meet();
  if (absl::IsCancelled(met)) return absl::OkStatus();  // told to end before it began
  if (!met.ok()) {
    counters_.state = EngineState::kEnded;
    TellStatus(std::string(met.message()));
    return met;
  }
  counters_.state = EngineState::kServing;
  requests_.Close("");
  for (auto& lane : lanes_) {
    lane->thread = std::thread([&lane = *lane] { lane.status = lane.serving->Run(); });
  }
  const absl::Status ended = AwaitEnd();
  counters_.state = EngineState::kStopping;
  End();
  counters_.state = EngineState::kEnded;
  const absl::Status verdict = ended.ok() || absl::IsCancelled(ended) ? Verdict() : ended;
  TellStatus(std::string(verdict.message()));
  return verdict;
}

absl::Status Engine::AwaitEnd() {
  counters_.weights_version = evenkeel_weights_version(region_);
  const auto go_on = [this](absl::Duration at_most) { return TellStatus(), WaitForEndSignal(at_most) == 0; };
  Reload reload(options_.run_dir, options_.rank, config_, {region_, slots_.get(), &counters_, go_on});
  const absl::Time end =
      options_.run_time > absl::ZeroDuration() ? absl::Now() + options_.run_time : absl::InfiniteFuture();
  for (absl::Time now = absl::Now(); now < end; now = absl::Now()) {
    if (evenkeel_is_member(region_) != 1) {
      counters_.state = EngineState::kOutside;
      requests_.Close(absl::StrCat("rank ", options_.rank, " is no member any more"));
    }
    TellStatus();
    if (WaitForEndSignal(std::min(kStatusPeriod, end - now)) != 0) return absl::OkStatus();
    EVENKEEL_RETURN_IF_ERROR(reload.RunIfAsked());
  }
  return absl::OkStatus();
}

void Engine::TellStatus(const std::string& error) {
  uint64_t resent = 0;
  for (const auto& lane : lanes_) resent += lane->client->num_resent();
  counters_.resent_requests = resent;
  counters_.is_member = evenkeel_is_member(region_) == 1;
  evenkeel_report_calls_waited(region_, counters_.library_calls.num_waited());
  const absl::Status status =
      WriteStatus(options_.run_dir,
                  {options_.rank, greeting_.incarnation, request_server_ == nullptr ? "" : request_server_->url()},
                  counters_, error);
  if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
}

// Lanes finish their steps; then peers are told, and served until they have said the same or for a moment.
void Engine::End() {
  if (!stop_.HasBeenNotified()) stop_.Notify();
  requests_.Close(absl::StrCat("rank ", options_.rank, " ends"));
  for (auto& lane : lanes_) {
    if (lane->thread.joinable()) lane->thread.join();
  }
  if (!service_thread_.joinable()) return;
  evenkeel_leave(region_);
  for (auto& lane : lanes_) lane->client->SayBye();
  const absl::Time deadline = absl::Now() + kByeDeadline;
  while (server_->num_peers_present() > 0 && absl::Now() < deadline) WaitForEndSignal(kGreetPeriod);
  stop_service_.Notify();
  server_->Wake();
  service_thread_.join();
}

absl::Status Engine::Verdict() const {
  for (const auto& lane : lanes_) EVENKEEL_RETURN_IF_ERROR(lane->status);
  if (counters_.mismatched_tokens > 0 || counters_.stale_slot_uses > 0) {
    return absl::DataLossError(absl::StrCat(counters_.mismatched_tokens.load(), " of ", counters_.checked_tokens.load(),
                                            " checked tokens mismatched, ", counters_.stale_slot_uses.load(),
                                            " stale slot uses"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunEngine(const EngineOptions& options) {
  BlockEndSignals();
  EVENKEEL_ASSIGN_OR_RETURN(const ModelConfig config, ReadConfig(options.model_dir + "/config.json"));
  EVENKEEL_RETURN_IF_ERROR(CheckOptions(options, config));
  Failure::Kind failure = Failure::Kind::kNone;
  if (!options.fail_as.empty()) {
    EVENKEEL_ASSIGN_OR_RETURN(failure, Failure::Parse(options.fail_as));
  }
  Engine engine(options, config, failure);
  EVENKEEL_RETURN_IF_ERROR(engine.Load());
  return engine.Serve();
}

}  // namespace evenkeel::engine
