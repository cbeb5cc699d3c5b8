// SPDX-License-Identifier: Apache-2.0
//
// Shares: how each expert's tokens are split over its replicas so that the fullest rank is as empty as it can
// be.
//
// Model: tokens of an expert may be split freely over its replicas; a rank's load is the cost of what its slots get
// over its capacity (rank_cost.h), by default the tokens. What experts in use cost is the placement's doing: a rank
// bears it for each expert with tokens that it holds, whatever the shares, and tokens go where that leaves room. The
// least possible maximum is, over all sets X of experts, the greatest of what X and its ranks' experts in use cost
// over the capacities of the ranks holding replicas of X; the solver finds it by flows in whole numbers
// (share_flow.h), with the set that proves it. Below the maximum it goes on: ranks that stay above `settle` times the
// maximum get their least possible load too, in order; what is left keeps the preferred shares as far as they fit.
// Preferred are the previous shares, drawn a little towards even.
//
// Exact:     the maximum, its certificate, and the loads of all ranks above `settle`; for capacities in 65536ths of
//            the fastest. Shares are doubles: judge them after SharedMap has rounded them to units.
// Zeros:     experts without tokens are split evenly; ranks without tokens are not used; experts without
//            replicas are left out. Where tokens cost nothing they only break ties.
// Limits:    tokens * ranks beyond 2^62 are halved until they fit, the certificate then being of those. An expert in
//            use counts as 2^20 times all tokens at most.
// Order:     ties go to the lowest id; same input, same result, whatever was solved before.
// Threads:   none. A solver keeps its scratch from call to call: one per thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "algos/base/ids.h"
#include "algos/layer_map.h"
#include "algos/placement.h"
#include "algos/rank_cost.h"
#include "algos/share_flow.h"

namespace evenkeel::algos {

// `ranks` hold every replica of `experts`, so whatever the shares, one of them bears at least what the tokens of
// `experts` and all experts in use on `ranks` cost, over the capacities of `ranks`; by default tokens / |ranks|.
// Both ascending; both empty where there are no tokens.
struct SharesCertificate {
  std::vector<ExpertId> experts;
  std::vector<RankId> ranks;
};

struct SharesResult {
  Shares shares;             // parallel to Replicas::slots; each expert's add up to 1
  double max_rank_load = 0;  // cost over capacity: the optimum that the certificate proves
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

  // Requires: `replicas` within `shape`, none on absent ranks; `tokens` [num_experts]; `previous` parallel to
  // replicas.slots, finite and not negative, or empty; `rules` as Validate(Problem) has them.
  SharesResult Solve(const Shape& shape, const Replicas& replicas, std::span<const uint64_t> tokens,
                     std::span<const double> previous = {}, const RankRules& rules = {});

 private:
  using Group = ShareFlow::Group;
  // A load of tokens / unit for a rank of speed 1.
  struct Level {
    int64_t tokens = 0;
    int64_t unit = 1;
  };

  void ReadProblem(const Shape& shape, const Replicas& replicas, std::span<const uint64_t> tokens,
                   std::span<const double> previous, const RankRules& rules);
  void ReadSpeeds(size_t num_ranks, const RankRules& rules);
  void CountUses(const Shape& shape, const Replicas& replicas, std::span<const uint64_t> tokens);
  void Scale(std::span<const uint64_t> tokens, const RankRules& rules);
  void AddSpread(const Shape& shape, const Replicas& replicas, int32_t expert, std::span<const double> previous);
  // Settles all loads, the fullest group first; returns that one.
  Group SettleLoads();
  Level MeanOf(const Group& group) const;
  // Fills the group's edges so that no rank is above `level`; false if some cannot be kept below: they are
  // stuck, with the experts that hold them there.
  bool FillUpTo(Level level, const Group& group);
  void StartFromPreferred(int32_t spread, const Group& group, int64_t unit);
  void ClipToRoom(int32_t rank, const Group& group, int64_t room);
  SharesCertificate CertificateOf(const Group& group, const Shape& shape, const Replicas& replicas) const;
  double Proven(const SharesCertificate& certificate, std::span<const uint64_t> tokens, const RankRules& rules) const;
  Shares SharesOf(const Shape& shape, const Replicas& replicas) const;

  const SharesOptions options_;
  // Scratch, rewritten by every Solve. Costs are in tokens times a power of two.
  std::vector<int64_t> tokens_;    // [num_experts], 0 without replicas
  int64_t replica_cost_ = 0;       // of an expert in use
  std::vector<int64_t> base_;      // [num_ranks] what cannot be shared
  std::vector<int32_t> speeds_;    // [num_ranks] capacities in whole numbers without common divisor
  std::vector<int32_t> uses_;      // [num_ranks] experts in use
  std::vector<uint8_t> is_used_;   // [num_ranks]
  ShareFlow flow_;                 // of experts with tokens and replicas on several ranks, one edge per rank
  std::vector<double> preferred_;  // by edge
  std::vector<int64_t> units_;     // by spread: its flow is in tokens / unit
  std::vector<Group> pending_;
};

}  // namespace evenkeel::algos
