// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/deepseek_vec.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <utility>

#include "algos/base/ids.h"
#include "algos/base/status_macros.h"
#include "algos/policies/each_layer.h"
#include "algos/policies/peers/double_ordering.h"

namespace evenkeel::algos {

namespace {

// `value_of(i)` for i below n, in the order in which torch adds up float32 along an outer axis on a CPU: runs of at
// least 16, whose sums are added up in runs again, four levels high.
template <typename ValueOf>
float CascadeSum(size_t n, ValueOf value_of) {
  const size_t power = std::max(size_t{4}, static_cast<size_t>(std::bit_width(n - 1)) / 4);
  const size_t run = size_t{1} << power;
  std::array<float, 4> levels{};
  size_t at = 0;
  while (at + run <= n) {
    for (size_t end = at + run; at < end; ++at) levels[0] += value_of(at);
    for (size_t level = 1; level < levels.size(); ++level) {
      levels[level] += levels[level - 1];
      levels[level - 1] = 0;
      if ((at & ((run - 1) << (level * power))) != 0) break;
    }
  }
  for (; at < n; ++at) levels[0] += value_of(at);
  for (size_t level = 1; level < levels.size(); ++level) levels[0] += levels[level];
  return levels[0];
}

// Plans one layer after another; storage is kept between them.
class VecPlanner {
 public:
  explicit VecPlanner(const Problem& problem)
      : problem_(problem),
        hierarchical_(problem.num_expert_groups > 1 && problem.num_expert_groups % problem.num_nodes == 0),
        num_experts_(static_cast<size_t>(problem.shape.num_experts)),
        num_nodes_(hierarchical_ ? static_cast<size_t>(problem.num_nodes) : 1),
        num_episodes_(problem.episodes.size()),
        expert_of_position_(num_experts_),
        totals_(num_experts_),
        steps_(num_episodes_) {}

  Placement Plan(LayerId layer) {
    AddUp(layer);
    OrderExperts();
    for (Step& step : steps_) step.tokens.resize(num_experts_);
    for (size_t t = 0; t < num_episodes_; ++t) {
      const auto tokens = problem_.episodes[t].layer(layer);
      for (size_t i = 0; i < num_experts_; ++i) {
        steps_[t].tokens[i] = static_cast<float>(tokens[expert_of_position_[i].idx()]);
      }
    }
    Placement placement;
    for (size_t node = 0; node < num_nodes_; ++node) {
      Replicate(node);
      Deal(node, placement.expert_of_slot);
    }
    return placement;
  }

 private:
  // One episode: experts of the node at hand by load per replica.
  struct Step {
    std::vector<float> tokens;  // by position, of all nodes
    std::vector<float> scores;  // by item of the node; distinct as positions are mixed in
    size_t top = 0, runner = 0;
    float largest = 0, next = 0;  // the largest score, and what would be once `top` had another replica
  };

  // Flat: exact, then rounded. Hierarchical: rounded first.
  void AddUp(LayerId layer) {
    for (size_t e = 0; e < num_experts_; ++e) {
      const auto tokens = [&](size_t t) { return problem_.episodes[t].layer(layer)[e]; };
      uint64_t exact = 0;
      for (size_t t = 0; t < num_episodes_; ++t) exact += tokens(t);
      totals_[e] = hierarchical_ ? CascadeSum(num_episodes_, [&](size_t t) { return static_cast<float>(tokens(t)); })
                                 : static_cast<float>(exact);
    }
  }

  // Node-major; groups heaviest first to the lightest node that has not its number of them yet.
  void OrderExperts() {
    const size_t num_groups = hierarchical_ ? static_cast<size_t>(problem_.num_expert_groups) : 1;
    const size_t size = num_experts_ / num_groups, room = num_groups / num_nodes_;
    weights_.assign(num_groups, 0);
    for (size_t g = 0; g < num_groups; ++g) {
      float sum = 0;
      for (size_t e = g * size; e < (g + 1) * size; ++e) sum += totals_[e];
      weights_[g] = sum;
    }
    std::vector<float> loads(num_nodes_, 0.0f);
    std::vector<size_t> fill(num_nodes_, 0);
    for (uint32_t group : sorter_.Sort(weights_)) {
      size_t best = num_nodes_;
      for (size_t node = 0; node < num_nodes_; ++node) {
        if (fill[node] < room && (best == num_nodes_ || loads[node] < loads[best])) best = node;
      }
      const size_t first = (best * room + fill[best]++) * size;
      loads[best] += static_cast<float>(weights_[group]);
      for (size_t i = 0; i < size; ++i) {
        expert_of_position_[first + i] = ExpertId(static_cast<int32_t>(group * size + i));
      }
    }
  }

  void Replicate(size_t node) {
    const size_t n = num_experts_ / num_nodes_, first = node * n;
    const size_t num_slots = static_cast<size_t>(problem_.shape.num_slots()) / num_nodes_;
    counts_.assign(n, 1);
    held_.resize(n);
    for (size_t i = 0; i < n; ++i) held_[i] = i;
    if (held_.size() == num_slots) return;
    for (Step& step : steps_) {
      step.scores.resize(n);
      for (size_t i = 0; i < n; ++i) step.scores[i] = Score(step, first, i);
      FindLargest(step, first);
    }
    while (held_.size() < num_slots) {
      const size_t item = BestItem();
      held_.push_back(item);
      ++counts_[item];
      for (Step& step : steps_) {
        step.scores[item] = Score(step, first, item);
        if (step.top == item || step.runner == item) FindLargest(step, first);
      }
    }
  }

  float Score(const Step& step, size_t first, size_t item) const {
    const float apart = static_cast<float>(first + item) * 1e-4f;
    return (step.tokens[first + item] + apart) / static_cast<float>(counts_[item]);
  }

  void FindLargest(Step& step, size_t first) const {
    const std::vector<float>& scores = step.scores;
    step.top = static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
    step.largest = scores[step.top];
    step.next = step.tokens[first + step.top] / static_cast<float>(counts_[step.top] + 1);
    step.runner = step.top;
    for (size_t i = 0; i < scores.size(); ++i) {
      if (i != step.top && (step.runner == step.top || scores[i] > scores[step.runner])) step.runner = i;
    }
    if (step.runner != step.top) step.next = std::max(step.next, scores[step.runner]);
  }

  // The item whose further replica leaves the least sum of largest scores. An item that is nowhere the largest leaves
  // the sum as it is.
  size_t BestItem() {
    const size_t n = counts_.size();
    is_top_.assign(n, false);
    for (const Step& step : steps_) is_top_[step.top] = true;
    const float unchanged = CascadeSum(num_episodes_, [&](size_t t) { return steps_[t].largest; });
    size_t best = n;
    float least = 0;
    for (size_t i = 0; i < n; ++i) {
      if (!is_top_[i] && best < n && least <= unchanged) continue;
      const float sum = !is_top_[i] ? unchanged : CascadeSum(num_episodes_, [&](size_t t) {
        return steps_[t].top == i ? steps_[t].next : steps_[t].largest;
      });
      if (best == n || sum < least) {
        best = i;
        least = sum;
      }
    }
    return best;
  }

  // Heaviest first, from the first rank to the last, then back, and so on.
  void Deal(size_t node, std::vector<ExpertId>& planned) {
    const size_t n = num_experts_ / num_nodes_, room = static_cast<size_t>(problem_.shape.slots_per_rank);
    const auto expert_of = [&](size_t s) { return expert_of_position_[node * n + held_[s]]; };
    const size_t begin = planned.size(), num_ranks = held_.size() / room;
    planned.resize(begin + held_.size());
    if (room == 1) {
      for (size_t s = 0; s < held_.size(); ++s) planned[begin + s] = expert_of(s);
      return;
    }
    weights_.resize(held_.size());
    for (size_t s = 0; s < held_.size(); ++s) {
      weights_[s] = totals_[expert_of(s).idx()] / static_cast<float>(counts_[held_[s]]);
    }
    size_t dealt = 0;
    for (uint32_t s : sorter_.Sort(weights_)) {
      const size_t row = dealt / num_ranks, column = dealt % num_ranks;
      const size_t rank = row % 2 == 0 ? column : num_ranks - 1 - column;
      planned[begin + rank * room + row] = expert_of(s);
      ++dealt;
    }
  }

  const Problem& problem_;
  const bool hierarchical_;
  const size_t num_experts_, num_nodes_, num_episodes_;

  // Of the layer at hand.
  std::vector<ExpertId> expert_of_position_;  // node-major
  std::vector<float> totals_;                 // by expert
  std::vector<Step> steps_;                   // by episode
  // Of the node at hand.
  std::vector<size_t> held_;     // item of each slot, in order of replication
  std::vector<int32_t> counts_;  // replicas, by item
  std::vector<uint8_t> is_top_;
  std::vector<double> weights_;
  HeaviestFirstSorter sorter_;
};

}  // namespace

absl::StatusOr<std::vector<Placement>> PlanDeepseekVec(const Problem& problem) {
  EVENKEEL_RETURN_IF_ERROR(Validate(problem));
  EVENKEEL_RETURN_IF_ERROR(RefuseDeadRanks("deepseek_vec", problem));
  VecPlanner planner(problem);
  return PlanEachLayer(problem, [&](LayerId layer) { return planner.Plan(layer); });
}

absl::StatusOr<std::vector<LayerPlan>> DeepseekVecPolicy(const Problem& problem, const PolicyConfig& config) {
  EVENKEEL_RETURN_IF_ERROR(ReadOptions("deepseek_vec", {}, config).status());
  EVENKEEL_ASSIGN_OR_RETURN(std::vector<Placement> placements, PlanDeepseekVec(problem));
  return WithEvenShares(std::move(placements));
}

}  // namespace evenkeel::algos
