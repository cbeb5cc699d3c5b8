// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/repair/repair.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"

namespace evenkeel::algos {

namespace {

// The pins of a layer, each once, in the order in which they are listed.
std::vector<Pin> PinsOf(const Problem& problem, LayerId layer) {
  std::vector<Pin> pins;
  for (const Pin& pin : problem.pins) {
    if (pin.layer == layer && std::ranges::find(pins, pin) == pins.end()) pins.push_back(pin);
  }
  return pins;
}

// Changes made together, the best of those offered.
class BestChange {
 public:
  explicit BestChange(LayerCosts& costs) : costs_(costs) {}

  void Offer(bool doubles, std::vector<SlotChange> changes) {
    const std::pair<bool, double> harm(doubles, costs_.After(changes).potential);
    if (!changes_.empty() && harm >= harm_) return;
    harm_ = harm;
    changes_ = std::move(changes);
  }

  bool empty() const { return changes_.empty(); }
  const std::vector<SlotChange>& changes() const { return changes_; }

  void Make() {
    for (const SlotChange& change : changes_) costs_.Set(change);
  }

 private:
  LayerCosts& costs_;
  std::pair<bool, double> harm_;  // an expert doubled on a rank; potential
  std::vector<SlotChange> changes_;
};

class LayerRepair {
 public:
  LayerRepair(const Problem& problem, LayerId layer, LayerCosts& costs)
      : problem_(problem), costs_(costs), locked_(static_cast<size_t>(problem.shape.num_slots()), false) {
    for (const Pin& pin : PinsOf(problem, layer)) {
      if (!Lock(pin)) unmet_.push_back(pin);
    }
  }

  void Run() {
    for (const Pin& pin : unmet_) {
      if (!Lock(pin)) Meet(pin);
    }
    for (int e = 0; e < problem_.shape.num_experts; ++e) {
      if (costs_.num_replicas(ExpertId(e)) == 0) Place(ExpertId(e));
    }
  }

  bool IsLocked(SlotIdx slot) const { return locked_[slot.idx()]; }

 private:
  // Whether the rank holds the expert, whose slot is then kept.
  bool Lock(const Pin& pin) {
    for (int i = 0; i < problem_.shape.slots_per_rank; ++i) {
      const SlotIdx slot = problem_.shape.SlotAt(pin.rank, i);
      if (costs_.expert(slot) != pin.expert) continue;
      locked_[slot.idx()] = true;
      return true;
    }
    return false;
  }

  bool MayGo(SlotIdx slot) const {
    const ExpertId expert = costs_.expert(slot);
    return !locked_[slot.idx()] && (!expert.valid() || costs_.num_replicas(expert) > 1);
  }

  // The rank of an unmet pin has a slot that is not locked: it has no more pins than slots. Where each such slot
  // holds the last replica of its expert and all slots of the pinned expert are locked, ValidateRoomForPins
  // leaves a slot that may go: else locked slots, last replicas and this pin were more than there are slots.
  void Meet(const Pin& pin) {
    BestChange best(costs_);
    for (int i = 0; i < problem_.shape.slots_per_rank; ++i) {
      const SlotIdx slot = problem_.shape.SlotAt(pin.rank, i);
      if (locked_[slot.idx()]) continue;
      if (MayGo(slot)) best.Offer(false, {{slot, pin.expert}});
      const ExpertId displaced = costs_.expert(slot);
      if (!displaced.valid()) continue;
      others_.assign(costs_.slots_of(pin.expert).begin(), costs_.slots_of(pin.expert).end());
      std::ranges::sort(others_);
      for (SlotIdx other : others_) {
        if (locked_[other.idx()]) continue;
        best.Offer(costs_.Holds(problem_.shape.RankOf(other), displaced), {{slot, pin.expert}, {other, displaced}});
      }
    }
    if (best.empty()) OfferThirdSlots(pin, best);
    EVENKEEL_CHECK(!best.empty());
    best.Make();
    locked_[best.changes().front().slot.idx()] = true;
  }

  void OfferThirdSlots(const Pin& pin, BestChange& best) {
    for (int i = 0; i < problem_.shape.slots_per_rank; ++i) {
      const SlotIdx slot = problem_.shape.SlotAt(pin.rank, i);
      if (locked_[slot.idx()]) continue;
      const ExpertId displaced = costs_.expert(slot);
      for (int s = 0; s < problem_.shape.num_slots(); ++s) {
        const RankId rank = problem_.shape.RankOf(SlotIdx(s));
        if (!problem_.IsLive(rank) || !MayGo(SlotIdx(s))) continue;
        best.Offer(costs_.Holds(rank, displaced), {{slot, pin.expert}, {SlotIdx(s), displaced}});
      }
    }
  }

  void Place(ExpertId expert) {
    BestChange best(costs_);
    for (int s = 0; s < problem_.shape.num_slots(); ++s) {
      if (problem_.IsLive(problem_.shape.RankOf(SlotIdx(s))) && MayGo(SlotIdx(s))) {
        best.Offer(false, {{SlotIdx(s), expert}});
      }
    }
    EVENKEEL_CHECK(!best.empty());
    best.Make();
  }

  const Problem& problem_;
  LayerCosts& costs_;
  std::vector<bool> locked_;  // by slot: holds a pinned expert
  std::vector<Pin> unmet_;
  std::vector<SlotIdx> others_;  // of the pinned expert at hand, ascending
};

absl::Status ValidateRoomIn(const Problem& problem, LayerId layer) {
  const std::vector<Pin> pins = PinsOf(problem, layer);
  if (pins.empty()) return absl::OkStatus();
  std::vector<int> on_rank(static_cast<size_t>(problem.shape.num_ranks), 0);
  std::vector<bool> is_pinned(static_cast<size_t>(problem.shape.num_experts), false);
  int needed = static_cast<int>(pins.size()) + problem.shape.num_experts;
  for (const Pin& pin : pins) {
    if (++on_rank[pin.rank.idx()] > problem.shape.slots_per_rank) {
      return absl::InvalidArgumentError(absl::StrCat("problem: pins: layer ", layer.value(), " has more pins on rank ",
                                                     pin.rank.value(), " than its ", problem.shape.slots_per_rank,
                                                     " slots"));
    }
    if (!is_pinned[pin.expert.idx()]) --needed;
    is_pinned[pin.expert.idx()] = true;
  }
  const int room = problem.num_live_ranks() * problem.shape.slots_per_rank;
  if (needed <= room) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("problem: pins: layer ", layer.value(), " needs ", needed,
                                                 " slots with its pins; the living ranks have ", room));
}

}  // namespace

absl::Status ValidateRoomForPins(const Problem& problem) {
  if (problem.pins.empty()) return absl::OkStatus();
  for (LayerId layer : PlannedLayers(problem)) {
    if (absl::Status status = ValidateRoomIn(problem, layer); !status.ok()) return status;
  }
  return absl::OkStatus();
}

void BlankDeadRanks(const Problem& problem, Placement& placement) {
  for (int s = 0; s < problem.shape.num_slots(); ++s) {
    if (!problem.IsLive(problem.shape.RankOf(SlotIdx(s)))) placement.expert_of_slot[static_cast<size_t>(s)] = kNoExpert;
  }
}

void RepairLayer(const Problem& problem, LayerId layer, LayerCosts& costs) { LayerRepair(problem, layer, costs).Run(); }

void FillBlanks(const Problem& problem, LayerCosts& costs) {
  for (int s = 0; s < problem.shape.num_slots(); ++s) {
    const RankId rank = problem.shape.RankOf(SlotIdx(s));
    if (costs.expert(SlotIdx(s)).valid() || !problem.IsLive(rank)) continue;
    ExpertId heaviest;
    double most = -1;
    for (int e = 0; e < problem.shape.num_experts; ++e) {
      const ExpertId expert(e);
      const double part = static_cast<double>(costs.tokens(expert)) / (costs.num_replicas(expert) + 1);
      if (part <= most || costs.Holds(rank, expert)) continue;
      heaviest = expert;
      most = part;
    }
    if (heaviest.valid()) costs.Set({SlotIdx(s), heaviest});
  }
}

void FitToCapacities(const Problem& problem, LayerId layer, bool within_nodes, LayerCosts& costs) {
  const Shape& shape = problem.shape;
  const LayerRepair pins(problem, layer, costs);
  const int ranks_per_node = shape.num_ranks / problem.num_nodes;
  for (int exchanges = 0; exchanges < shape.num_slots(); ++exchanges) {
    RankId busiest(0);
    for (int rank = 1; rank < shape.num_ranks; ++rank) {
      if (costs.cost(RankId(rank)) > costs.cost(busiest)) busiest = RankId(rank);
    }
    double least = costs.Now().potential;
    std::vector<SlotChange> best;
    for (int s = 0; s < shape.num_slots() * shape.slots_per_rank; ++s) {
      const SlotIdx slot = shape.SlotAt(busiest, s % shape.slots_per_rank), other(s / shape.slots_per_rank);
      const RankId rank = shape.RankOf(other);
      const ExpertId mine = costs.expert(slot), its = costs.expert(other);
      if (rank == busiest || mine == its || !problem.IsLive(rank) || pins.IsLocked(slot) || pins.IsLocked(other))
        continue;
      if (within_nodes && rank.value() / ranks_per_node != busiest.value() / ranks_per_node) continue;
      if ((mine.valid() && costs.Holds(rank, mine)) || (its.valid() && costs.Holds(busiest, its))) continue;
      const std::vector<SlotChange> changes = {{slot, its}, {other, mine}};
      if (const double potential = costs.After(changes).potential; potential < least * (1 - 1e-9)) {
        least = potential;
        best = changes;
      }
    }
    if (best.empty()) return;
    for (const SlotChange& change : best) costs.Set(change);
  }
}

}  // namespace evenkeel::algos
