// SPDX-License-Identifier: Apache-2.0
//
// MapCalls: the calls of the Control service by which operators steer what a group holds: modes, pins, named maps, what
// these would move, and the way back.
//
// Threads, ownership and limits as in ControlCalls.
#pragma once

#include <vector>

#include "absl/status/statusor.h"

#include "controller/rank_calls.h"

namespace evenkeel::controller {

// Ascending, each once.
absl::StatusOr<std::vector<LayerId>> LayersOf(const google::protobuf::RepeatedField<uint32_t>& layers);

class MapCalls : public RankCalls {
 public:
  Unary* SetMode(Context* context, const v1::SetModeRequest* request, v1::Operation* response) override;
  Unary* Pin(Context* context, const v1::PinRequest* request, v1::Operation* response) override;
  Unary* Unpin(Context* context, const v1::UnpinRequest* request, v1::UnpinResponse* response) override;
  OperationStream* SetMap(Context* context, const v1::SetMapRequest* request) override;
  OperationStream* Rollback(Context* context, const v1::RollbackRequest* request) override;
  Unary* Diff(Context* context, const v1::DiffRequest* request, v1::MapDiff* response) override;

 protected:
  using RankCalls::RankCalls;
};

}  // namespace evenkeel::controller
