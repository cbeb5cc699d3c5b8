// SPDX-License-Identifier: Apache-2.0
#include "algos/replay/replay.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "algos/base/check.h"
#include "algos/base/status_macros.h"
#include "algos/imbalance.h"
#include "algos/moves.h"
#include "algos/replay/layer_track.h"
#include "algos/shares.h"

namespace evenkeel::algos {

namespace {

absl::Status Check(std::span<const Load> timeline, const ReplayOptions& options) {
  EVENKEEL_RETURN_IF_ERROR(Validate(options.shape));
  if (timeline.empty()) return absl::InvalidArgumentError("replay: no windows");
  for (size_t t = 0; t < timeline.size(); ++t) {
    const Load& load = timeline[t];
    if (load.num_experts != options.shape.num_experts || load.num_layers != timeline.front().num_layers ||
        load.num_layers < 1 ||
        load.tokens.size() != static_cast<size_t>(load.num_layers) * static_cast<size_t>(load.num_experts)) {
      return absl::InvalidArgumentError(absl::StrCat("replay: window ", t, " has ", load.num_layers, " layers x ",
                                                     load.num_experts, " experts, not ", timeline.front().num_layers,
                                                     " x ", options.shape.num_experts));
    }
  }
  if (options.shares_windows < 1) return absl::InvalidArgumentError("replay: shares need one window at least");
  if (options.num_nodes < 1 || options.shape.num_ranks % options.num_nodes != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("replay: ", options.shape.num_ranks, " ranks on ", options.num_nodes, " nodes"));
  }
  // The group's own fields and the rules, as every planner has them.
  EVENKEEL_RETURN_IF_ERROR(Validate(Problem{.shape = options.shape,
                                            .num_layers = timeline.front().num_layers,
                                            .num_nodes = options.num_nodes,
                                            .episodes = {timeline.front()},
                                            .capacities = options.rules.capacities,
                                            .cost = options.rules.cost}));
  if (options.links && !(options.links->expert_bytes > 0 && options.links->link_bytes_per_second > 0 &&
                         options.links->window_seconds > 0)) {
    return absl::InvalidArgumentError("replay: bytes, link speed and window must be above 0");
  }
  return absl::OkStatus();
}

MoveLimits LimitsOf(const ReplayOptions& options) {
  MoveLimits limits;
  if (!options.links) return limits;
  limits.moves_per_rank_max = options.links->MovesPerWindow();
  limits.copies_per_source_max = limits.reads_per_rank_max = limits.moves_per_rank_max;
  limits.expert_bytes = options.links->expert_bytes;
  for (int r = 0; r < options.shape.num_ranks; ++r) {
    limits.node_of_rank.push_back(r / (options.shape.num_ranks / options.num_nodes));
  }
  return limits;
}

// Experts that each rank's slots hold now and held not before, and those that a rank holds twice.
struct RankSets {
  int num_new = 0;
  int num_doubled = 0;
};

RankSets Compare(const Shape& shape, const Placement& before, const Placement& now) {
  RankSets sets;
  for (int r = 0; r < shape.num_ranks; ++r) {
    const auto first = static_cast<std::ptrdiff_t>(shape.SlotAt(RankId(r), 0).idx());
    const auto old_begin = before.expert_of_slot.begin() + first, new_begin = now.expert_of_slot.begin() + first;
    const auto old_end = old_begin + shape.slots_per_rank, new_end = new_begin + shape.slots_per_rank;
    for (auto it = new_begin; it != new_end; ++it) {
      if (!it->valid()) continue;
      if (std::find(new_begin, it, *it) != it) {
        ++sets.num_doubled;
      } else if (std::find(old_begin, old_end, *it) == old_end) {
        ++sets.num_new;
      }
    }
  }
  return sets;
}

class Run {
 public:
  Run(std::span<const Load> timeline, int first_scored, const ReplayOptions& options, const ReplayObserver& observer)
      : timeline_(timeline),
        options_(options),
        observer_(observer),
        first_scored_(first_scored),
        limits_(LimitsOf(options)),
        counts_tokens_(CountsTokensAlone(options.rules)),
        best_solver_(SharesOptions{.settle = 1.0}) {
    result_.num_windows = static_cast<int>(timeline.size());
    result_.num_layers = timeline.front().num_layers;
    const size_t num_layers = static_cast<size_t>(result_.num_layers), cells = timeline.size() * num_layers;
    result_.imbalance.reserve(cells);
    result_.best_shares.reserve(cells);
    result_.rank_loads.assign(num_layers * static_cast<size_t>(options.shape.num_ranks), 0.0);
    const Placement initial = DefaultPlacement(options.shape);
    tracks_.assign(num_layers, LayerTrack(options.shape, initial));
    maps_.assign(num_layers, Map{initial, {}, -1});
    if (options.links) links_.emplace(*options.links, options.shape.num_ranks);
  }

  absl::StatusOr<ReplayResult> Finish(const Planner& planner) && {
    for (int t = 0; t < result_.num_windows; ++t) {
      if (observer_.on_window) observer_.on_window(t);
      EVENKEEL_RETURN_IF_ERROR(Ask(planner, t));
      for (int l = 0; l < result_.num_layers; ++l) EVENKEEL_RETURN_IF_ERROR(Serve(t, LayerId(l)));
    }
    for (const LayerTrack& track : tracks_) result_.placements.push_back(track.goal());
    return std::move(result_);
  }

 private:
  // What a layer's engines use.
  struct Map {
    Placement placement;
    Shares shares;     // parallel to the replicas of the track; empty: even
    int version = -1;  // of the track
  };

  absl::Status Ask(const Planner& planner, int window) {
    std::vector<Placement> goals;
    for (const LayerTrack& track : tracks_) goals.push_back(track.goal());
    absl::StatusOr<LayerChanges> changes =
        planner({.window = window, .past = timeline_.first(static_cast<size_t>(window)), .placements = goals});
    if (!changes.ok()) return changes.status();
    if (changes->empty()) return absl::OkStatus();
    EVENKEEL_CHECK(changes->size() == tracks_.size());
    for (size_t l = 0; l < tracks_.size(); ++l) {
      if (!(*changes)[l]) continue;
      EVENKEEL_RETURN_IF_ERROR(Validate((*changes)[l]->placement, options_.shape));
      tracks_[l].Aim(*std::move((*changes)[l]));
    }
    return absl::OkStatus();
  }

  absl::Status Serve(int window, LayerId layer) {
    LayerTrack& track = tracks_[layer.idx()];
    const std::span<const uint64_t> known =
        window > 0 ? timeline_[static_cast<size_t>(window) - 1].layer(layer) : std::span<const uint64_t>{};
    if (const absl::Status moved = track.Advance(window, known, links_ ? &*links_ : nullptr, limits_); !moved.ok()) {
      return absl::Status(moved.code(),
                          absl::StrCat("window ", window, " layer ", layer.value(), ": ", moved.message()));
    }
    Map& map = maps_[layer.idx()];
    Shares shares = SharesFor(window, layer, map);
    const bool is_new = map.version != track.version() && (map.version < 0 || map.placement != track.live());
    const RankSets sets = Compare(options_.shape, map.placement, track.live());
    if (is_new) map.placement = track.live();
    if (is_new || shares != map.shares) {
      map.shares = std::move(shares);
      if (observer_.on_map) observer_.on_map({window, layer, map.placement, track.replicas(), map.shares});
    }
    map.version = track.version();
    result_.moves.push_back(sets.num_new);
    result_.num_doubled.push_back(sets.num_doubled);
    result_.num_retired.push_back(static_cast<int32_t>(
        std::count(map.placement.expert_of_slot.begin(), map.placement.expert_of_slot.end(), kNoExpert)));
    Score(window, layer, track.replicas(), map.shares);
    return absl::OkStatus();
  }

  Shares SharesFor(int window, LayerId layer, const Map& map) {
    const LayerTrack& track = tracks_[layer.idx()];
    if (!options_.solve_shares) {
      if (!track.HasPlannedShares()) return {};
      if (!track.in_motion()) return track.PlannedShares();
    }
    if (window == 0) return {};
    const auto past = timeline_.first(static_cast<size_t>(window));
    std::vector<uint64_t> tokens(static_cast<size_t>(options_.shape.num_experts), 0);
    for (const Load& load : past.last(std::min(past.size(), static_cast<size_t>(options_.shares_windows)))) {
      const auto of_layer = load.layer(layer);
      for (size_t e = 0; e < tokens.size(); ++e) tokens[e] += of_layer[e];
    }
    const bool same = map.version == track.version();
    const std::span<const double> previous = same ? std::span<const double>(map.shares) : std::span<const double>{};
    return solver_.Solve(options_.shape, track.replicas(), tokens, previous, options_.rules).shares;
  }

  void Score(int window, LayerId layer, const Replicas& replicas, const Shares& shares) {
    const auto tokens = timeline_[static_cast<size_t>(window)].layer(layer);
    rank_loads_.assign(static_cast<size_t>(options_.shape.num_ranks), 0.0);
    for (int e = 0; e < options_.shape.num_experts; ++e) {
      const size_t first = static_cast<size_t>(replicas.offsets[static_cast<size_t>(e)]);
      const size_t end = static_cast<size_t>(replicas.offsets[static_cast<size_t>(e) + 1]);
      const double load = static_cast<double>(tokens[static_cast<size_t>(e)]);
      const double even = 1.0 / static_cast<double>(end - first);
      for (size_t i = first; i < end; ++i) {
        rank_loads_[options_.shape.RankOf(replicas.slots[i]).idx()] += load * (shares.empty() ? even : shares[i]);
      }
    }
    double total = 0;
    for (double load : rank_loads_) total += load;
    const double mean = total / static_cast<double>(rank_loads_.size());
    result_.imbalance.push_back(LayerImbalance(rank_loads_));
    const double least = best_solver_.Solve(options_.shape, replicas, tokens).max_rank_load;
    result_.best_shares.push_back(mean > 0 ? std::max(least / mean, 1.0) : 1.0);
    if (!counts_tokens_) {
      const RankRules& rules = options_.rules;
      const Shares best = best_solver_.Solve(options_.shape, replicas, tokens, {}, rules).shares;
      result_.level.push_back(LevelOf(rules, options_.shape, replicas, shares, tokens));
      result_.best_level.push_back(LevelOf(rules, options_.shape, replicas, best, tokens));
    }
    if (window < first_scored_ || mean <= 0) return;
    double* sums = result_.rank_loads.data() + layer.idx() * rank_loads_.size();
    for (size_t r = 0; r < rank_loads_.size(); ++r) sums[r] += rank_loads_[r] / mean;
  }

  const std::span<const Load> timeline_;
  const ReplayOptions& options_;
  const ReplayObserver& observer_;
  const int first_scored_;
  const MoveLimits limits_;
  const bool counts_tokens_;
  std::vector<LayerTrack> tracks_;
  std::vector<Map> maps_;
  std::optional<Links> links_;
  SharesSolver solver_, best_solver_;
  std::vector<double> rank_loads_;  // scratch
  ReplayResult result_;
};

}  // namespace

absl::StatusOr<ReplayResult> Replay(std::span<const Load> timeline, int first_scored, const ReplayOptions& options,
                                    const Planner& planner, const ReplayObserver& observer) {
  EVENKEEL_RETURN_IF_ERROR(Check(timeline, options));
  return Run(timeline, first_scored, options, observer).Finish(planner);
}

}  // namespace evenkeel::algos
