// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/flashlb/flashlb.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "algos/base/ids.h"
#include "algos/base/status_macros.h"
#include "algos/placement.h"
#include "algos/policies/peers/flashlb/layer_heat.h"
#include "algos/policies/peers/flashlb/risk_packer.h"
#include "algos/policies/peers/flashlb/tree_search.h"
#include "algos/policies/relabel.h"

namespace evenkeel::algos {

namespace {

using flashlb::HeatReader;
using flashlb::LayerHeat;

struct Options {
  flashlb::TreeOptions tree;
  int sample_size = 0;
  size_t layers_max = 0;
  double threshold_ratio = 0, threshold_value = 0, last = 0;
  bool is_incremental = false;
  size_t hottest = 0;
};

Options OptionsOf(const std::vector<double>& values, const Problem& problem) {
  const bool is_small = problem.shape.num_ranks < 32;
  Options options;
  options.tree = {.depth = static_cast<int>(values[0]),
                  .width = static_cast<int>(values[1]),
                  .allotment = static_cast<flashlb::AllotmentMethod>(values[4]),
                  .z_score = values[2]};
  options.sample_size = static_cast<int>(values[3]);
  options.layers_max = values[5] >= 1 ? static_cast<size_t>(values[5]) : std::numeric_limits<size_t>::max();
  options.threshold_ratio = values[6] > 0 ? values[6] : is_small ? 0.95 : 0.9;
  options.threshold_value = values[7] > 0 ? values[7] : is_small ? 0.9 : 0.85;
  options.last = values[8];
  options.is_incremental = values[9] >= 1;
  options.hottest = static_cast<size_t>(values[10]);
  return options;
}

Cluster OneNode(const Shape& shape) {
  Cluster cluster{.shape = shape, .nodes = {{}}};
  for (int rank = 0; rank < shape.num_ranks; ++rank) cluster.nodes[0].push_back(RankId(rank));
  return cluster;
}

struct Candidate {
  LayerId layer;
  Placement placement;
  double gain = 0;  // of balancedness
};

class FlashlbPlanner {
 public:
  FlashlbPlanner(const Problem& problem, const Options& options)
      : problem_(problem),
        options_(options),
        cluster_(OneNode(problem.shape)),
        relabeler_(cluster_),
        reader_(problem, options.sample_size),
        search_(problem.shape, options.tree),
        current_packer_(problem.shape, options.tree.z_score) {}

  std::vector<Placement> Plan() {
    std::vector<Placement> placements = problem_.current;
    placements.resize(static_cast<size_t>(problem_.num_layers));
    std::vector<Candidate> candidates;
    for (LayerId layer : PlannedLayers(problem_)) PlanLayer(layer, candidates);
    std::ranges::stable_sort(candidates, [](const Candidate& a, const Candidate& b) { return a.gain > b.gain; });
    size_t num_changed = 0;
    for (Candidate& candidate : candidates) {
      const bool is_forced = candidate.gain == kMustChange;
      if (!is_forced && (candidate.gain <= 0 || num_changed >= options_.layers_max)) continue;
      placements[candidate.layer.idx()] = std::move(candidate.placement);
      num_changed += is_forced ? 0 : 1;
    }
    return placements;
  }

 private:
  static constexpr double kMustChange = std::numeric_limits<double>::infinity();

  void PlanLayer(LayerId layer, std::vector<Candidate>& candidates) {
    reader_.Read(layer, heat_);
    const Placement* const current = problem_.current.empty() ? nullptr : &problem_.current[layer.idx()];
    const bool may_stay = current != nullptr && Validate(*current, problem_.shape).ok();
    const double balancedness = may_stay ? 1 / CurrentScore(layer, *current) : 0;
    if (may_stay && options_.last > 0 && balancedness >= options_.threshold_ratio * options_.last &&
        balancedness >= options_.threshold_value) {
      return;
    }
    flashlb::TreeResult found = search_.Run(heat_);
    if (options_.is_incremental && may_stay) Increment(*current, found);
    candidates.push_back({.layer = layer,
                          .placement = relabeler_.Apply(found.contents, current),
                          .gain = may_stay ? 1 / found.score - balancedness : kMustChange});
  }

  // On the steps themselves.
  double CurrentScore(LayerId layer, const Placement& current) {
    if (!reader_.is_one_to_one()) reader_.ReadSteps(layer, steps_);
    const LayerHeat& steps = reader_.is_one_to_one() ? heat_ : steps_;
    current_packer_.Begin(steps);
    current_packer_.Pack(CountsOf(current), current.expert_of_slot);
    return current_packer_.Score();
  }

  std::vector<int32_t> CountsOf(const Placement& placement) const {
    std::vector<int32_t> counts(static_cast<size_t>(problem_.shape.num_experts), 0);
    for (ExpertId expert : placement.expert_of_slot) {
      if (expert.valid()) ++counts[expert.idx()];
    }
    return counts;
  }

  void Increment(const Placement& current, flashlb::TreeResult& found) {
    const std::vector<int32_t> counts = CountsOf(current);
    const auto part = [&](size_t expert) { return heat_.mean[expert] / found.counts[expert]; };
    std::vector<size_t> hottest(counts.size());
    for (size_t e = 0; e < hottest.size(); ++e) hottest[e] = e;
    std::ranges::stable_sort(hottest, [&](size_t a, size_t b) { return part(a) > part(b); });
    std::vector<bool> may_move(counts.size(), false);
    for (size_t i = 0; i < std::min(options_.hottest, hottest.size()); ++i) may_move[hottest[i]] = true;
    std::vector<ExpertId> kept = current.expert_of_slot;
    for (ExpertId& expert : kept) {
      if (!expert.valid()) continue;
      if (may_move[expert.idx()] || counts[expert.idx()] != found.counts[expert.idx()]) expert = kNoExpert;
    }
    search_.packer().Pack(found.counts, kept);
    found.contents = search_.packer().contents();
    found.score = search_.packer().Score();
  }

  const Problem& problem_;
  const Options options_;
  const Cluster cluster_;
  Relabeler relabeler_;
  HeatReader reader_;
  flashlb::TreeSearch search_;
  flashlb::RiskPacker current_packer_;
  LayerHeat heat_, steps_;
};

}  // namespace

bool FlashlbPlansLayersApart(const PolicyConfig& config) {
  const auto bound = config.options.find("update_layers_upper_bound");
  return bound == config.options.end() || bound->second < 1;
}

absl::StatusOr<std::vector<LayerPlan>> FlashlbPolicy(const Problem& problem, const PolicyConfig& config) {
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<double> values, ReadOptions("flashlb", kFlashlbOptions, config));
  EVENKEEL_RETURN_IF_ERROR(Validate(problem));
  return WithEvenShares(FlashlbPlanner(problem, OptionsOf(values, problem)).Plan());
}

}  // namespace evenkeel::algos
