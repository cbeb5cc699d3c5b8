// SPDX-License-Identifier: Apache-2.0
#include "proto/convert_common.h"

#include <algorithm>
#include <utility>

#include "algos/base/status_macros.h"
#include "proto/evenkeel/v1/common.pb.h"

namespace evenkeel::proto {
namespace {

constexpr absl::Duration kDurationMax = absl::Hours(24 * 3660);

absl::StatusOr<int32_t> ToIndex(absl::string_view field, uint64_t value, int count, absl::string_view what) {
  if (value >= static_cast<uint64_t>(count)) {
    return Bad(field, value, absl::StrCat("one of the group's ", count, " ", what, ", 0 to ", count - 1, ","));
  }
  return static_cast<int32_t>(value);
}

absl::StatusOr<CountPlace> ToCountPlace(absl::string_view field, v1::CountPlace place) {
  switch (place) {
    case v1::COUNT_PLACE_AFTER_DISPATCH:
      return CountPlace::kAfterDispatch;
    case v1::COUNT_PLACE_ROUTER:
      return CountPlace::kRouter;
    default:
      return Bad(field, static_cast<int>(place), "a known place of counting");
  }
}

absl::StatusOr<Routing> ToRouting(absl::string_view field, v1::Routing routing) {
  switch (routing) {
    case v1::ROUTING_SENDER:
      return Routing::kSender;
    case v1::ROUTING_REPLICATED:
      return Routing::kReplicated;
    default:
      return Bad(field, static_cast<int>(routing), "a known routing");
  }
}

absl::StatusOr<algos::Shape> ToShape(absl::string_view field, const v1::Shape& message) {
  EVENKEEL_RETURN_IF_ERROR(CheckRange(absl::StrCat(field, ".num_experts"), message.num_experts(), 1, kExpertsMax));
  EVENKEEL_RETURN_IF_ERROR(CheckRange(absl::StrCat(field, ".num_ranks"), message.num_ranks(), 1, kRanksMax));
  EVENKEEL_RETURN_IF_ERROR(
      CheckRange(absl::StrCat(field, ".slots_per_rank"), message.slots_per_rank(), 1, kSlotsPerRankMax));
  EVENKEEL_RETURN_IF_ERROR(CheckRange(absl::StrCat(field, ".num_ranks * slots_per_rank"),
                                      uint64_t{message.num_ranks()} * message.slots_per_rank(), 1, kSlotsPerLayerMax));
  const algos::Shape shape{.num_experts = static_cast<int>(message.num_experts()),
                           .num_ranks = static_cast<int>(message.num_ranks()),
                           .slots_per_rank = static_cast<int>(message.slots_per_rank())};
  if (absl::Status status = algos::Validate(shape); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": ", status.message()));
  }
  return shape;
}

}  // namespace

absl::Status Missing(absl::string_view field) { return absl::InvalidArgumentError(absl::StrCat(field, " is missing")); }

absl::Status CheckText(absl::string_view field, absl::string_view text, size_t bytes_max, Text rule) {
  if (text.empty() && rule == Text::kNotEmpty) return absl::InvalidArgumentError(absl::StrCat(field, " is empty"));
  if (text.size() > bytes_max) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, " is ", text.size(), " bytes long: at most ", bytes_max, " wanted"));
  }
  for (size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 || c == 0x7F) {
      return absl::InvalidArgumentError(absl::StrCat(field, " has control character ", c, " at byte ", i));
    }
  }
  return absl::OkStatus();
}

std::string Tamed(absl::string_view text) {
  std::string tamed(text.substr(0, kTextBytesMax));
  for (char& c : tamed) {
    if (c < 0x20 || c >= 0x7F) c = '?';
  }
  return tamed;
}

absl::Status CheckRange(absl::string_view field, uint64_t value, uint64_t low, uint64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return Bad(field, value, absl::StrCat(low, " to ", high));
}

absl::StatusOr<LayerId> ToLayer(absl::string_view field, uint64_t layer, const GroupInfo& group) {
  EVENKEEL_ASSIGN_OR_RETURN(const int32_t index, ToIndex(field, layer, group.num_layers, "layers"));
  return LayerId(index);
}

absl::StatusOr<SlotIdx> ToSlot(absl::string_view field, uint64_t slot, const GroupInfo& group) {
  EVENKEEL_ASSIGN_OR_RETURN(const int32_t index, ToIndex(field, slot, group.shape.num_slots(), "slots per layer"));
  return SlotIdx(index);
}

absl::StatusOr<ExpertId> ToExpert(absl::string_view field, uint64_t expert, const GroupInfo& group) {
  EVENKEEL_ASSIGN_OR_RETURN(const int32_t index, ToIndex(field, expert, group.shape.num_experts, "experts"));
  return ExpertId(index);
}

absl::StatusOr<RankId> ToRank(absl::string_view field, uint64_t rank, const GroupInfo& group) {
  EVENKEEL_ASSIGN_OR_RETURN(const int32_t index, ToIndex(field, rank, group.shape.num_ranks, "ranks"));
  return RankId(index);
}

absl::StatusOr<absl::Duration> DurationFromMicros(absl::string_view field, int64_t micros) {
  const absl::Duration duration = absl::Microseconds(micros);
  if (micros < 0 || duration > kDurationMax) {
    return Bad(field, micros, absl::StrCat("0 to ", absl::ToInt64Microseconds(kDurationMax)));
  }
  return duration;
}

absl::StatusOr<Member> FromProto(absl::string_view field, const v1::Member& message, const GroupInfo& group) {
  EVENKEEL_ASSIGN_OR_RETURN(const RankId rank, ToRank(absl::StrCat(field, ".rank"), message.rank(), group));
  if (message.incarnation() == 0) return Bad(absl::StrCat(field, ".incarnation"), 0, "another number than 0");
  return Member{.rank = rank, .incarnation = message.incarnation()};
}

absl::StatusOr<View> FromProto(absl::string_view field, const v1::View& message, const GroupInfo& group) {
  const int num_members = message.members_size();
  const int num_members_max = message.number() == 0 ? 0 : group.shape.num_ranks;
  EVENKEEL_RETURN_IF_ERROR(CheckRange(absl::StrCat("the length of ", field, ".members"),
                                      static_cast<uint64_t>(num_members), 0, static_cast<uint64_t>(num_members_max)));
  View view{.number = message.number(), .members = {}};
  for (int i = 0; i < num_members; ++i) {
    const std::string name = absl::StrCat(field, ".members[", i, "]");
    EVENKEEL_ASSIGN_OR_RETURN(const Member member, FromProto(name, message.members(i), group));
    if (!view.members.empty() && member.rank <= view.members.back().rank) {
      return Bad(absl::StrCat(name, ".rank"), member.rank.value(),
                 absl::StrCat("a rank above ", view.members.back().rank.value()));
    }
    view.members.push_back(member);
  }
  return view;
}

absl::StatusOr<GroupInfo> FromProto(absl::string_view field, const v1::GroupInfo& message) {
  EVENKEEL_RETURN_IF_ERROR(CheckText(absl::StrCat(field, ".name"), message.name(), kNameBytesMax, Text::kNotEmpty));
  EVENKEEL_RETURN_IF_ERROR(CheckText(absl::StrCat(field, ".model"), message.model(), kNameBytesMax, Text::kMayBeEmpty));
  if (!message.has_shape()) return Missing(absl::StrCat(field, ".shape"));
  GroupInfo group;
  EVENKEEL_ASSIGN_OR_RETURN(group.shape, ToShape(absl::StrCat(field, ".shape"), message.shape()));
  EVENKEEL_RETURN_IF_ERROR(CheckRange(absl::StrCat(field, ".num_layers"), message.num_layers(), 1, kLayersMax));
  EVENKEEL_RETURN_IF_ERROR(CheckRange(absl::StrCat(field, ".num_layers * slots per layer"),
                                      static_cast<uint64_t>(group.shape.num_slots()) * message.num_layers(), 1,
                                      kSlotsPerGroupMax));
  EVENKEEL_RETURN_IF_ERROR(CheckRange(absl::StrCat(field, ".num_nodes"), message.num_nodes(), 1,
                                      static_cast<uint64_t>(group.shape.num_ranks)));
  if (group.shape.num_ranks % static_cast<int>(message.num_nodes()) != 0) {
    return Bad(absl::StrCat(field, ".num_nodes"), message.num_nodes(),
               absl::StrCat("a divisor of ", group.shape.num_ranks));
  }
  EVENKEEL_RETURN_IF_ERROR(
      CheckRange(absl::StrCat(field, ".world"), message.world(), 0, static_cast<uint64_t>(group.shape.num_ranks)));
  EVENKEEL_RETURN_IF_ERROR(CheckRange(absl::StrCat(field, ".expert_bytes"), message.expert_bytes(), 0, kBytesMax));
  EVENKEEL_ASSIGN_OR_RETURN(group.count_place,
                            ToCountPlace(absl::StrCat(field, ".count_place"), message.count_place()));
  EVENKEEL_ASSIGN_OR_RETURN(group.routing, ToRouting(absl::StrCat(field, ".routing"), message.routing()));
  group.name = message.name();
  group.model = message.model();
  group.weights_version = message.weights_version();
  group.manifest_digest = message.manifest_digest();
  group.num_layers = static_cast<int>(message.num_layers());
  group.num_nodes = static_cast<int>(message.num_nodes());
  group.world = static_cast<int>(message.world());
  group.expert_bytes = message.expert_bytes();
  return group;
}

absl::StatusOr<algos::LayerMap> FromProto(absl::string_view field, const v1::LayerMap& message,
                                          const algos::Shape& shape) {
  const auto length_is = [&](absl::string_view list, int length, uint64_t wanted) {
    return CheckRange(absl::StrCat("the length of ", field, ".", list), static_cast<uint64_t>(length), wanted, wanted);
  };
  EVENKEEL_RETURN_IF_ERROR(
      length_is("replicas_of_expert", message.replicas_of_expert_size(), static_cast<uint64_t>(shape.num_experts)));
  uint64_t num_replicas = 0;
  for (uint32_t replicas : message.replicas_of_expert()) num_replicas += replicas;
  EVENKEEL_RETURN_IF_ERROR(CheckRange(absl::StrCat("the sum of ", field, ".replicas_of_expert"), num_replicas, 0,
                                      static_cast<uint64_t>(shape.num_slots())));
  EVENKEEL_RETURN_IF_ERROR(length_is("slots", message.slots_size(), num_replicas));
  EVENKEEL_RETURN_IF_ERROR(length_is("bounds", message.bounds_size(), num_replicas));
  algos::LayerMap map;
  map.offsets.reserve(static_cast<size_t>(shape.num_experts) + 1);
  map.offsets.push_back(0);
  for (uint32_t replicas : message.replicas_of_expert()) {
    map.offsets.push_back(map.offsets.back() + static_cast<int32_t>(replicas));
  }
  map.slots.reserve(num_replicas);
  for (int i = 0; i < message.slots_size(); ++i) {
    if (message.slots(i) >= static_cast<uint32_t>(shape.num_slots())) {
      return Bad(absl::StrCat(field, ".slots[", i, "]"), message.slots(i),
                 absl::StrCat("a slot below ", shape.num_slots()));
    }
    map.slots.push_back(SlotIdx(static_cast<int32_t>(message.slots(i))));
  }
  map.bounds.assign(message.bounds().begin(), message.bounds().end());
  if (absl::Status status = algos::Validate(map, shape, {.allow_dead_experts = true}); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": ", status.message()));
  }
  return map;
}

absl::Status CheckError(absl::string_view field, const v1::Error& message) {
  if (message.code() == 0) return Bad(absl::StrCat(field, ".code"), 0, "an error");
  return absl::OkStatus();
}

absl::Status StatusOf(const v1::Error& message) {
  const bool known = message.code() > 0 && message.code() <= 16;
  return absl::Status(known ? static_cast<absl::StatusCode>(message.code()) : absl::StatusCode::kUnknown,
                      Tamed(message.message()));
}

Epoch FromProto(const v1::Epoch& message) { return {.term = message.term(), .number = message.number()}; }

void ToProto(const Member& value, v1::Member* message) {
  message->set_rank(static_cast<uint32_t>(value.rank.value()));
  message->set_incarnation(value.incarnation);
}

void ToProto(Epoch value, v1::Epoch* message) {
  message->set_term(value.term);
  message->set_number(value.number);
}

void ToProto(const View& value, v1::View* message) {
  message->set_number(value.number);
  for (const Member& member : value.members) ToProto(member, message->add_members());
}

void ToProto(const algos::Shape& value, v1::Shape* message) {
  message->set_num_experts(static_cast<uint32_t>(value.num_experts));
  message->set_num_ranks(static_cast<uint32_t>(value.num_ranks));
  message->set_slots_per_rank(static_cast<uint32_t>(value.slots_per_rank));
}

void ToProto(const GroupInfo& value, v1::GroupInfo* message) {
  message->set_name(value.name);
  message->set_model(value.model);
  message->set_weights_version(value.weights_version);
  message->set_manifest_digest(value.manifest_digest);
  ToProto(value.shape, message->mutable_shape());
  message->set_num_layers(static_cast<uint32_t>(value.num_layers));
  message->set_num_nodes(static_cast<uint32_t>(value.num_nodes));
  message->set_world(static_cast<uint32_t>(value.world));
  message->set_expert_bytes(value.expert_bytes);
  message->set_count_place(value.count_place == CountPlace::kRouter ? v1::COUNT_PLACE_ROUTER
                                                                    : v1::COUNT_PLACE_AFTER_DISPATCH);
  message->set_routing(value.routing == Routing::kReplicated ? v1::ROUTING_REPLICATED : v1::ROUTING_SENDER);
}

void ToProto(const algos::LayerMap& value, v1::LayerMap* message) {
  for (size_t e = 0; e + 1 < value.offsets.size(); ++e) {
    message->add_replicas_of_expert(static_cast<uint32_t>(value.offsets[e + 1] - value.offsets[e]));
  }
  message->mutable_slots()->Reserve(static_cast<int>(value.slots.size()));
  for (SlotIdx slot : value.slots) message->add_slots(static_cast<uint32_t>(slot.value()));
  message->mutable_bounds()->Assign(value.bounds.begin(), value.bounds.end());
}

void ToProto(const absl::Status& value, v1::Error* message) {
  message->set_code(static_cast<int>(value.code()));
  message->set_message(Tamed(value.message()));
}

}  // namespace evenkeel::proto
