// SPDX-License-Identifier: Apache-2.0
//
// Operations between the core's values and messages, for services and the store.
//
// Threads:   pure functions.
#pragma once

#include "controller/core/event.h"

namespace evenkeel::v1 {
class Operation;
class PlanPin;
}  // namespace evenkeel::v1

namespace evenkeel::controller {

// Whether the decision about each layer is told too.
enum class Decisions { kLeftOut, kIncluded };

void ToProto(const OperationProgress& value, Decisions decisions, v1::Operation* message);

void ToProto(const algos::Pin& value, v1::PlanPin* message);

// Of what ToProto wrote; unknown causes and states become kOperator and kFailed.
OperationProgress OperationOf(const v1::Operation& message);

// Nothing more will happen to it.
bool IsFinal(OperationState state);

// One word for people, logs and metrics: "superseded", "slow_loop".
const char* NameOf(OperationState state);
const char* NameOf(Cause cause);

}  // namespace evenkeel::controller
