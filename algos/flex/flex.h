// SPDX-License-Identifier: Apache-2.0
//
// Flex: plans for the load that comes. Shares follow the load in every window, placements change by few and
// well-chosen moves, so that shares can follow.
//
// A value that lives as long as its group and is told of every window (Observe). From then on it answers two
// questions. For the fast loop: what shares should a layer have now (SharesFor)? They even out what the load filter
// expects (load_filter.h). For the slow loop: which slots should change (Improve)? Those after which shares could even
// out the expected load and all episodes remembered (episode_memory.h), exaggerated, as the next one may go further
// than those seen (placement_search.h). Layers that need it most are searched first.
//
// Pace:      a layer may make moves_per_window moves, saved up to moves_saved_max. Until settle_windows have been seen
//            it may move freely, at doubling intervals and once at the end.
// Order:     same windows and calls, same answers.
// Threads:   none. SharesFor and Improve keep scratch, so one thread at a time.
#pragma once

#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "algos/base/ids.h"
#include "algos/flex/episode_memory.h"
#include "algos/flex/load_filter.h"
#include "algos/flex/placement_search.h"
#include "algos/layer_map.h"
#include "algos/placement.h"
#include "algos/problem.h"

namespace evenkeel::algos {

struct FlexOptions {
  double moves_per_window = 0.095;  // of a layer, >= 0
  double moves_saved_max = 4;       // of a layer
  int settle_windows = 100;         // >= 0
  int layers_per_step = 6;          // that Improve searches once settled, those that need it most; 0: all
  double gain_min = 0.0005;         // of the measure, for each move
  double weight_now = 0.5;          // of the expected load; the rest is for the episodes remembered
  double exaggeration = 1.5;        // of episodes' distances from their mean
  int num_candidates = 24;          // of the search, as are openings; these only where moves are free
  int num_openings = 8;
  int num_factors = 16;  // of the load filter
  double forgetting = 0.985;
  int windows_per_block = 10;  // of the episode memory
  int num_episodes_max = 12;
};

class Flex {
 public:
  Flex(const Shape& shape, int num_layers, const FlexOptions& options);

  // The next window, once each.
  void Observe(const Load& window);
  int num_observed() const { return filter_.num_observed(); }
  const LoadFilter& filter() const { return filter_; }

  // `problem` says which ranks live and how fast they are; `previous` is parallel to Invert(placement).slots, or empty.
  // The shares are parallel to it too; even before the first window. Requires: a placement within the problem's shape.
  Shares SharesFor(const Problem& problem, LayerId layer, const Placement& placement,
                   std::span<const double> previous = {});

  struct Improvement {
    LayerId layer;
    Placement placement;
    int num_moves = 0;
    double before = 1, after = 1;  // the measure, placement_search.h
  };

  // What to change now, by layer: ascending, only layers that change. Looks at problem.current and at everything but
  // the episodes; moves_max is a limit besides the pace. Experts that dead ranks took along, pins and what
  // Problem::survive asks are seen to first, be it beyond the pace; an expert that is protected stays so, whatever
  // becomes of its load. kInvalidArgument as Validate has it (but for episodes), and where pins leave no room.
  absl::StatusOr<std::vector<Improvement>> Improve(const Problem& problem);

  // Improve without a pace: all that problem.moves_max allows, all layers.
  absl::StatusOr<std::vector<Improvement>> ImproveBy(const Problem& problem);

  // How much room shares have for what is expected and remembered: 1 is all they need.
  double Measure(const Problem& problem, LayerId layer, const Placement& placement);

 private:
  struct Need {
    LayerId layer;
    double measure = 1;
    bool must_act = false;
  };

  // What the episodes remembered make of a placement; good while neither changes.
  struct Remembered {
    int version = -1;  // of the memory
    Placement placement;
    double measure = 0;
  };

  void Ground(const Problem& problem);
  // episodes_: first what is expected, then, if `whole`, what is remembered.
  void BuildTask(const Problem& problem, LayerId layer, bool whole);
  double MeasureNow(const Problem& problem, LayerId layer, const Placement& placement);
  WeightedLoad Scaled(const Problem& problem, std::span<const double> parts, double weight) const;
  bool IsFreePeriod() const;
  absl::StatusOr<Improvement> ImproveLayer(const Problem& problem, LayerId layer, int moves_max, int num_openings);
  bool IsOwed(const Problem& problem, LayerId layer, const Placement& placement);
  Placement WithWhatIsOwed(const Problem& problem, LayerId layer, const Placement& placement);
  void SetPinsAndHomes(const Problem& problem, LayerId layer, const Placement& placement);

  const Shape shape_;
  const int num_layers_;
  const FlexOptions options_;
  LoadFilter filter_;
  EpisodeMemory memory_;
  std::vector<double> moves_saved_;  // by layer
  // By layer: the least measure since a search found nothing, which it must exceed to be searched again; 0: none did.
  std::vector<double> idle_measure_;
  std::vector<Remembered> remembered_;  // by layer
  // Scratch.
  SearchGround ground_;
  std::vector<WeightedLoad> episodes_;
  std::vector<uint8_t> pinned_;
  std::vector<int32_t> home_node_;
  std::vector<int> levels_;
  std::vector<uint64_t> heat_;  // [num_experts] what is expected, in some unit
};

}  // namespace evenkeel::algos
