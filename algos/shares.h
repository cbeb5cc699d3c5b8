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
  // An expert with tokens and replicas on several ranks. Those on one rank alone are part of its base load.
  struct Spread {
    int32_t expert = 0;
    int32_t first_edge = 0, end_edge = 0;  // one edge per rank, ascending
    int64_t tokens = 0;
    int64_t unit = 1;    // its edges' flow is in tokens / unit
    int64_t excess = 0;  // of its demand, what no edge carries yet
  };
  struct Edge {
    int32_t spread = 0;
    int32_t rank = 0;
    double preferred = 0;
    int64_t flow = 0;
  };
  // Ranks and spread experts that settle loads among themselves: ranges of order_ranks_ and order_spreads_.
  struct Group {
    int32_t first_rank = 0, end_rank = 0;
    int32_t first_spread = 0, end_spread = 0;
  };
  // A load of tokens / unit.
  struct Level {
    int64_t tokens = 0;
    int64_t unit = 1;
  };

  void ReadProblem(const Shape& shape, const Replicas& replicas, std::span<const uint64_t> tokens,
                   std::span<const double> previous);
  void AddSpread(const Shape& shape, const Replicas& replicas, int32_t expert, std::span<const double> previous);
  void IndexEdges();
  // Settles all loads, the fullest group first; returns that one.
  Group SettleLoads();
  Level MeanOf(const Group& group) const;
  // Fills the group's edges so that no rank is above `level`; false if some cannot be kept below: they are
  // marked stuck, with the experts that hold them there.
  bool FillUpTo(Level level, const Group& group);
  void StartFromPreferred(Spread& spread, int32_t s, int64_t unit);
  bool ClipToRoom(int32_t rank);
  bool Augment(int32_t s);
  // Takes what is stuck out of `group`.
  Group SplitOffStuck(Group& group);
  bool IsOpen(const Edge& edge) const {
    return group_of_rank_[static_cast<size_t>(edge.rank)] == group_of_spread_[static_cast<size_t>(edge.spread)];
  }
  SharesCertificate CertificateOf(const Group& group, const Shape& shape, const Replicas& replicas) const;
  Shares SharesOf(const Shape& shape, const Replicas& replicas) const;

  const SharesOptions options_;
  // Scratch, rewritten by every Solve.
  std::vector<int64_t> tokens_;  // [num_experts], times a power of two; 0 without replicas
  std::vector<Spread> spreads_;  // by expert
  std::vector<Edge> edges_;      // by expert
  std::vector<int32_t> edges_of_rank_, first_of_rank_;
  std::vector<int64_t> base_, room_;  // [num_ranks]: load that cannot be shared; what may still come
  std::vector<int32_t> order_ranks_, order_spreads_;
  std::vector<int32_t> group_of_rank_, group_of_spread_;
  std::vector<uint8_t> rank_stuck_, spread_stuck_;
  std::vector<int32_t> rank_via_, spread_via_;     // edge by which the search came
  std::vector<uint32_t> rank_seen_, spread_seen_;  // number of the search that came last
  std::vector<int32_t> queue_;
  std::vector<Group> pending_;
  uint32_t search_ = 0;
  int32_t num_groups_ = 0;
};

}  // namespace evenkeel::algos
