// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/layer_shares.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "algos/placement.h"
#include "algos/problem.h"
#include "controller/core/planning/group_flex.h"
#include "controller/core/planning/layer_choice.h"
#include "controller/core/planning/pins_in_force.h"

namespace evenkeel::controller {

namespace {

// Ranks without live slots because they do not take part; one that is being emptied still has some.
std::vector<bool> Blank(const GroupState& group) {
  std::vector<bool> blank;
  for (const MemberRecord& record : group.members.members()) {
    blank.push_back(record.standing != Standing::kServing && record.standing != Standing::kDraining);
  }
  return blank;
}

// Chooses the shares of one layer after the other, by one load.
class Chooser {
 public:
  explicit Chooser(GroupState& group) : group_(group), load_(group.loads.Sum(group.settings.num_windows_for_shares)) {
    if (!group.flex.has_value() || group.flex->num_observed() == 0) return;
    rules_ = ShareRules(group.info, group.settings.planning, group.loads.Newest().value_or(load_), Blank(group));
  }

  std::span<const uint64_t> tokens(LayerId layer) const { return load_.layer(layer); }
  bool HasEnough(LayerId layer) const { return group_.fast_loop.HasEnough(tokens(layer)); }

  // What shares are chosen by and judged by.
  std::vector<uint64_t> Expected(LayerId layer) const {
    if (rules_.has_value()) return ExpectedTokens(*group_.flex, layer, tokens(layer));
    return {tokens(layer).begin(), tokens(layer).end()};
  }
  double Level(const algos::LayerMap& map, std::span<const uint64_t> expected) const {
    return group_.fast_loop.Level(map, expected);
  }

  FastLoop::Choice Choose(LayerId layer, const algos::LayerMap* before, std::span<const uint64_t> expected) {
    const algos::Placement live = group_.slots.Live(layer);
    if (!rules_.has_value() || !HasEnough(layer)) return group_.fast_loop.Choose(live, before, tokens(layer));
    algos::Shares previous;
    if (before != nullptr) previous = group_.fast_loop.SharesIn(live, *before);
    FastLoop::Choice choice;
    choice.map =
        algos::SharedMap(live, group_.info.shape.num_experts, group_.flex->SharesFor(*rules_, layer, live, previous));
    choice.imbalance = group_.fast_loop.Predict(choice.map, expected);
    return choice;
  }

  // A plan's own shares hold once the layer is where the plan wants it; a Flex knows newer windows than they do.
  FastLoop::Choice ChooseFirst(LayerId layer, const algos::LayerMap* before) {
    const auto planned = group_.planned_shares.find(layer);
    if (planned == group_.planned_shares.end()) return Choose(layer, before, Expected(layer));
    const algos::Placement live = group_.slots.Live(layer);
    const algos::Shape& shape = group_.info.shape;
    if (HoldingsOf(planned->second.target, shape) != HoldingsOf(live, shape)) {
      return Choose(layer, before, Expected(layer));
    }
    // Equal holdings: both list an expert's replicas on the same ranks in the same order.
    const algos::Shares shares = std::move(planned->second.shares);
    group_.planned_shares.erase(planned);
    if (rules_.has_value() && HasEnough(layer)) return Choose(layer, before, Expected(layer));
    return group_.fast_loop.Take(live, shares, tokens(layer));
  }

 private:
  GroupState& group_;
  const algos::Load load_;
  std::optional<algos::Problem> rules_;  // where a Flex that has seen load follows the group
};

}  // namespace

void ObserveWindows(GroupState& group, int num_closed) {
  if (!group.flex.has_value()) return;
  for (int age = std::min(num_closed, group.settings.num_windows_kept) - 1; age >= 0; --age) {
    if (const std::optional<algos::Load> window = group.loads.Window(age)) group.flex->Observe(*window);
  }
}

namespace {

// Calls `take` with each layer whose shares are worth changing.
template <typename Take>
void ForEachImproved(GroupState& group, const Take& take) {
  Chooser chooser(group);
  for (int l = 0; l < group.info.num_layers; ++l) {
    const LayerId layer(l);
    if (!chooser.HasEnough(layer) || FrozenBy(group, layer) != nullptr) continue;
    const std::vector<uint64_t> expected = chooser.Expected(layer);
    const algos::LayerMap& now_used = group.publisher.map(layer);
    FastLoop::Choice choice = chooser.Choose(layer, &now_used, expected);
    double& predicted = group.predicted[layer.idx()];
    if (predicted == 0) predicted = group.fast_loop.Predict(now_used, expected);
    const double gain = chooser.Level(now_used, expected) - chooser.Level(choice.map, expected);
    if (gain >= group.settings.shares_min_gain) take(layer, group.fast_loop.Predict(now_used, expected), choice);
  }
}

}  // namespace

Publisher::LayerMaps ImprovedShares(GroupState& group) {
  Publisher::LayerMaps improved;
  ForEachImproved(group, [&](LayerId layer, double, FastLoop::Choice& choice) {
    group.predicted[layer.idx()] = choice.imbalance;
    improved.emplace_back(layer, std::move(choice.map));
  });
  return improved;
}

void LookAtShares(GroupState& group) {
  ShadowShares seen{.time = group.clock};
  ForEachImproved(group, [&](LayerId, double now_used, const FastLoop::Choice& choice) {
    ++seen.num_layers;
    seen.imbalance_before += now_used;
    seen.imbalance_after += choice.imbalance;
  });
  if (seen.num_layers > 0) {
    seen.imbalance_before /= seen.num_layers;
    seen.imbalance_after /= seen.num_layers;
    ++group.totals.shares_shadowed;
  }
  group.shadow_shares = seen;
}

Publisher::LayerMaps FirstShares(GroupState& group, std::span<const LayerId> layers) {
  Publisher::LayerMaps first;
  if (layers.empty()) return first;
  Chooser chooser(group);
  for (LayerId layer : layers) {
    const algos::LayerMap* before = group.publisher.published() ? &group.publisher.map(layer) : nullptr;
    FastLoop::Choice choice = chooser.ChooseFirst(layer, before);
    if (choice.imbalance > 0) group.predicted[layer.idx()] = choice.imbalance;
    first.emplace_back(layer, std::move(choice.map));
  }
  return first;
}

}  // namespace evenkeel::controller
