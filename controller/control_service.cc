// SPDX-License-Identifier: Apache-2.0
#include "controller/control_service.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "controller/control_guard.h"
#include "controller/convert_operation.h"
#include "controller/convert_status.h"
#include "controller/grpc_status.h"
#include "controller/map_calls.h"
#include "controller/stateless_plan.h"
#include "controller/stats_watchers.h"
#include "proto/evenkeel/v1/control.grpc.pb.h"
#include "runtime/clock.h"

namespace evenkeel::controller {
namespace {

constexpr uint32_t kWatchIntervalMinMs = 50;
constexpr uint32_t kWatchIntervalMaxMs = 3'600'000;
constexpr uint32_t kWindowsMax = 100'000;
constexpr uint64_t kSpanMaxMs = uint64_t{366} * 86'400'000;

}  // namespace

struct ControlService::State : public MapCalls {
  State(runtime::Strand& the_strand, Conductor& the_conductor, std::string the_default_policy, const Access& access)
      : MapCalls(the_strand, the_conductor, access),
        guard(*this, access.gate),
        default_policy(std::move(the_default_policy)),
        plans({.name = "asked plans", .queue_capacity = kPlansMax}) {}

  // ---- Calls

  OperationStream* Rearrange(Context* context, const v1::RearrangeRequest* request) override {
    return Start([this, request = *request, by = CallerOf(*context)]() -> absl::StatusOr<std::string> {
      strand.AssertHeld();
      conductor.AssertHeld();
      RearrangeRequested wanted{.operation_id = request.request_id(),
                                .group = request.group(),
                                .policy = request.policy(),
                                .layers = {},
                                .dry_run = request.dry_run(),
                                .policy_options = {request.policy_options().begin(), request.policy_options().end()},
                                .load = {request.load().begin(), request.load().end()}};
      wanted.by = by;
      EVENKEEL_ASSIGN_OR_RETURN(wanted.layers, LayersOf(request.layers()));
      EVENKEEL_ASSIGN_OR_RETURN(wanted.placements, PlacementsOf("rearrange.placements", request.placements()));
      return conductor.Rearrange(std::move(wanted));
    });
  }

  Unary* ListGroups(Context* context, const v1::ListGroupsRequest*, v1::ListGroupsResponse* response) override {
    return Answer(context, [this, response]() -> absl::Status {
      strand.AssertHeld();
      conductor.AssertHeld();
      const Coordinator& core = conductor.coordinator();
      response->set_term(core.term());
      response->set_store_problem(conductor.store_problem());
      for (const std::string& name : core.ListGroups()) {
        EVENKEEL_ASSIGN_OR_RETURN(const GroupStatus group, core.GetGroup(name, runtime::MonotonicNow()));
        ToProto(group, Detail::kBrief, response->add_groups());
      }
      return absl::OkStatus();
    });
  }

  Unary* GetGroup(Context* context, const v1::GetGroupRequest* request, v1::Group* response) override {
    return Answer(context, [this, request, response]() -> absl::Status {
      strand.AssertHeld();
      conductor.AssertHeld();
      EVENKEEL_ASSIGN_OR_RETURN(const std::string name, conductor.ResolveGroup(request->group()));
      EVENKEEL_ASSIGN_OR_RETURN(const GroupStatus group,
                                conductor.coordinator().GetGroup(name, runtime::MonotonicNow()));
      ToProto(group, Detail::kFull, response);
      response->set_store_problem(conductor.store_problem());
      return absl::OkStatus();
    });
  }

  Unary* GetStats(Context* context, const v1::GetStatsRequest* request, v1::GroupStats* response) override {
    return Answer(context, [this, request, response]() -> absl::Status {
      strand.AssertHeld();
      conductor.AssertHeld();
      if (request->num_windows() > kWindowsMax || request->span_ms() > kSpanMaxMs) {
        return absl::InvalidArgumentError(
            absl::StrCat("num_windows of at most ", kWindowsMax, " and span_ms of at most ", kSpanMaxMs, " wanted"));
      }
      EVENKEEL_ASSIGN_OR_RETURN(const std::string name, conductor.ResolveGroup(request->group()));
      const StatsQuery query{.num_windows = static_cast<int>(request->num_windows()),
                             .span = absl::Milliseconds(request->span_ms()),
                             .brief = request->brief()};
      EVENKEEL_ASSIGN_OR_RETURN(const GroupStats found,
                                conductor.coordinator().GetStats(name, query, runtime::MonotonicNow()));
      ToProto(found, response);
      return absl::OkStatus();
    });
  }

  WatchStream<v1::StatsUpdate>* WatchStats(Context*, const v1::WatchStatsRequest* request) override {
    return Watch<v1::StatsUpdate>([this, request = *request](uint64_t call, const auto& stream) -> absl::Status {
      strand.AssertHeld();
      conductor.AssertHeld();
      if (request.interval_ms() != 0 &&
          (request.interval_ms() < kWatchIntervalMinMs || request.interval_ms() > kWatchIntervalMaxMs)) {
        return absl::InvalidArgumentError(absl::StrCat("interval_ms is ", request.interval_ms(), ": 0 or ",
                                                       kWatchIntervalMinMs, " to ", kWatchIntervalMaxMs, " wanted"));
      }
      if (request.num_windows() > kWindowsMax) {
        return absl::InvalidArgumentError(absl::StrCat("num_windows of at most ", kWindowsMax, " wanted"));
      }
      if (!request.group().empty()) EVENKEEL_RETURN_IF_ERROR(conductor.ResolveGroup(request.group()).status());
      stats.Add(call,
                {.group = request.group(),
                 .interval = absl::Milliseconds(request.interval_ms()),
                 .num_windows = request.num_windows() == 0 ? 1 : static_cast<int>(request.num_windows()),
                 .brief = request.brief(),
                 .push = [stream](const std::string& group, const v1::StatsUpdate& u) { stream->Push(group, u); }},
                conductor.coordinator(), runtime::MonotonicNow());
      return absl::OkStatus();
    });
  }

  Unary* GetMap(Context* context, const v1::GetMapRequest* request, v1::GroupMaps* response) override {
    return Answer(context, [this, request, response]() -> absl::Status {
      strand.AssertHeld();
      conductor.AssertHeld();
      EVENKEEL_ASSIGN_OR_RETURN(const std::vector<LayerId> layers, LayersOf(request->layers()));
      EVENKEEL_ASSIGN_OR_RETURN(const std::string name, conductor.ResolveGroup(request->group()));
      const Coordinator& core = conductor.coordinator();
      EVENKEEL_ASSIGN_OR_RETURN(const GroupStatus group, core.GetGroup(name, runtime::MonotonicNow()));
      for (LayerId layer : layers) {
        if (layer.value() >= group.info.num_layers) {
          return absl::InvalidArgumentError(absl::StrCat("layer ", layer.value(), " of group ", name,
                                                         ": its layers are 0 to ", group.info.num_layers - 1));
        }
      }
      EVENKEEL_ASSIGN_OR_RETURN(const GroupMaps maps, core.GetMaps(name, layers));
      ToProto(maps, group.info.shape, response);
      return absl::OkStatus();
    });
  }

  Unary* CheckRedundancy(Context* context, const v1::CheckRedundancyRequest* request,
                         v1::RedundancyReport* response) override {
    return Answer(context, [this, request, response]() -> absl::Status {
      strand.AssertHeld();
      conductor.AssertHeld();
      EVENKEEL_ASSIGN_OR_RETURN(const std::string name, conductor.ResolveGroup(request->group()));
      EVENKEEL_ASSIGN_OR_RETURN(const RedundancyReport report, conductor.coordinator().CheckRedundancy(name));
      ToProto(report, response);
      return absl::OkStatus();
    });
  }

  Unary* Plan(Context* context, const v1::PlanRequest* request, v1::PlanResponse* response) override {
    Unary* reactor = context->DefaultReactor();
    const absl::Status posted = plans.Post([this, context, reactor, request, response] {
      reactor->Finish(ToGrpc(RunPlan(*context, *request, response)));
    });
    if (!posted.ok()) reactor->Finish(ToGrpc(posted));
    return reactor;
  }

  // On the thread of plans.
  absl::Status RunPlan(const Context& context, const v1::PlanRequest& request, v1::PlanResponse* response) {
    if (ending) return absl::UnavailableError("plan: the controller ends");
    if (context.IsCancelled() || context.deadline() <= std::chrono::system_clock::now()) {
      return absl::DeadlineExceededError("plan: nobody waits for it any more");
    }
    EVENKEEL_ASSIGN_OR_RETURN(*response, PlanFor(request, default_policy));
    return absl::OkStatus();
  }

  Unary* CancelOperation(Context* context, const v1::CancelOperationRequest* request,
                         v1::Operation* response) override {
    return AnswerKept(context, response, [this, id = request->id(), by = CallerOf(*context)] {
      conductor.AssertHeld();
      return conductor.Cancel({id, by});
    });
  }

  Unary* Pause(Context* context, const v1::PauseRequest* request, v1::Operation* response) override {
    PauseRequested wanted{{}, request->group(), request->reason(), CallerOf(*context)};
    return AnswerKept(context, response, [this, wanted = std::move(wanted)] {
      conductor.AssertHeld();
      return conductor.Pause(wanted);
    });
  }

  Unary* Resume(Context* context, const v1::ResumeRequest* request, v1::Operation* response) override {
    return AnswerKept(context, response, [this, group = request->group(), by = CallerOf(*context)] {
      conductor.AssertHeld();
      return conductor.Resume({group, by});
    });
  }

  Unary* ListOperations(Context* context, const v1::ListOperationsRequest* request,
                        v1::ListOperationsResponse* response) override {
    return Answer(context, [this, request, response] {
      strand.AssertHeld();
      conductor.AssertHeld();
      for (const OperationProgress& operation : conductor.coordinator().ListOperations(request->group())) {
        if (!request->id().empty() && operation.id != request->id()) continue;
        ToProto(operation, request->decisions() ? Decisions::kIncluded : Decisions::kLeftOut,
                response->add_operations());
      }
      return absl::OkStatus();
    });
  }

  OperationStream* WatchOperations(Context*, const v1::WatchOperationsRequest* request) override {
    return Watch<v1::Operation>([this, group = request->group()](uint64_t call, const auto& stream) {
      strand.AssertHeld();
      conductor.AssertHeld();
      const std::vector<OperationProgress> known = conductor.coordinator().ListOperations(group);
      for (auto operation = known.rbegin(); operation != known.rend(); ++operation) {
        v1::Operation message;
        ToProto(*operation, Decisions::kLeftOut, &message);
        stream->Push(operation->id, std::move(message));
      }
      Follow(
          call, stream, [group](const OperationProgress& o) { return group.empty() || o.group == group; },
          /*end_when_final=*/false);
      return absl::OkStatus();
    });
  }

  void Forgotten(uint64_t call) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand) {
    stats.Remove(call);
    MapCalls::Forgotten(call);
  }

  ControlGuard guard;
  const std::string default_policy;
  std::atomic<bool> ending = false;  // plans that wait are not begun
  StatsWatchers stats ABSL_GUARDED_BY(strand);
  runtime::Strand plans;  // last: its tasks use the above
};

ControlService::ControlService(runtime::Strand& strand, Conductor& conductor, std::string default_policy,
                               const ControlCalls::Access& access)
    : state_(std::make_unique<State>(strand, conductor, std::move(default_policy), access)) {}
ControlService::~ControlService() = default;

grpc::Service& ControlService::service() { return state_->guard; }

absl::Time ControlService::NextWakeup() const {
  state_->strand.AssertHeld();
  return std::min(state_->stats.NextWakeup(), state_->memberships.NextWakeup());
}

void ControlService::Wake(absl::Time now) {
  state_->strand.AssertHeld();
  state_->conductor.AssertHeld();
  state_->stats.Wake(state_->conductor.coordinator(), now);
  state_->memberships.Wake(state_->conductor.coordinator(), now);
}

void ControlService::EndAll(absl::Status why) {
  state_->ending = true;
  state_->EndWatches(std::move(why));
}

}  // namespace evenkeel::controller
