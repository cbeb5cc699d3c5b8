// SPDX-License-Identifier: Apache-2.0
#include "controller/core/operations.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "catch2/catch.hpp"

#include "controller/convert_operation.h"
#include "proto/evenkeel/v1/control.pb.h"

namespace evenkeel::controller {
namespace {

OperationProgress Decided(std::string id, size_t num_layers) {
  OperationProgress operation;
  operation.id = std::move(id);
  operation.state = OperationState::kSkipped;
  std::vector<LayerDecision> decisions(num_layers);
  for (size_t l = 0; l < num_layers; ++l) decisions[l].layer = LayerId(static_cast<int32_t>(l));
  operation.decisions = std::make_shared<const std::vector<LayerDecision>>(std::move(decisions));
  return operation;
}

TEST_CASE("the oldest operations lose their decisions first, and stay otherwise", "[operations]") {
  Operations operations(100);
  Effects effects;
  const size_t half = Operations::kDecisionsMax / 2;
  operations.Begin(Decided("a", half), absl::UnixEpoch(), effects);
  operations.Begin(Decided("b", half), absl::UnixEpoch(), effects);
  CHECK(operations.Find("a")->decisions != nullptr);
  operations.Begin(Decided("c", 1), absl::UnixEpoch(), effects);
  CHECK(operations.Find("a")->decisions == nullptr);
  CHECK(operations.Find("b")->decisions != nullptr);
  CHECK(operations.Find("c")->decisions != nullptr);
  CHECK(operations.List("").size() == 3);
}

TEST_CASE("decisions go over the wire and into the store whole, or are left out", "[operations]") {
  OperationProgress operation = Decided("a", 0);
  operation.phase = "decode";
  std::vector<LayerDecision> decisions;
  for (int why = 0; why < kNumDecisionReasons; ++why) {
    decisions.push_back({.layer = LayerId(why),
                         .act = why == 0,
                         .why = static_cast<DecisionReason>(why),
                         .reason = NameOf(static_cast<DecisionReason>(why)),
                         .imbalance_before = 1.5,
                         .imbalance_after = 1.25,
                         .num_moves = why + 1,
                         .gain_tokens = 1e6,
                         .price_tokens = 2e5});
  }
  operation.decisions = std::make_shared<const std::vector<LayerDecision>>(decisions);
  v1::Operation message;
  ToProto(operation, Decisions::kIncluded, &message);
  const OperationProgress read = OperationOf(message);
  REQUIRE(read.decisions != nullptr);
  CHECK(*read.decisions == decisions);
  CHECK(read.phase == "decode");
  v1::Operation brief;
  ToProto(operation, Decisions::kLeftOut, &brief);
  CHECK(brief.decisions().empty());
  CHECK(OperationOf(brief).decisions == nullptr);
}

}  // namespace
}  // namespace evenkeel::controller
