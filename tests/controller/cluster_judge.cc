// SPDX-License-Identifier: Apache-2.0
//
// The judge of a Cluster: what must hold after every step.
#include <algorithm>
#include <utility>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/layer_map.h"
#include "tests/controller/cluster.h"

namespace evenkeel::controller {

// ---- The judge

bool Cluster::Knows(const FakeAgent& agent, const Member& member) {
  return std::find(agent.accepted.begin(), agent.accepted.end(), member) != agent.accepted.end();
}

void Cluster::JudgeView(const FakeAgent& agent, const View& view) const {
  const bool named = std::find(view.members.begin(), view.members.end(), agent.member) != view.members.end();
  if (!named || !agent.joining || agent.epoch != Epoch()) return;
  for (const FakeAgent& other : agents) {
    const bool in_set = std::find(view.members.begin(), view.members.end(), other.member) != view.members.end();
    const bool newcomer = other.joining && other.epoch == Epoch();
    INFO("rank " << agent.member.rank.value() << " joins; rank " << other.member.rank.value() << " does not know it");
    if (in_set && !newcomer) REQUIRE(Knows(other, agent.member));
  }
}

void Cluster::JudgeWrite(LayerId layer, SlotIdx slot) const {
  for (const FakeAgent& agent : agents) {
    for (const Maps& maps : agent.in_use) {
      const auto& slots = maps[layer.idx()].slots;
      INFO("rank " << agent.member.rank.value() << " may still send tokens to slot " << slot.value() << " of layer "
                   << layer.value());
      REQUIRE(std::find(slots.begin(), slots.end(), slot) == slots.end());
    }
  }
}

void Cluster::JudgeMaps(const Maps& maps) const {
  for (size_t l = 0; l < maps.size(); ++l) {
    for (int e = 0; e < options.shape.num_experts; ++e) {
      REQUIRE((options.may_lose_experts || maps[l].num_replicas(ExpertId(e)) >= 1));
      for (SlotIdx slot : maps[l].slots_of(ExpertId(e))) {
        const SlotRecord& record =
            const_cast<Cluster*>(this)->RecordOf(LayerId(static_cast<int>(l)), slot);  // NOLINT: reads only
        INFO("layer " << l << " expert " << e << " slot " << slot.value());
        const FakeAgent& owner = agents[options.shape.RankOf(slot).idx()];
        for (const FakeAgent& other : agents) {
          // Who is in the set must know the rank that this slot is of, and it must know itself.
          if (Knows(other, other.member)) REQUIRE(Knows(other, owner.member));
        }
        // One of the first world is in the set from the start.
        if (owner.joining) REQUIRE(Knows(owner, owner.member));
        REQUIRE(record.state == SlotState::kVerified);
        REQUIRE(record.expert == ExpertId(e));
      }
    }
  }
}

}  // namespace evenkeel::controller
