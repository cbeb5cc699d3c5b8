// SPDX-License-Identifier: Apache-2.0
#include "controller/core/rollout/layer_rollout.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace evenkeel::controller {

namespace {

// Moves under way over all layers: ordered, or planned and waiting for their slot.
void CountMovesUnderWay(const MoveOrders& orders, const LayerRollouts& rollouts, algos::MoveState& state) {
  const algos::Shape& shape = state.shape;
  state.moves_into_rank.assign(static_cast<size_t>(shape.num_ranks), 0);
  state.reads_from_rank.assign(static_cast<size_t>(shape.num_ranks), 0);
  const auto count = [&](SlotIdx slot, const std::vector<SlotIdx>& sources) {
    ++state.moves_into_rank[shape.RankOf(slot).idx()];
    if (!sources.empty()) ++state.reads_from_rank[shape.RankOf(sources.front()).idx()];
  };
  for (const auto& [id, order] : orders.open()) count(order.slot, order.sources);
  for (const auto& [layer, rollout] : rollouts) {
    if (!rollout.in_wave) continue;
    for (const WaveMove& move : rollout.wave.moves) {
      if (move.state == WaveMove::State::kWaiting) count(move.plan.slot, move.plan.sources);
    }
  }
}

}  // namespace

bool AllEnded(const RolloutWave& wave) {
  return std::ranges::all_of(wave.moves, [](const WaveMove& move) { return move.state == WaveMove::State::kEnded; });
}

algos::MoveState MoveStateOf(LayerId layer, const std::vector<SlotIdx>& staged, const SlotTable& table,
                             const Membership& members, const MoveOrders& orders, const LayerRollouts& rollouts,
                             absl::Time now) {
  const auto slots = table.layer(layer);
  algos::MoveState state;
  state.shape = table.shape();
  for (const Slot& slot : slots) {
    switch (slot.use) {
      case SlotUse::kLive:
        state.use.push_back(algos::SlotUse::kLive);
        state.expert_of_slot.push_back(slot.expert);
        break;
      case SlotUse::kWriting:
        state.use.push_back(algos::SlotUse::kBusy);
        state.expert_of_slot.push_back(kNoExpert);
        break;
      case SlotUse::kCondemned:
        state.use.push_back(algos::SlotUse::kUnavailable);
        state.expert_of_slot.push_back(kNoExpert);
        break;
      default:
        state.use.push_back(algos::SlotUse::kFree);
        state.expert_of_slot.push_back(kNoExpert);
    }
  }
  for (const auto& [id, order] : orders.open()) {
    if (order.layer == layer && !order.cancelled) state.expert_of_slot[order.slot.idx()] = order.expert;
  }
  for (SlotIdx slot : staged) {
    state.use[slot.idx()] = algos::SlotUse::kLive;
    state.expert_of_slot[slot.idx()] = slots[slot.idx()].expert;
  }
  // Nothing goes to a rank that does not serve; what it holds may be read.
  for (int s = 0; s < state.shape.num_slots(); ++s) {
    algos::SlotUse& use = state.use[static_cast<size_t>(s)];
    const bool serves = members.at(state.shape.RankOf(SlotIdx(s))).standing == Standing::kServing;
    if (!serves && use == algos::SlotUse::kFree) use = algos::SlotUse::kUnavailable;
  }
  state.readers = orders.Readers(layer, state.shape.num_slots(), now);
  CountMovesUnderWay(orders, rollouts, state);
  return state;
}

algos::MoveLimits MoveLimitsOf(const GroupInfo& info, const GroupSettings& settings) {
  algos::MoveLimits limits;
  limits.moves_per_rank_max = settings.moves_per_rank_max;
  limits.copies_per_source_max = settings.copies_per_source_max;
  limits.expert_bytes = info.expert_bytes;
  for (int r = 0; r < info.shape.num_ranks; ++r) {
    limits.node_of_rank.push_back(r * info.num_nodes / info.shape.num_ranks);
  }
  return limits;
}

Blame FindBlame(LayerId layer, const LayerRollout& rollout, const Membership& members, const SlotTable& slots,
                uint64_t view_number) {
  const auto not_quiesced = [&](Epoch since) -> Blame {
    const std::optional<RankId> rank = members.LikelyCulprit(since, view_number);
    if (!rank.has_value()) return {};
    const MemberRecord& member = members.at(*rank);
    if (!member.attached()) return {*rank, "its agent is away"};
    std::string reason = absl::StrCat("has not quiesced at epoch ", since.ToString());
    if (!member.engine.alive) absl::StrAppend(&reason, ", its engine has ended");
    if (member.engine.oldest_open_step > absl::ZeroDuration()) {
      absl::StrAppend(&reason, ", a step is open for ", absl::FormatDuration(member.engine.oldest_open_step));
    }
    return {*rank, std::move(reason)};
  };
  if (!rollout.in_wave) return not_quiesced(Epoch());
  const algos::Shape& shape = slots.shape();
  for (const WaveMove& move : rollout.wave.moves) {
    if (move.state != WaveMove::State::kWaiting) continue;
    if (Blame blame = not_quiesced(slots.at(layer, move.plan.slot).since); blame.rank.valid()) return blame;
    return {shape.RankOf(move.plan.slot), absl::StrCat("slot ", move.plan.slot.value(), " is not free yet")};
  }
  for (const WaveMove& move : rollout.wave.moves) {
    if (move.state != WaveMove::State::kOrdered) continue;
    const RankId rank = shape.RankOf(move.plan.slot);
    return {rank,
            absl::StrCat(members.at(rank).attached() ? "has not finished" : "its agent is away in",
                         " the move of expert ", move.plan.expert.value(), " into slot ", move.plan.slot.value())};
  }
  return {};
}

}  // namespace evenkeel::controller
