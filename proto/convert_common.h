// SPDX-License-Identifier: Apache-2.0
//
// Messages that agents, controllers and operators share, as valid values: every bound is checked here, so that
// the cores need not. Also the small checks that the other converters are made of.
//
// Errors:    kInvalidArgument naming the field by its full path, its value and what was wanted.
// Limits:    the constants below, as stated in proto/evenkeel/v1/common.proto. Nothing is allocated by a count
//            that was not checked first.
// Threads:   pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/layer_map.h"
#include "algos/protocol/identity.h"
#include "algos/protocol/messages.h"

namespace evenkeel::v1 {
class Member;
class Epoch;
class View;
class Shape;
class GroupInfo;
class LayerMap;
class Error;
}  // namespace evenkeel::v1

namespace evenkeel::proto {

inline constexpr int kMessageBytesMax = 64 << 20;
inline constexpr uint32_t kRanksMax = 65536;
inline constexpr uint32_t kExpertsMax = 65536;
inline constexpr uint32_t kSlotsPerRankMax = 65536;
inline constexpr uint32_t kLayersMax = 4096;
inline constexpr uint64_t kSlotsPerLayerMax = uint64_t{1} << 20;
inline constexpr uint64_t kSlotsPerGroupMax = uint64_t{1} << 22;
inline constexpr size_t kNameBytesMax = 256;
inline constexpr size_t kTextBytesMax = 4096;
inline constexpr uint64_t kTokensMax = uint64_t{1} << 40;  // of one entry of one report
inline constexpr uint64_t kBytesMax = uint64_t{1} << 50;   // of anything

// "`field` is `value`: `wanted` wanted".
template <typename Value>
absl::Status Bad(absl::string_view field, const Value& value, absl::string_view wanted) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, ": ", wanted, " wanted"));
}
absl::Status Missing(absl::string_view field);

enum class Text { kMayBeEmpty, kNotEmpty };
// At most `bytes_max` bytes and none of them a control character.
absl::Status CheckText(absl::string_view field, absl::string_view text, size_t bytes_max, Text rule);

// At most kTextBytesMax bytes of printable ASCII, the rest replaced by '?': for sentences from elsewhere.
std::string Tamed(absl::string_view text);

// low <= value <= high.
absl::Status CheckRange(absl::string_view field, uint64_t value, uint64_t low, uint64_t high);

// Ids against the group they belong to.
absl::StatusOr<LayerId> ToLayer(absl::string_view field, uint64_t layer, const GroupInfo& group);
absl::StatusOr<SlotIdx> ToSlot(absl::string_view field, uint64_t slot, const GroupInfo& group);
absl::StatusOr<ExpertId> ToExpert(absl::string_view field, uint64_t expert, const GroupInfo& group);
absl::StatusOr<RankId> ToRank(absl::string_view field, uint64_t rank, const GroupInfo& group);

// 0 to ten years.
absl::StatusOr<absl::Duration> DurationFromMicros(absl::string_view field, int64_t micros);

absl::StatusOr<Member> FromProto(absl::string_view field, const v1::Member& message, const GroupInfo& group);
absl::StatusOr<View> FromProto(absl::string_view field, const v1::View& message, const GroupInfo& group);
absl::StatusOr<GroupInfo> FromProto(absl::string_view field, const v1::GroupInfo& message);
// Experts without a replica are allowed: their tokens route to -1.
absl::StatusOr<algos::LayerMap> FromProto(absl::string_view field, const v1::LayerMap& message,
                                          const algos::Shape& shape);
// The code is not 0.
absl::Status CheckError(absl::string_view field, const v1::Error& message);
// Never OK. The sentence is Tamed; an unknown code becomes kUnknown. Requires: CheckError is OK.
absl::Status StatusOf(const v1::Error& message);
Epoch FromProto(const v1::Epoch& message);

void ToProto(const Member& value, v1::Member* message);
void ToProto(Epoch value, v1::Epoch* message);
void ToProto(const View& value, v1::View* message);
void ToProto(const algos::Shape& value, v1::Shape* message);
void ToProto(const GroupInfo& value, v1::GroupInfo* message);
void ToProto(const algos::LayerMap& value, v1::LayerMap* message);
void ToProto(const absl::Status& value, v1::Error* message);

}  // namespace evenkeel::proto
