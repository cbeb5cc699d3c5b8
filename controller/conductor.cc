// SPDX-License-Identifier: Apache-2.0
#include "controller/conductor.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "algos/base/status_macros.h"
#include "algos/placement.h"
#include "algos/policies/registry.h"
#include "controller/convert_operation.h"
#include "controller/request_id.h"
#include "runtime/clock.h"

namespace evenkeel::controller {
namespace {

constexpr uint64_t kLoadTokensMax = uint64_t{1} << 40;  // of an expert of a layer, where a load is given

template <typename... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <typename... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

absl::Status CheckAgainst(const GroupStatus& group, const RearrangeRequested& request) {
  for (LayerId layer : request.layers) {
    if (!layer.valid() || layer.value() >= group.info.num_layers) {
      return absl::InvalidArgumentError(absl::StrCat("layer ", layer.value(), " of group ", group.name,
                                                     ": its layers are 0 to ", group.info.num_layers - 1));
    }
  }
  if (!request.placements.empty() && request.placements.size() != static_cast<size_t>(group.info.num_layers)) {
    return absl::InvalidArgumentError(absl::StrCat("placements of ", request.placements.size(), " layers; group ",
                                                   group.name, " has ", group.info.num_layers));
  }
  for (size_t layer = 0; layer < request.placements.size(); ++layer) {
    const absl::Status fits = algos::Validate(request.placements[layer], group.info.shape);
    if (!fits.ok()) return absl::InvalidArgumentError(absl::StrCat("layer ", layer, ": ", fits.message()));
  }
  if (!group.static_reason.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the maps of group ", group.name, " are static: ", group.static_reason));
  }
  if (group.forming) {
    return absl::FailedPreconditionError(
        absl::StrCat("group ", group.name, " is forming: not every rank has attached yet"));
  }
  return absl::OkStatus();
}

absl::Status CheckLoad(const GroupStatus& group, const std::vector<uint64_t>& load) {
  const algos::Shape& shape = group.info.shape;
  const size_t wanted = static_cast<size_t>(group.info.num_layers) * static_cast<size_t>(shape.num_experts);
  if (load.empty()) return absl::OkStatus();
  if (load.size() != wanted) {
    return absl::InvalidArgumentError(absl::StrCat("load has ", load.size(), " numbers: ", group.info.num_layers,
                                                   " layers x ", shape.num_experts, " experts wanted"));
  }
  for (const uint64_t tokens : load) {
    if (tokens > kLoadTokensMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("load of ", tokens, " tokens: at most ", kLoadTokensMax, " an expert wanted"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckOptions(const std::string& name, const RearrangeRequested& request) {
  EVENKEEL_ASSIGN_OR_RETURN(const algos::NamedPolicy policy, algos::FindPolicy(name));
  algos::PolicyConfig config;
  config.options = request.policy_options;
  if (!request.placements.empty() && policy.name != "static") {
    return absl::InvalidArgumentError(absl::StrCat("placements go with policy static, not ", name));
  }
  return algos::ReadOptions(policy.name, policy.options, config).status();
}

}  // namespace

absl::StatusOr<CoordinatorSettings> Conductor::Recall(CoordinatorSettings settings, Store& store) {
  EVENKEEL_ASSIGN_OR_RETURN(settings.stored_term, store.LoadTerm());
  EVENKEEL_ASSIGN_OR_RETURN(settings.stored_operations, store.LoadOperations());
  std::reverse(settings.stored_operations.begin(), settings.stored_operations.end());  // oldest first
  EVENKEEL_ASSIGN_OR_RETURN(settings.stored_loads, store.LoadLoads());
  return settings;
}

Conductor::Conductor(runtime::Strand& strand, CoordinatorSettings settings, Store& store, Outlets outlets,
                     Keeper::Limits limits)
    : strand_(strand),
      outlets_(std::move(outlets)),
      coordinator_(std::move(settings)),
      keeper_(strand, store, limits) {}

absl::Time Conductor::NextWakeup() const {
  keeper_.AssertHeld();
  return std::min(keeper_.NextWakeup(), ended_ ? absl::InfiniteFuture() : coordinator_.NextWakeup());
}

void Conductor::Wake(absl::Time now) {
  keeper_.AssertHeld();
  if (keeper_.NextWakeup() <= now) keeper_.Wake(now);
  if (coordinator_.NextWakeup() <= now) Step(Tick{});
}

void Conductor::Step(const Event& event) {
  if (ended_) return;
  const absl::Time begun = runtime::MonotonicNow();
  for (Effect& effect : coordinator_.Step(begun, event)) effects_.push_back(std::move(effect));
  step_times_.Add(runtime::MonotonicNow() - begun);
  CarryOutWaiting();
}

void Conductor::CarryOutWaiting() {
  while (!ended_ && !keeping_term_ && !effects_.empty()) {
    const Effect effect = std::move(effects_.front());
    effects_.pop_front();
    CarryOut(effect);
  }
}

void Conductor::OnTermKept(uint32_t term, absl::Status kept) {
  keeping_term_ = false;
  if (!kept.ok()) return End(std::move(kept));
  spdlog::info("term {} taken", term);
  CarryOutWaiting();
}

void Conductor::CarryOut(const Effect& effect) {
  std::visit(Overloaded{
                 [&](const SendToAgent& send) { outlets_.send(send.session, send.message); },
                 [&](const CloseSession& close) { outlets_.close(close.session); },
                 [&](const ComputePlan& plan) { outlets_.plan(plan); },
                 [&](const PersistOperation& persist) {
                   strand_.AssertHeld();
                   Keep(persist.operation);
                 },
                 [&](const PersistLoad& persist) {
                   strand_.AssertHeld();
                   keeper_.AssertHeld();
                   keeper_.KeepLoad(persist.load);
                 },
                 [&](const Note& note) {
                   const auto level = note.is_alert ? spdlog::level::warn : spdlog::level::info;
                   spdlog::log(level, "group {} {}{}", note.group, note.is_alert ? "alert: " : "", note.text);
                 },
                 [&](const PersistTerm& persist) {
                   strand_.AssertHeld();
                   keeper_.AssertHeld();
                   keeping_term_ = true;
                   keeper_.KeepTerm(persist.term, [this, term = persist.term](absl::Status kept) {
                     strand_.AssertHeld();
                     OnTermKept(term, std::move(kept));
                   });
                 },
                 [&](const StepDown& down) {
                   strand_.AssertHeld();
                   keeper_.AssertHeld();
                   keeping_term_ = true;
                   keeper_.KeepTerm(down.term, [this, term = down.term](const absl::Status& kept) {
                     strand_.AssertHeld();
                     if (!kept.ok()) spdlog::error("{}", kept.ToString());
                     End(absl::FailedPreconditionError(absl::StrCat("another controller leads with term ", term)));
                   });
                 },
             },
             effect);
}

void Conductor::Keep(const OperationProgress& operation) {
  keeper_.AssertHeld();
  keeper_.Keep(operation);
  const bool final = IsFinal(operation.state);
  if (final) ++ended_counts_[{operation.group, operation.cause, operation.state}];
  const bool begins = operation.state == OperationState::kRunning && operation.num_waves == 0;
  spdlog::log(final || begins ? spdlog::level::info : spdlog::level::debug,
              "operation {} group {} cause {} state {} layers {}/{} moves {}/{} failed {} bytes {} imbalance {:.3f} to "
              "{:.3f} seconds planning {:.3f} retiring {:.3f} moving {:.3f} {}",
              operation.id, operation.group, NameOf(operation.cause), NameOf(operation.state),
              operation.num_layers_done, operation.num_layers, operation.num_moves_done, operation.num_moves,
              operation.num_moves_failed, operation.bytes_done, operation.imbalance_before,
              operation.imbalance_predicted, absl::ToDoubleSeconds(operation.planning),
              absl::ToDoubleSeconds(operation.retiring), absl::ToDoubleSeconds(operation.moving), operation.detail);
  for (const auto& [id, watcher] : watchers_) watcher(operation);
}

void Conductor::End(absl::Status why) {
  if (ended_) return;
  ended_ = true;
  outlets_.end(std::move(why));
}

absl::StatusOr<std::string> Conductor::ResolveGroup(const std::string& group) const {
  const std::vector<std::string> groups = coordinator_.ListGroups();
  if (group.empty() && groups.size() == 1) return groups[0];
  if (group.empty() && groups.empty()) return absl::NotFoundError("no group has attached yet");
  if (group.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("which group: ", absl::StrJoin(groups, ", "), "?"));
  }
  for (const std::string& known : groups) {
    if (known == group) return group;
  }
  return absl::NotFoundError(absl::StrCat("no group ", group, "; there ",
                                          groups.empty() ? "is none yet" : "are: ", absl::StrJoin(groups, ", ")));
}

absl::Status Conductor::CheckLeads() const {
  if (coordinator_.listening()) {
    return absl::UnavailableError("the controller has just started and still hears its agents; try again in a second");
  }
  if (keeping_term_) return absl::UnavailableError("the controller's term is not stored yet; try again in a second");
  return absl::OkStatus();
}

absl::StatusOr<std::string> Conductor::Rearrange(RearrangeRequested request) {
  EVENKEEL_RETURN_IF_ERROR(CheckRequestId(request.operation_id));
  if (!request.operation_id.empty() && coordinator_.GetOperation(request.operation_id).ok())
    return request.operation_id;
  if (!request.policy.empty()) {
    if (absl::Status status = algos::FindPolicy(request.policy).status(); !status.ok()) {
      return absl::InvalidArgumentError(status.message());
    }
  }
  EVENKEEL_RETURN_IF_ERROR(CheckLeads());
  EVENKEEL_ASSIGN_OR_RETURN(request.group, ResolveGroup(request.group));
  EVENKEEL_ASSIGN_OR_RETURN(const GroupStatus group, coordinator_.GetGroup(request.group, runtime::MonotonicNow()));
  EVENKEEL_RETURN_IF_ERROR(CheckAgainst(group, request));
  EVENKEEL_RETURN_IF_ERROR(CheckLoad(group, request.load));
  EVENKEEL_RETURN_IF_ERROR(CheckOptions(request.policy.empty() ? group.policy : request.policy, request));
  if (request.operation_id.empty()) request.operation_id = MadeUpId("rearrange");
  if (!group.running_operation.empty() && !request.dry_run) {
    const absl::StatusOr<OperationProgress> running = coordinator_.GetOperation(group.running_operation);
    if (running.ok() && running->cause == Cause::kOperator) {
      return absl::FailedPreconditionError(
          absl::StrCat("rearrangement ", running->id, " of group ", group.name, " is running"));
    }
  }
  Step(request);
  return request.operation_id;
}

absl::StatusOr<std::string> Conductor::Admit(AdmitRequested request) {
  EVENKEEL_RETURN_IF_ERROR(CheckRequestId(request.operation_id));
  if (coordinator_.GetOperation(request.operation_id).ok()) return request.operation_id;
  EVENKEEL_RETURN_IF_ERROR(CheckLeads());
  EVENKEEL_ASSIGN_OR_RETURN(request.group, ResolveGroup(request.group));
  EVENKEEL_RETURN_IF_ERROR(coordinator_.CheckAdmit(request));
  if (request.operation_id.empty()) request.operation_id = MadeUpId("admit");
  Step(request);
  return request.operation_id;
}

absl::StatusOr<std::string> Conductor::Drain(DrainRequested request) {
  EVENKEEL_RETURN_IF_ERROR(CheckRequestId(request.operation_id));
  if (coordinator_.GetOperation(request.operation_id).ok()) return request.operation_id;
  EVENKEEL_RETURN_IF_ERROR(CheckLeads());
  EVENKEEL_ASSIGN_OR_RETURN(request.group, ResolveGroup(request.group));
  EVENKEEL_RETURN_IF_ERROR(coordinator_.CheckDrain(request));
  if (request.operation_id.empty()) request.operation_id = MadeUpId("drain");
  Step(request);
  return request.operation_id;
}

void Conductor::WhenKept(const std::string& operation_id, Keeper::Kept kept) {
  keeper_.AssertHeld();
  keeper_.WhenKept(operation_id, std::move(kept));
}

const std::string& Conductor::store_problem() const {
  keeper_.AssertHeld();
  return keeper_.problem();
}

uint64_t Conductor::num_store_failures() const {
  keeper_.AssertHeld();
  return keeper_.num_failures();
}

Conductor::WatcherId Conductor::Watch(OperationWatcher watcher) {
  watchers_.emplace(next_watcher_, std::move(watcher));
  return next_watcher_++;
}

void Conductor::Unwatch(WatcherId id) { watchers_.erase(id); }

}  // namespace evenkeel::controller
