// SPDX-License-Identifier: Apache-2.0
#include "algos/problem.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"
#include "algos/base/status_macros.h"

namespace evenkeel::algos {

namespace {

absl::Status ValidateEpisodes(const Problem& problem) {
  if (problem.episodes.empty()) return absl::InvalidArgumentError("problem: episodes: at least one is needed");
  const size_t cells = static_cast<size_t>(problem.num_layers) * static_cast<size_t>(problem.shape.num_experts);
  for (size_t i = 0; i < problem.episodes.size(); ++i) {
    const Load& load = problem.episodes[i];
    if (load.num_layers != problem.num_layers || load.num_experts != problem.shape.num_experts ||
        load.tokens.size() != cells) {
      return absl::InvalidArgumentError(absl::StrCat(
          "problem: episodes: number ", i, " is of ", load.num_layers, " layers x ", load.num_experts, " experts with ",
          load.tokens.size(), " values; the group has ", problem.num_layers, " x ", problem.shape.num_experts));
    }
  }
  return absl::OkStatus();
}

// Lengths and ids only: after a rank is lost, an expert may be nowhere.
absl::Status ValidateCurrent(const Problem& problem) {
  if (problem.current.empty()) return absl::OkStatus();
  if (problem.current.size() != static_cast<size_t>(problem.num_layers)) {
    return absl::InvalidArgumentError(
        absl::StrCat("problem: current: ", problem.current.size(), " placements for ", problem.num_layers, " layers"));
  }
  for (size_t layer = 0; layer < problem.current.size(); ++layer) {
    const std::vector<ExpertId>& experts = problem.current[layer].expert_of_slot;
    if (experts.size() != static_cast<size_t>(problem.shape.num_slots())) {
      return absl::InvalidArgumentError(absl::StrCat("problem: current: layer ", layer, " has ", experts.size(),
                                                     " slots; the group has ", problem.shape.num_slots()));
    }
    for (size_t slot = 0; slot < experts.size(); ++slot) {
      if (experts[slot] != kNoExpert &&
          (!experts[slot].valid() || experts[slot].value() >= problem.shape.num_experts)) {
        return absl::InvalidArgumentError(absl::StrCat("problem: current: layer ", layer, " slot ", slot,
                                                       " holds unknown expert ", experts[slot].value()));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateLayers(const Problem& problem) {
  if (!problem.layers.empty() && problem.current.empty()) {
    return absl::InvalidArgumentError("problem: layers: some are to keep a current placement, but there is none");
  }
  for (size_t i = 0; i < problem.layers.size(); ++i) {
    const LayerId layer = problem.layers[i];
    if (!layer.valid() || layer.value() >= problem.num_layers) {
      return absl::InvalidArgumentError(
          absl::StrCat("problem: layers: there is no layer ", layer.value(), " of ", problem.num_layers));
    }
    if (i > 0 && layer <= problem.layers[i - 1]) {
      return absl::InvalidArgumentError(absl::StrCat("problem: layers: ", layer.value(), " is not ascending"));
    }
  }
  return absl::OkStatus();
}

absl::Status ValidatePins(const Problem& problem) {
  for (const Pin& pin : problem.pins) {
    if (!pin.layer.valid() || pin.layer.value() >= problem.num_layers || !pin.expert.valid() ||
        pin.expert.value() >= problem.shape.num_experts || !pin.rank.valid() ||
        pin.rank.value() >= problem.shape.num_ranks) {
      return absl::InvalidArgumentError(
          absl::StrCat("problem: pins: layer ", pin.layer.value(), " expert ", pin.expert.value(), " on rank ",
                       pin.rank.value(), "; the group has ", problem.num_layers, " layers, ", problem.shape.num_experts,
                       " experts, ", problem.shape.num_ranks, " ranks"));
    }
    if (!problem.IsLive(pin.rank)) {
      return absl::InvalidArgumentError(absl::StrCat("problem: pins: layer ", pin.layer.value(), " expert ",
                                                     pin.expert.value(), " on rank ", pin.rank.value(),
                                                     ", which is dead"));
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateMovesMax(const Problem& problem) {
  if (problem.moves_max.empty()) return absl::OkStatus();
  if (problem.moves_max.size() != static_cast<size_t>(problem.num_layers)) {
    return absl::InvalidArgumentError(
        absl::StrCat("problem: moves_max: ", problem.moves_max.size(), " for ", problem.num_layers, " layers"));
  }
  for (size_t layer = 0; layer < problem.moves_max.size(); ++layer) {
    if (problem.moves_max[layer] < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("problem: moves_max: layer ", layer, " has ", problem.moves_max[layer]));
    }
  }
  if (problem.current.empty()) {
    return absl::InvalidArgumentError("problem: moves_max: moves are counted against `current`, which is empty");
  }
  return absl::OkStatus();
}

absl::Status ValidateCosts(const Problem& problem) {
  EVENKEEL_RETURN_IF_ERROR(ValidateMovesMax(problem));
  if (!problem.capacities.empty() && problem.capacities.size() != static_cast<size_t>(problem.shape.num_ranks)) {
    return absl::InvalidArgumentError(
        absl::StrCat("problem: capacities: ", problem.capacities.size(), " for ", problem.shape.num_ranks, " ranks"));
  }
  for (size_t rank = 0; rank < problem.capacities.size(); ++rank) {
    const double capacity = problem.capacities[rank];
    if (!(capacity > 0 && std::isfinite(capacity))) {
      return absl::InvalidArgumentError(absl::StrCat("problem: capacities: rank ", rank, " has ", capacity));
    }
  }
  const RankCost& cost = problem.cost;
  if (!(cost.per_expert >= 0 && cost.per_token >= 0 && std::isfinite(cost.per_expert + cost.per_token) &&
        cost.per_expert + cost.per_token > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("problem: cost: ", cost.per_expert, " per expert, ", cost.per_token, " per token"));
  }
  return absl::OkStatus();
}

absl::Status ValidateSurvive(const Problem& problem) {
  if (problem.survive.ranks < 0 || problem.survive.hosts < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("problem: survive: ", problem.survive.ranks, " ranks, ", problem.survive.hosts, " hosts"));
  }
  if (!problem.hosts.empty() && problem.hosts.size() != static_cast<size_t>(problem.shape.num_ranks)) {
    return absl::InvalidArgumentError(
        absl::StrCat("problem: hosts: ", problem.hosts.size(), " for ", problem.shape.num_ranks, " ranks"));
  }
  return absl::OkStatus();
}

}  // namespace

int Problem::num_live_ranks() const {
  int live = shape.num_ranks;
  for (bool dead : dead_ranks) live -= dead ? 1 : 0;
  return live;
}

absl::Status Validate(const Problem& problem) {
  EVENKEEL_RETURN_IF_ERROR(Validate(problem.shape));
  if (problem.num_layers <= 0) {
    return absl::InvalidArgumentError(absl::StrCat("problem: num_layers is ", problem.num_layers));
  }
  if (problem.num_nodes <= 0 || problem.shape.num_ranks % problem.num_nodes != 0) {
    return absl::InvalidArgumentError(absl::StrCat("problem: num_nodes is ", problem.num_nodes,
                                                   ", which does not divide ", problem.shape.num_ranks, " ranks"));
  }
  if (problem.num_expert_groups <= 0 || problem.shape.num_experts % problem.num_expert_groups != 0) {
    return absl::InvalidArgumentError(absl::StrCat("problem: num_expert_groups is ", problem.num_expert_groups,
                                                   ", which does not divide ", problem.shape.num_experts, " experts"));
  }
  EVENKEEL_RETURN_IF_ERROR(ValidateEpisodes(problem));
  EVENKEEL_RETURN_IF_ERROR(ValidateCurrent(problem));
  if (!problem.dead_ranks.empty() && problem.dead_ranks.size() != static_cast<size_t>(problem.shape.num_ranks)) {
    return absl::InvalidArgumentError(
        absl::StrCat("problem: dead_ranks: ", problem.dead_ranks.size(), " for ", problem.shape.num_ranks, " ranks"));
  }
  const int64_t room = int64_t{problem.num_live_ranks()} * problem.shape.slots_per_rank;
  if (room < problem.shape.num_experts) {
    return absl::InvalidArgumentError(absl::StrCat("problem: dead_ranks: the living ranks have ", room, " slots for ",
                                                   problem.shape.num_experts, " experts"));
  }
  EVENKEEL_RETURN_IF_ERROR(ValidatePins(problem));
  EVENKEEL_RETURN_IF_ERROR(ValidateCosts(problem));
  EVENKEEL_RETURN_IF_ERROR(ValidateSurvive(problem));
  return ValidateLayers(problem);
}

Load TotalLoad(const Problem& problem) {
  EVENKEEL_CHECK(!problem.episodes.empty());
  Load total = problem.episodes.front();
  for (size_t i = 1; i < problem.episodes.size(); ++i) {
    const std::vector<uint64_t>& tokens = problem.episodes[i].tokens;
    EVENKEEL_CHECK(tokens.size() == total.tokens.size());
    for (size_t at = 0; at < tokens.size(); ++at) {
      const uint64_t sum = total.tokens[at] + tokens[at];
      total.tokens[at] = sum < tokens[at] ? std::numeric_limits<uint64_t>::max() : sum;
    }
  }
  return total;
}

std::vector<int32_t> HostOfRank(const Problem& problem) {
  if (!problem.hosts.empty()) return problem.hosts;
  const int ranks_per_node = problem.shape.num_ranks / problem.num_nodes;
  std::vector<int32_t> hosts;
  for (int rank = 0; rank < problem.shape.num_ranks; ++rank) hosts.push_back(rank / ranks_per_node);
  return hosts;
}

std::vector<LayerId> PlannedLayers(const Problem& problem) {
  if (!problem.layers.empty()) return problem.layers;
  std::vector<LayerId> layers;
  layers.reserve(static_cast<size_t>(problem.num_layers));
  for (int layer = 0; layer < problem.num_layers; ++layer) layers.push_back(LayerId(layer));
  return layers;
}

}  // namespace evenkeel::algos
