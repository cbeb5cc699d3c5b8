// SPDX-License-Identifier: Apache-2.0
//
// Shares: how each expert's tokens are split over its replicas so that the fullest rank is as empty as it can
// be.
//
// Model: tokens of an expert may be split freely over its replicas; a rank's load is the sum of what its slots
// get. The least possible maximum is, over all sets X of experts, the greatest tokens(X) / |ranks holding
// replicas of X|; the solver finds it by flows in whole numbers, with the set that proves it. Below the
// maximum it goes on: ranks that stay above `settle` times the maximum get their least possible load too, in
// order; what is left keeps the preferred shares as far as they fit. Preferred are the previous shares, drawn
// a little towards even.
//
// Exact:     the maximum, its certificate, and the loads of all ranks above `settle`. Shares are doubles:
//            judge them after SharedMap has rounded them to units.
// Zeros:     experts without tokens are split evenly; ranks without tokens are not used; experts without
//            replicas are left out.
// Limits:    tokens * ranks beyond 2^62 are halved until they fit, the certificate then being of those.
// Order:     ties go to the lowest id; same input, same result, whatever was solved before.
// Threads:   none. A solver keeps its scratch from call to call: one per thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "algos/base/ids.h"
#include "algos/layer_map.h"
#include "algos/placement.h"

namespace evenkeel::algos {

// `ranks` hold every replica of `experts`, so whatever the shares, one of them bears tokens / |ranks| at least.
// Both ascending; both empty where there are no tokens.
struct SharesCertificate {
  std::vector<ExpertId> experts;
  std::vector<RankId> ranks;
};

struct SharesResult {
  Shares shares;             // parallel to Replicas::slots; each expert's add up to 1
  double max_rank_load = 0;  // tokens: the optimum that the certificate proves
  SharesCertificate certificate;
};

struct SharesOptions {
  // In [0, 1]. Ranks that can be brought below settle * maximum are not balanced further. 0: all are.
  double settle = 0.9;
  // In [0, 1]. How far the preferred shares lie from the previous (0) to the even ones (1).
  double pull_to_even = 0.1;
};

class SharesSolver {
 public:
  explicit SharesSolver(SharesOptions options = {}) : options_(options) {}

  // Requires: `replicas` within `shape`; `tokens` [num_experts]; `previous` parallel to replicas.slots, finite
  // and not negative, or empty.
  SharesResult Solve(const Shape& shape, const Replicas& replicas, std::span<const uint64_t> tokens,
                     std::span<const double> previous = {});

 private:
  // An expert whose replicas lie on several ranks; those on one rank alone are part of its base load.
  struct Spread {
    int32_t expert = 0;
    int32_t first_edge = 0, end_edge = 0;  // one edge per rank
    int32_t group = 0;
    int64_t tokens = 0;
    int64_t excess = 0;  // demand that no edge carries yet
  };
  struct Edge {
    int32_t spread = 0;
    int32_t rank = 0;
    double preferred = 0;
    int64_t flow = 0;
    int64_t flow_unit = 1;  // flow is in tokens / flow_unit
  };
  // A set of ranks and spread experts whose loads are settled among themselves: ranges of the order_* lists.
  struct Group {
    int32_t first_rank = 0, end_rank = 0;
    int32_t first_spread = 0, end_spread = 0;
  };
  // load = tokens / unit
  struct Level {
    int64_t tokens = 0;
    int64_t unit = 1;
  };

  void Load(const Shape& shape, const Replicas& replicas, std::span<const uint64_t> tokens,
            std::span<const double> previous);
  void AddExpert(const Shape& shape, const Replicas& replicas, size_t expert, int64_t tokens,
                 std::span<const double> previous);
  void IndexEdges(size_t num_ranks);
  void SplitIntoLevels();
  Level LevelOf(const Group& group) const;
  bool FlowAt(const Group& group, Level level);
  void StartFromPreferred(const Group& group, Level level);
  void ClipToRoom(const Group& group);
  bool Augment(int32_t spread);
  Group SplitOffDeficient(Group& group);
  void WriteCertificate(const Group& group, const Shape& shape, const Replicas& replicas, SharesResult& result);
  void WriteShares(const Shape& shape, const Replicas& replicas, SharesResult& result) const;

  const SharesOptions options_;
  // Scratch, rewritten by every Solve.
  std::vector<Spread> spreads_;
  std::vector<Edge> edges_;                       // by expert
  std::vector<int32_t> rank_edges_, rank_first_;  // edges by rank: rank_edges_[rank_first_[r]..]
  std::vector<int64_t> base_, room_;              // [rank] load that cannot be shared; room left in a flow
  std::vector<int32_t> rank_group_;
  std::vector<int32_t> order_ranks_, order_spreads_;
  std::vector<bool> rank_stuck_, spread_stuck_;  // cannot reach a rank with room
  std::vector<int32_t> rank_from_, queue_;
};

}  // namespace evenkeel::algos
