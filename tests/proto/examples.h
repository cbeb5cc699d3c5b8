// SPDX-License-Identifier: Apache-2.0
//
// One valid value of everything that agents and the controller say, for the tests of the converters.
#pragma once

#include <vector>

#include "algos/layer_map.h"
#include "algos/placement.h"
#include "algos/protocol/messages.h"

namespace evenkeel::proto {

// 4 ranks x 3 slots, 8 experts, 2 layers.
inline GroupInfo ExampleGroup() {
  return {.name = "chat",
          .model = "tiny",
          .weights_version = 7,
          .manifest_digest = 0xFEDCBA9876543210u,
          .shape = {.num_experts = 8, .num_ranks = 4, .slots_per_rank = 3},
          .world = 3,
          .num_layers = 2,
          .num_nodes = 2,
          .expert_bytes = 1 << 20,
          .count_place = CountPlace::kRouter,
          .routing = Routing::kSender};
}

inline Endpoint ExampleEndpoint() {
  return {.transport = "ucx", .host = "host-a", .address = std::string("\x00\xFF\x01", 3)};
}

inline Attach ExampleAttach() {
  Attach attach{.group = ExampleGroup(),
                .member = {.rank = RankId(3), .incarnation = 0xFFFFFFFFFFFFFFFFu},
                .endpoints = {ExampleEndpoint(), {.transport = "local", .host = "host-a", .address = "/x"}},
                .term_obeyed = 9,
                .epoch = {.term = 9, .number = 4},
                .maps_digest = 11,
                .quiesced_epoch = {.term = 9, .number = 3},
                .view = {.number = 5, .members = {{.rank = RankId(1), .incarnation = 3}}},
                .joining = true,
                .suspended = true,
                .slots = {}};
  for (int i = 0; i < 6; ++i) {
    attach.slots.push_back({.state = static_cast<SlotState>(i % 4),
                            .expert = i % 4 == 0 ? kNoExpert : ExpertId(i),
                            .generation = static_cast<uint64_t>(i) << 40,
                            .fingerprint = ~static_cast<uint64_t>(i)});
  }
  return attach;
}

inline LoadReport ExampleReport() {
  return {.time = absl::FromUnixNanos(1'700'000'000'123'456'789),
          .first_step = 10,
          .last_step = 20,
          .entries = {{LayerId(0), SlotIdx(11), ExpertId(7), uint64_t{1} << 40, 5, 6},
                      {LayerId(1), SlotIdx(0), ExpertId(0), 1, 0, 1}},
          .num_unrouted_tokens = 3};
}

inline MoveOrder ExampleOrder() {
  return {.move_id = 99,
          .layer = LayerId(1),
          .expert = ExpertId(5),
          .slot = SlotIdx(6),
          .generation = 8,
          .fingerprint = 123,
          .retired_since = {.term = 2, .number = 3},
          .sources = {{.member = {.rank = RankId(0), .incarnation = 4},
                       .slot = SlotIdx(2),
                       .generation = 6,
                       .endpoint = ExampleEndpoint()}},
          .deadline = absl::Seconds(30)};
}

inline MapsUpdate ExampleMaps() {
  const GroupInfo group = ExampleGroup();
  const algos::Placement placement = algos::DefaultPlacement(group.shape);
  algos::LayerMap dead = algos::EvenMap(placement, group.shape.num_experts);
  MapsUpdate update{.epoch = {.term = 3, .number = 8},
                    .view_number = 2,
                    .base_epoch = {.term = 3, .number = 7},
                    .maps_digest = 77,
                    .layers = {}};
  update.layers.emplace_back(LayerId(1), std::move(dead));
  return update;
}

}  // namespace evenkeel::proto
