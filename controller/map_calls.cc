// SPDX-License-Identifier: Apache-2.0
#include "controller/map_calls.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "controller/convert_operation.h"
#include "controller/convert_status.h"
#include "proto/convert_common.h"

namespace evenkeel::controller {
namespace {

constexpr uint32_t kLayerMax = 4095;
constexpr uint32_t kIdMax = 65'535;
constexpr int kPinsMax = 65'536;

using Placements = std::vector<std::pair<LayerId, algos::Placement>>;

absl::StatusOr<std::vector<algos::Pin>> PinsOf(const google::protobuf::RepeatedPtrField<v1::PlanPin>& pins) {
  if (pins.size() > kPinsMax) {
    return absl::InvalidArgumentError(absl::StrCat(pins.size(), " pins: at most ", kPinsMax, " wanted"));
  }
  std::vector<algos::Pin> values;
  for (int i = 0; i < pins.size(); ++i) {
    const v1::PlanPin& pin = pins[i];
    const std::string path = absl::StrCat("pins[", i, "].");
    EVENKEEL_RETURN_IF_ERROR(proto::CheckRange(path + "layer", pin.layer(), 0, kLayerMax));
    EVENKEEL_RETURN_IF_ERROR(proto::CheckRange(path + "expert", pin.expert(), 0, kIdMax));
    EVENKEEL_RETURN_IF_ERROR(proto::CheckRange(path + "rank", pin.rank(), 0, kIdMax));
    values.push_back({LayerId(static_cast<int32_t>(pin.layer())), ExpertId(static_cast<int32_t>(pin.expert())),
                      RankId(static_cast<int32_t>(pin.rank()))});
  }
  return values;
}

absl::StatusOr<Placements> PlacementsOf(const google::protobuf::RepeatedPtrField<v1::LayerPlacement>& layers) {
  Placements placements;
  for (const v1::LayerPlacement& layer : layers) {
    EVENKEEL_RETURN_IF_ERROR(proto::CheckRange("layers.layer", layer.layer(), 0, kLayerMax));
    algos::Placement placement;
    for (const int32_t expert : layer.expert_of_slot()) {
      placement.expert_of_slot.push_back(expert < 0 ? kNoExpert : ExpertId(expert));
    }
    placements.emplace_back(LayerId(static_cast<int32_t>(layer.layer())), std::move(placement));
  }
  return placements;
}

// Of RollbackRequest and DiffRequest.
template <typename Request>
absl::StatusOr<RollbackTarget> TargetOf(const Request& request) {
  RollbackTarget target{.operation_id = request.operation()};
  if (!request.has_epoch()) return target;
  if (!request.operation().empty()) {
    return absl::InvalidArgumentError("operation and epoch are given: at most one of them is wanted");
  }
  target.epoch = Epoch{request.epoch().term(), request.epoch().number()};
  return target;
}

}  // namespace

// Ascending, each once.
absl::StatusOr<std::vector<LayerId>> LayersOf(const google::protobuf::RepeatedField<uint32_t>& layers) {
  std::vector<LayerId> ids;
  if (layers.size() > 4096)
    return absl::InvalidArgumentError(absl::StrCat(layers.size(), " layers: at most 4096 wanted"));
  for (uint32_t layer : layers) {
    if (layer > 4095) return absl::InvalidArgumentError(absl::StrCat("layer ", layer, ": 0 to 4095 wanted"));
    ids.push_back(LayerId(static_cast<int32_t>(layer)));
  }
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

MapCalls::Unary* MapCalls::SetMode(Context* context, const v1::SetModeRequest* request, v1::Operation* response) {
  return AnswerKept(context, response, [this, request, by = CallerOf(*context)]() -> absl::StatusOr<OperationProgress> {
    conductor.AssertHeld();
    EVENKEEL_ASSIGN_OR_RETURN(const Mode mode, ParseMode(request->mode()));
    return conductor.SetMode({request->request_id(), request->group(), mode, request->reason(), by});
  });
}

MapCalls::Unary* MapCalls::Pin(Context* context, const v1::PinRequest* request, v1::Operation* response) {
  return AnswerKept(context, response, [this, request, by = CallerOf(*context)]() -> absl::StatusOr<OperationProgress> {
    conductor.AssertHeld();
    EVENKEEL_ASSIGN_OR_RETURN(std::vector<algos::Pin> pins, PinsOf(request->pins()));
    EVENKEEL_ASSIGN_OR_RETURN(std::vector<LayerId> frozen, LayersOf(request->frozen_layers()));
    return conductor.Pin(
        {request->request_id(), request->group(), std::move(pins), std::move(frozen), request->reason(), by});
  });
}

MapCalls::Unary* MapCalls::Unpin(Context* context, const v1::UnpinRequest* request, v1::UnpinResponse* response) {
  return Answer(context, [this, request, response, by = CallerOf(*context)]() -> absl::Status {
    conductor.AssertHeld();
    UnpinRequested wanted{request->group(), {request->ids().begin(), request->ids().end()}, by};
    EVENKEEL_ASSIGN_OR_RETURN(const std::vector<OperationProgress> ended,
                              conductor.Unpin(std::move(wanted), request->all()));
    for (const OperationProgress& operation : ended) {
      ToProto(operation, Decisions::kLeftOut, response->add_operations());
    }
    return absl::OkStatus();
  });
}

MapCalls::OperationStream* MapCalls::SetMap(Context* context, const v1::SetMapRequest* request) {
  return Start([this, request = *request, by = CallerOf(*context)]() -> absl::StatusOr<std::string> {
    conductor.AssertHeld();
    RearrangeRequested wanted{.operation_id = request.request_id(),
                              .group = request.group(),
                              .policy = {},
                              .layers = {},
                              .dry_run = request.dry_run()};
    wanted.by = by;
    wanted.request = "SetMap";
    EVENKEEL_ASSIGN_OR_RETURN(Placements layers, PlacementsOf(request.layers()));
    return conductor.GoTo(std::move(layers), std::move(wanted));
  });
}

MapCalls::OperationStream* MapCalls::Rollback(Context* context, const v1::RollbackRequest* request) {
  return Start([this, request = *request, by = CallerOf(*context)]() -> absl::StatusOr<std::string> {
    conductor.AssertHeld();
    RearrangeRequested wanted{
        .operation_id = request.request_id(), .group = request.group(), .policy = {}, .layers = {}};
    EVENKEEL_ASSIGN_OR_RETURN(RollbackTarget target, TargetOf(request));
    wanted.by = by;
    wanted.request = target.epoch.has_value()       ? absl::StrCat("Rollback to epoch ", target.epoch->ToString())
                     : !target.operation_id.empty() ? absl::StrCat("Rollback of ", target.operation_id)
                                                    : "Rollback";
    return conductor.GoTo(std::move(target), std::move(wanted));
  });
}

MapCalls::Unary* MapCalls::Diff(Context* context, const v1::DiffRequest* request, v1::MapDiff* response) {
  return Answer(context, [this, request, response]() -> absl::Status {
    conductor.AssertHeld();
    Conductor::MapTarget target;
    if (request->layers().empty()) {
      EVENKEEL_ASSIGN_OR_RETURN(target, TargetOf(*request));
    } else {
      EVENKEEL_ASSIGN_OR_RETURN(target, PlacementsOf(request->layers()));
    }
    EVENKEEL_ASSIGN_OR_RETURN(const MapDiff diff, conductor.Diff(request->group(), target));
    ToProto(diff, response);
    return absl::OkStatus();
  });
}

}  // namespace evenkeel::controller
