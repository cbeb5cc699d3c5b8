// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/swift.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/ids.h"
#include "algos/base/status_macros.h"
#include "algos/policies/each_layer.h"

namespace evenkeel::algos {

namespace {

constexpr int kMovesPerPairMax = 1;
constexpr int kExchangesMax = 100;
constexpr double kImbalanceKept = 1.01;
constexpr double kGainMin = 0.01;  // of the mean rank load

enum class CopyWeight { kAsPublished, kCorrected };

// Plans one layer after another; storage is kept between them.
class SwiftPlanner {
 public:
  // `mean_load` is that of layer 0.
  SwiftPlanner(const Shape& shape, CopyWeight copy_weight, double mean_load)
      : num_experts_(static_cast<size_t>(shape.num_experts)),
        num_ranks_(static_cast<size_t>(shape.num_ranks)),
        room_(static_cast<size_t>(shape.slots_per_rank)),
        copy_weight_(copy_weight),
        mean_load_(mean_load) {}

  Placement Plan(std::span<const uint64_t> tokens, const Placement& current) {
    const double before = Imbalance(tokens, current);
    if (before < kImbalanceKept) return current;
    FindRedundantSlots(current);
    ChooseCopies(tokens);
    CountPrimaries();
    PlaceCopies();
    FillLeftOver(tokens);
    const double heaviest = Exchange();
    if (!(heaviest / mean_load_ < before)) return current;
    return Aligned(current);
  }

 private:
  double Imbalance(std::span<const uint64_t> tokens, const Placement& current) {
    copies_.assign(num_experts_, 0);
    for (ExpertId expert : current.expert_of_slot) {
      if (expert != kNoExpert) ++copies_[expert.idx()];
    }
    double largest = 0, total = 0;
    for (size_t rank = 0; rank < num_ranks_; ++rank) {
      double load = 0;
      for (size_t slot = rank * room_; slot < (rank + 1) * room_; ++slot) {
        const ExpertId expert = current.expert_of_slot[slot];
        if (expert == kNoExpert) continue;
        const double share = static_cast<double>(tokens[expert.idx()]) / copies_[expert.idx()];
        load += share;
        total += share;
      }
      largest = std::max(largest, load);
    }
    const double mean = total / static_cast<double>(num_ranks_);
    return std::fabs(mean) < 1e-9 ? 1.0 : largest / mean;
  }

  bool Holds(size_t rank, ExpertId expert) const {
    const auto held = std::span(held_).subspan(rank * room_, room_);
    return std::find(held.begin(), held.end(), expert) != held.end();
  }

  int& Moves(size_t from, size_t to) { return moves_[from * num_ranks_ + to]; }

  // The first replica of each expert, over the first slots of all ranks, then the second ones and so on, stays.
  void FindRedundantSlots(const Placement& current) {
    held_.assign(current.expert_of_slot.size(), kNoExpert);
    home_.assign(num_experts_, num_ranks_);
    free_slots_.assign(num_ranks_, {});
    num_redundant_ = 0;
    for (size_t local = 0; local < room_; ++local) {
      for (size_t rank = 0; rank < num_ranks_; ++rank) {
        const ExpertId expert = current.expert_of_slot[rank * room_ + local];
        if (expert != kNoExpert && home_[expert.idx()] == num_ranks_) {
          home_[expert.idx()] = rank;
          held_[rank * room_ + local] = expert;
        } else {
          free_slots_[rank].push_back(local);
          ++num_redundant_;
        }
      }
    }
  }

  // Who gets another replica, heaviest first, equal ones by lowest id; weight_: of a replica then.
  void ChooseCopies(std::span<const uint64_t> tokens) {
    std::vector<double> weights(tokens.begin(), tokens.end());
    copies_.assign(num_experts_, 0);  // extra ones
    for (size_t i = 0; i < num_redundant_; ++i) {
      size_t best = num_experts_;
      for (size_t e = 0; e < num_experts_; ++e) {
        if (copies_[e] + 1 >= static_cast<int>(num_ranks_)) continue;
        if (best == num_experts_ || weights[e] >= weights[best]) best = e;
      }
      if (best == num_experts_) break;
      const double r = ++copies_[best];
      weights[best] *= copy_weight_ == CopyWeight::kCorrected ? r : r + 1;
      weights[best] /= copy_weight_ == CopyWeight::kCorrected ? r + 1 : r + 2;
    }
    weight_.assign(weights.begin(), weights.end());
    to_place_.clear();
    for (size_t e = 0; e < num_experts_; ++e) {
      to_place_.insert(to_place_.end(), static_cast<size_t>(copies_[e]), ExpertId(static_cast<int32_t>(e)));
    }
    std::stable_sort(to_place_.begin(), to_place_.end(),
                     [this](ExpertId a, ExpertId b) { return weight_[a.idx()] > weight_[b.idx()]; });
  }

  void CountPrimaries() {
    moves_.assign(num_ranks_ * num_ranks_, 0);
    received_.assign(num_ranks_, std::vector<bool>(num_experts_, false));
    SumLoads();
  }

  void SumLoads() {
    loads_.assign(num_ranks_, 0.0f);
    for (size_t slot = 0; slot < held_.size(); ++slot) {
      if (held_[slot] != kNoExpert) loads_[slot / room_] += weight_[held_[slot].idx()];
    }
  }

  void Receive(size_t rank, size_t local, ExpertId expert) {
    held_[rank * room_ + local] = expert;
    ++Moves(home_[expert.idx()], rank);
    received_[rank][expert.idx()] = true;
  }

  // To the lightest rank with a free slot that may get one from the expert's home; else the replica is dropped.
  void PlaceCopies() {
    for (ExpertId expert : to_place_) {
      size_t best = num_ranks_;
      for (size_t rank = 0; rank < num_ranks_; ++rank) {
        if (free_slots_[rank].empty() || Moves(home_[expert.idx()], rank) >= kMovesPerPairMax) continue;
        if (best != num_ranks_ && loads_[rank] >= loads_[best]) continue;
        if (!Holds(rank, expert)) best = rank;
      }
      if (best == num_ranks_) continue;
      Receive(best, free_slots_[best].back(), expert);
      free_slots_[best].pop_back();
      loads_[best] += weight_[expert.idx()];
    }
  }

  // Slots that are free still get the heaviest expert that their rank lacks, whatever the bound of a pair.
  void FillLeftOver(std::span<const uint64_t> tokens) {
    if (std::ranges::all_of(free_slots_, [](const auto& slots) { return slots.empty(); })) return;
    copies_.assign(num_experts_, 0);
    for (ExpertId expert : held_) {
      if (expert != kNoExpert) ++copies_[expert.idx()];
    }
    for (size_t e = 0; e < num_experts_; ++e) {
      weight_[e] = static_cast<float>(static_cast<double>(tokens[e]) / copies_[e]);
    }
    for (size_t rank = 0; rank < num_ranks_; ++rank) {
      for (size_t local : free_slots_[rank]) {
        ExpertId best = kNoExpert;
        for (size_t e = 0; e < num_experts_; ++e) {
          const ExpertId expert(static_cast<int32_t>(e));
          if (best != kNoExpert && weight_[e] < weight_[best.idx()]) continue;
          if (!Holds(rank, expert)) best = expert;
        }
        Receive(rank, local, best);
        const double copies = copies_[best.idx()]++;
        weight_[best.idx()] = static_cast<float>(weight_[best.idx()] * (copies / (copies + 1)));
      }
    }
    SumLoads();
  }

  struct Exchanged {
    size_t out_slot = 0, in_slot = 0;
    double heaviest = 0;  // of the two ranks afterwards; no exchange helps where it is no less than before
  };

  // The exchange of one expert each that leaves the two ranks' larger load least.
  Exchanged BestExchange(size_t hot, size_t cold) {
    Exchanged best{.heaviest = loads_[hot]};
    SortSlots(hot, cold, leaving_);
    SortSlots(cold, hot, arriving_);
    for (size_t out : leaving_) {
      const double gives = weight_[held_[out].idx()];
      for (size_t in : arriving_) {
        const double takes = weight_[held_[in].idx()];
        const double hot_load = loads_[hot], cold_load = loads_[cold];
        const double heaviest = std::max(hot_load - gives + takes, cold_load - takes + gives);
        if (heaviest < best.heaviest) best = {out, in, heaviest};
      }
    }
    return best;
  }

  // Slots of `rank` with experts that `other` lacks and that were not received just now, by ascending expert.
  void SortSlots(size_t rank, size_t other, std::vector<size_t>& slots) const {
    slots.clear();
    for (size_t slot = rank * room_; slot < (rank + 1) * room_; ++slot) {
      if (!received_[rank][held_[slot].idx()] && !Holds(other, held_[slot])) slots.push_back(slot);
    }
    std::sort(slots.begin(), slots.end(), [this](size_t a, size_t b) { return held_[a] < held_[b]; });
  }

  // The heaviest rank's load when the last round began.
  double Exchange() {
    double heaviest = 0;
    std::vector<size_t> ranks(num_ranks_);
    for (int round = 0; round < kExchangesMax; ++round) {
      for (size_t rank = 0; rank < num_ranks_; ++rank) ranks[rank] = rank;
      std::stable_sort(ranks.begin(), ranks.end(), [this](size_t a, size_t b) { return loads_[a] < loads_[b]; });
      heaviest = loads_[ranks.back()];
      if (!ExchangeOnce(ranks)) break;
    }
    return heaviest;
  }

  // The heaviest rank with the first of the others, lightest first, that gains enough.
  bool ExchangeOnce(std::span<const size_t> ranks) {
    const size_t hot = ranks.back();
    for (size_t cold : ranks.first(ranks.size() - 1)) {
      if (Moves(cold, hot) >= kMovesPerPairMax || Moves(hot, cold) >= kMovesPerPairMax) continue;
      const Exchanged best = BestExchange(hot, cold);
      if (best.out_slot == best.in_slot || loads_[hot] - best.heaviest < mean_load_ * kGainMin) continue;
      const ExpertId out = held_[best.out_slot], in = held_[best.in_slot];
      std::swap(held_[best.out_slot], held_[best.in_slot]);
      loads_[hot] += weight_[in.idx()] - weight_[out.idx()];
      loads_[cold] += weight_[out.idx()] - weight_[in.idx()];
      received_[hot][in.idx()] = received_[cold][out.idx()] = true;
      ++Moves(hot, cold);
      ++Moves(cold, hot);
      return true;
    }
    return false;
  }

  // Experts that stay on a rank stay in their (first) slot; the others fill the rest in ascending order.
  Placement Aligned(const Placement& current) const {
    Placement placement{std::vector<ExpertId>(held_.size(), kNoExpert)};
    for (size_t first = 0; first < held_.size(); first += room_) {
      const auto old = std::span(current.expert_of_slot).subspan(first, room_);
      const auto slots = std::span(placement.expert_of_slot).subspan(first, room_);
      std::vector<ExpertId> planned(held_.begin() + static_cast<std::ptrdiff_t>(first),
                                    held_.begin() + static_cast<std::ptrdiff_t>(first + room_));
      std::sort(planned.begin(), planned.end());
      std::vector<ExpertId> arriving;
      for (ExpertId expert : planned) {
        const auto slot = std::find(old.begin(), old.end(), expert);
        if (slot == old.end()) {
          arriving.push_back(expert);
        } else {
          slots[static_cast<size_t>(slot - old.begin())] = expert;
        }
      }
      size_t next = 0;
      for (ExpertId& expert : slots) {
        if (expert == kNoExpert) expert = arriving[next++];
      }
    }
    return placement;
  }

  const size_t num_experts_, num_ranks_, room_;
  const CopyWeight copy_weight_;
  const double mean_load_;

  // Of the layer at hand.
  std::vector<ExpertId> held_;                   // by slot
  std::vector<float> weight_;                    // of a replica, by expert
  std::vector<float> loads_;                     // by rank
  std::vector<size_t> home_;                     // rank of the first replica, by expert
  std::vector<std::vector<size_t>> free_slots_;  // by rank, ascending
  size_t num_redundant_ = 0;
  std::vector<int> copies_;                  // by expert
  std::vector<ExpertId> to_place_;           // redundant replicas
  std::vector<int> moves_;                   // [from][to]
  std::vector<std::vector<bool>> received_;  // [rank][expert]: arrived there, or arrived anew
  std::vector<size_t> leaving_, arriving_;   // slots
};

// `current` with every expert: those that are nowhere, in order, go to a blank slot of the rank with most of them, or
// else where one of the most replicas of an expert is. The peer has no such case.
Placement Completed(const Shape& shape, Placement current) {
  std::vector<ExpertId>& slots = current.expert_of_slot;
  const size_t room = static_cast<size_t>(shape.slots_per_rank);
  std::vector<int> copies(static_cast<size_t>(shape.num_experts), 0), blanks(static_cast<size_t>(shape.num_ranks), 0);
  for (size_t slot = 0; slot < slots.size(); ++slot)
    ++(slots[slot] == kNoExpert ? blanks[slot / room] : copies[slots[slot].idx()]);
  for (size_t e = 0; e < copies.size(); ++e) {
    if (copies[e] > 0) continue;
    const auto most_blanks = std::ranges::max_element(blanks);
    const auto most_copies = std::ranges::max_element(copies);
    const bool has_blank = *most_blanks > 0;
    const auto first = slots.begin() + (has_blank ? (most_blanks - blanks.begin()) * shape.slots_per_rank : 0);
    const ExpertId replaced = has_blank ? kNoExpert : ExpertId(static_cast<int32_t>(most_copies - copies.begin()));
    *std::find(first, slots.end(), replaced) = ExpertId(static_cast<int32_t>(e));
    --(has_blank ? *most_blanks : *most_copies);
    copies[e] = 1;
  }
  return current;
}

absl::StatusOr<std::vector<Placement>> PlanNamed(std::string_view policy, CopyWeight copy_weight,
                                                 const Problem& problem) {
  EVENKEEL_RETURN_IF_ERROR(Validate(problem));
  EVENKEEL_RETURN_IF_ERROR(RefuseDeadRanks(policy, problem));
  if (problem.shape.slots_per_rank > problem.shape.num_experts) {
    return absl::InvalidArgumentError(absl::StrCat(std::string(policy), ": ", problem.shape.slots_per_rank,
                                                   " slots a rank are more than ", problem.shape.num_experts,
                                                   " experts"));
  }
  const Load total = TotalLoad(problem);
  double first_layer = 0;
  for (uint64_t tokens : total.layer(LayerId(0))) first_layer += static_cast<double>(tokens);
  SwiftPlanner planner(problem.shape, copy_weight, first_layer / problem.shape.num_ranks);
  const Placement start = DefaultPlacement(problem.shape);
  return PlanEachLayer(problem, [&](LayerId layer) {
    const Placement* current = CurrentOf(problem, layer);
    return planner.Plan(total.layer(layer), current == nullptr ? start : Completed(problem.shape, *current));
  });
}

}  // namespace

absl::StatusOr<std::vector<Placement>> PlanSwiftBalancer(const Problem& problem) {
  return PlanNamed("swift_balancer", CopyWeight::kAsPublished, problem);
}

absl::StatusOr<std::vector<Placement>> PlanSwift(const Problem& problem) {
  return PlanNamed("swift", CopyWeight::kCorrected, problem);
}

absl::StatusOr<std::vector<LayerPlan>> SwiftBalancerPolicy(const Problem& problem, const PolicyConfig& config) {
  EVENKEEL_RETURN_IF_ERROR(ReadOptions("swift_balancer", {}, config).status());
  EVENKEEL_ASSIGN_OR_RETURN(std::vector<Placement> placements, PlanSwiftBalancer(problem));
  return WithEvenShares(std::move(placements));
}

absl::StatusOr<std::vector<LayerPlan>> SwiftPolicy(const Problem& problem, const PolicyConfig& config) {
  EVENKEEL_RETURN_IF_ERROR(ReadOptions("swift", {}, config).status());
  EVENKEEL_ASSIGN_OR_RETURN(std::vector<Placement> placements, PlanSwift(problem));
  return WithEvenShares(std::move(placements));
}

}  // namespace evenkeel::algos
