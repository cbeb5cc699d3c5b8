// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/random.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/hash.h"
#include "algos/base/ids.h"
#include "algos/base/rng.h"
#include "algos/base/status_macros.h"
#include "algos/policies/each_layer.h"

namespace evenkeel::algos {

namespace {

// What the last slots of two ranks hold, exchanged, unless one of the ranks has what it would get.
void ExchangeLast(const Shape& shape, int one, int other, std::vector<ExpertId>& experts) {
  const auto room = static_cast<std::ptrdiff_t>(shape.slots_per_rank);
  const auto first = experts.begin() + one * room, second = experts.begin() + other * room;
  const auto one_last = first + room - 1, other_last = second + room - 1;
  const bool doubles =
      std::find(first, one_last, *other_last) != one_last || std::find(second, other_last, *one_last) != other_last;
  if (!doubles) std::swap(*one_last, *other_last);
}

}  // namespace

absl::StatusOr<std::vector<Placement>> PlanRandom(const Problem& problem, uint64_t seed) {
  EVENKEEL_RETURN_IF_ERROR(Validate(problem));
  EVENKEEL_RETURN_IF_ERROR(RefuseDeadRanks("random", problem));
  const Shape& shape = problem.shape;
  return PlanEachLayer(problem, [&](LayerId layer) {
    Placement placement = problem.current.empty() ? DefaultPlacement(shape) : problem.current[layer.idx()];
    if (shape.num_ranks == 1) return placement;
    Rng rng(MixBits(seed) + layer.idx());
    const int one = static_cast<int>(rng.Below(static_cast<uint64_t>(shape.num_ranks)));
    const int step = static_cast<int>(rng.Between(1, shape.num_ranks - 1));
    ExchangeLast(shape, one, (one + step) % shape.num_ranks, placement.expert_of_slot);
    return placement;
  });
}

absl::StatusOr<std::vector<LayerPlan>> RandomPolicy(const Problem& problem, const PolicyConfig& config) {
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<double> options, ReadOptions("random", kRandomOptions, config));
  if (options[0] != std::floor(options[0])) {
    return absl::InvalidArgumentError(
        absl::StrCat("policy random: option seed is ", options[0], ", which is not whole"));
  }
  EVENKEEL_ASSIGN_OR_RETURN(std::vector<Placement> placements, PlanRandom(problem, static_cast<uint64_t>(options[0])));
  return WithEvenShares(std::move(placements));
}

}  // namespace evenkeel::algos
