// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/default_eplb.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/ids.h"
#include "algos/base/status_macros.h"
#include "algos/policies/each_layer.h"

namespace evenkeel::algos {

namespace {

// Plans one layer after another; storage is kept between them.
class DefaultPlanner {
 public:
  explicit DefaultPlanner(const Shape& shape)
      : shape_(shape),
        num_ranks_(static_cast<size_t>(shape.num_ranks)),
        room_(static_cast<size_t>(shape.slots_per_rank)) {}

  // False where a second replica on a rank can be exchanged for nothing.
  bool Plan(std::span<const uint64_t> tokens) {
    items_.clear();
    for (size_t e = 0; e < tokens.size(); ++e) {
      items_.push_back({ExpertId(static_cast<int32_t>(e)), static_cast<double>(tokens[e])});
    }
    extra_.assign(tokens.size(), 0);
    held_.assign(num_ranks_, {});
    loads_.assign(num_ranks_, 0.0);
    Replicate();
    DealExtra();
    PackOnce();
    for (size_t rank = 0; rank < num_ranks_; ++rank) {
      if (!RemoveDoubles(rank)) return false;
    }
    return true;
  }

  // What was planned, aligned with what is there (null: nothing).
  Placement Result(const Placement* current) const {
    Placement placement;
    placement.expert_of_slot.reserve(num_ranks_ * room_);
    for (size_t rank = 0; rank < num_ranks_; ++rank) {
      const auto old = current == nullptr ? std::span<const ExpertId>()
                                          : std::span(current->expert_of_slot).subspan(rank * room_, room_);
      AppendAligned(held_[rank], old, placement.expert_of_slot);
    }
    return placement;
  }

 private:
  struct Item {
    ExpertId expert;
    double weight = 0;  // of one replica
  };

  bool Holds(size_t rank, ExpertId expert) const {
    return std::ranges::find(held_[rank], expert, &Item::expert) != held_[rank].end();
  }

  // A stable ascending sort, read backwards.
  void SortHeaviestFirst() {
    std::reverse(items_.begin(), items_.end());
    std::stable_sort(items_.begin(), items_.end(), [](const Item& a, const Item& b) { return a.weight > b.weight; });
  }

  // The weight of a replica of `item` once its expert has one more.
  double WeightWithOneMore(const Item& item) const {
    const double extra = extra_[item.expert.idx()];
    return item.weight * (extra + 1) / (extra + 2);
  }

  // An extra replica to the heaviest expert that has fewer than there are ranks, and again.
  void Replicate() {
    const int extra_max = shape_.num_ranks - 1;
    for (int i = 0; i < shape_.num_redundant(); ++i) {
      SortHeaviestFirst();
      const auto heaviest =
          std::ranges::find_if(items_, [&](const Item& item) { return extra_[item.expert.idx()] < extra_max; });
      heaviest->weight = WeightWithOneMore(*heaviest);
      ++extra_[heaviest->expert.idx()];
    }
  }

  void Put(size_t rank, const Item& item) {
    held_[rank].push_back(item);
    loads_[rank] += item.weight;
  }

  // The extra replicas, by ascending expert, one to a rank, round and round.
  void DealExtra() {
    weight_of_expert_.resize(items_.size());
    for (const Item& item : items_) weight_of_expert_[item.expert.idx()] = item.weight;
    size_t rank = 0;
    for (size_t e = 0; e < extra_.size(); ++e) {
      for (int i = 0; i < extra_[e]; ++i) {
        Put(rank, {ExpertId(static_cast<int32_t>(e)), weight_of_expert_[e]});
        rank = (rank + 1) % num_ranks_;
      }
    }
  }

  // One more of each, heaviest first; where every rank with room holds it already, to the first of those.
  void PackOnce() {
    SortHeaviestFirst();
    for (const Item& item : items_) {
      size_t best = num_ranks_, first_open = num_ranks_;
      for (size_t rank = 0; rank < num_ranks_; ++rank) {
        if (held_[rank].size() == room_) continue;
        if (first_open == num_ranks_) first_open = rank;
        if (best != num_ranks_ && loads_[rank] >= loads_[best]) continue;
        if (!Holds(rank, item.expert)) best = rank;
      }
      Put(best == num_ranks_ ? first_open : best, item);
    }
  }

  // Exchanges all but the last replica of each expert that the rank holds more than once.
  bool RemoveDoubles(size_t rank) {
    std::vector<ExpertId> experts;
    for (const Item& item : held_[rank]) experts.push_back(item.expert);
    std::sort(experts.begin(), experts.end());
    for (size_t i = 1; i < experts.size(); ++i) {
      if (experts[i] == experts[i - 1] && !ExchangeDouble(rank, experts[i])) return false;
    }
    return true;
  }

  // For the expert whose replicas, had it one more, would come closest to the weight that goes.
  bool ExchangeDouble(size_t rank, ExpertId twice) {
    Item& place = *std::ranges::find(held_[rank], twice, &Item::expert);
    const double lost = place.weight;
    const auto distance = [&](const Item& item) { return std::fabs(WeightWithOneMore(item) - lost); };
    std::stable_sort(items_.begin(), items_.end(),
                     [&](const Item& a, const Item& b) { return distance(a) < distance(b); });
    const auto pick = std::ranges::find_if(items_, [&](const Item& item) {
      return extra_[item.expert.idx()] < shape_.num_ranks - 1 && !Holds(rank, item.expert);
    });
    if (pick == items_.end()) return false;
    pick->weight = WeightWithOneMore(*pick);
    ++extra_[pick->expert.idx()];
    place = *pick;
    int& extra = extra_[twice.idx()];
    std::ranges::find(items_, twice, &Item::expert)->weight = lost * (extra + 1) / extra;
    --extra;
    return true;
  }

  // Experts that were in `old` stay in their first slot there; the others fill what is left, in planned order.
  static void AppendAligned(const std::vector<Item>& planned, std::span<const ExpertId> old,
                            std::vector<ExpertId>& aligned) {
    const size_t begin = aligned.size();
    aligned.resize(begin + planned.size(), kNoExpert);
    std::vector<ExpertId> arriving;
    for (const Item& item : planned) {
      const auto slot = std::find(old.begin(), old.end(), item.expert);
      if (slot == old.end()) {
        arriving.push_back(item.expert);
      } else {
        aligned[begin + static_cast<size_t>(slot - old.begin())] = item.expert;
      }
    }
    size_t next = 0;
    for (size_t slot = begin; slot < aligned.size(); ++slot) {
      if (aligned[slot] == kNoExpert) aligned[slot] = arriving[next++];
    }
  }

  const Shape shape_;
  const size_t num_ranks_, room_;

  // Of the layer at hand.
  std::vector<Item> items_;               // every expert once, in the order that the last sort left
  std::vector<int> extra_;                // replicas beyond the first, by expert
  std::vector<std::vector<Item>> held_;   // by rank, in order of arrival
  std::vector<double> loads_;             // by rank
  std::vector<double> weight_of_expert_;  // of a replica
};

}  // namespace

absl::StatusOr<std::vector<Placement>> PlanDefaultEplb(const Problem& problem) {
  EVENKEEL_RETURN_IF_ERROR(Validate(problem));
  EVENKEEL_RETURN_IF_ERROR(RefuseDeadRanks("default_eplb", problem));
  if (problem.shape.slots_per_rank > problem.shape.num_experts) {
    return absl::InvalidArgumentError(absl::StrCat("default_eplb: ", problem.shape.slots_per_rank,
                                                   " slots a rank are more than ", problem.shape.num_experts,
                                                   " experts"));
  }
  const Load total = TotalLoad(problem);
  DefaultPlanner planner(problem.shape);
  std::vector<Placement> placements = problem.current;
  placements.resize(static_cast<size_t>(problem.num_layers));
  for (LayerId layer : PlannedLayers(problem)) {
    if (!planner.Plan(total.layer(layer))) {
      return absl::InvalidArgumentError(
          absl::StrCat("default_eplb: layer ", layer.value(), ": no expert to exchange a second replica for"));
    }
    placements[layer.idx()] = planner.Result(CurrentOf(problem, layer));
  }
  return placements;
}

absl::StatusOr<std::vector<LayerPlan>> DefaultEplbPolicy(const Problem& problem, const PolicyConfig& config) {
  EVENKEEL_RETURN_IF_ERROR(ReadOptions("default_eplb", {}, config).status());
  EVENKEEL_ASSIGN_OR_RETURN(std::vector<Placement> placements, PlanDefaultEplb(problem));
  return WithEvenShares(std::move(placements));
}

}  // namespace evenkeel::algos
