// SPDX-License-Identifier: Apache-2.0
//
// What the coordinator's queries return, as messages.
//
// Threads:   pure functions.
#pragma once

#include "algos/placement.h"
#include "controller/core/status.h"

namespace evenkeel::v1 {
class Group;
class GroupMaps;
class GroupStats;
class MapDiff;
class RedundancyReport;
}  // namespace evenkeel::v1

namespace evenkeel::controller {

// kBrief leaves out members, waiting, layers and waves_blocked.
enum class Detail { kBrief, kFull };

void ToProto(const GroupStatus& value, Detail detail, v1::Group* message);
void ToProto(const GroupStats& value, v1::GroupStats* message);
void ToProto(const GroupMaps& value, const algos::Shape& shape, v1::GroupMaps* message);
void ToProto(const MapDiff& value, v1::MapDiff* message);
void ToProto(const RedundancyReport& value, v1::RedundancyReport* message);

}  // namespace evenkeel::controller
