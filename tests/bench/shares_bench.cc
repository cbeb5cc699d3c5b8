// SPDX-License-Identifier: Apache-2.0
//
// Shares of all layers: 256 experts in 288 slots on 32 ranks, planned by `deepseek` on the first window and
// solved for the second. The reference halves an interval around the maximum and asks Edmonds and Karp whether
// the flow fits; it finds no certificate, settles nothing below the maximum and prefers nothing.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "algos/base/ids.h"
#include "algos/layer_map.h"
#include "algos/placement.h"
#include "algos/policies/peers/deepseek.h"
#include "algos/problem.h"
#include "algos/shares.h"
#include "tests/bench/bench.h"
#include "tests/bench/planning_input.h"

namespace evenkeel::bench {
namespace {

using algos::Replicas;
using algos::Shape;

// Node 0 is the source, then experts, then ranks, then the sink.
class PlainFlow {
 public:
  PlainFlow(const Shape& shape, const Replicas& replicas, std::span<const uint64_t> tokens)
      : num_experts_(shape.num_experts), num_ranks_(shape.num_ranks), edges_of_(Size(sink() + 1)) {
    for (int e = 0; e < num_experts_; ++e) {
      const double demand = static_cast<double>(tokens[Size(e)]);
      Connect(0, 1 + e, demand);
      for (SlotIdx slot : replicas.slots_of(ExpertId(e)))
        Connect(1 + e, 1 + num_experts_ + shape.RankOf(slot).value(), demand);
    }
    first_rank_edge_ = edges_.size();
    for (int r = 0; r < num_ranks_; ++r) Connect(1 + num_experts_ + r, sink(), 0);
    for (const Edge& edge : edges_) capacities_.push_back(edge.room);
  }

  double FlowAt(double rank_capacity) {
    for (size_t i = 0; i < edges_.size(); ++i) {
      edges_[i].room = i >= first_rank_edge_ && i % 2 == 0 ? rank_capacity : capacities_[i];
    }
    double flow = 0;
    while (true) {
      const double amount = Augment();
      if (amount <= 0) return flow;
      flow += amount;
    }
  }

 private:
  struct Edge {
    int from, to;
    double room;
  };
  static size_t Size(int value) { return static_cast<size_t>(value); }
  int sink() const { return 1 + num_experts_ + num_ranks_; }
  void Connect(int from, int to, double room) {
    edges_of_[Size(from)].push_back(edges_.size());
    edges_.push_back({from, to, room});
    edges_of_[Size(to)].push_back(edges_.size());
    edges_.push_back({to, from, 0});
  }
  double Augment() {
    constexpr double kNothing = 1e-6;
    std::vector<int> via(edges_of_.size(), -1);
    std::vector<int> queue = {0};
    for (size_t head = 0; head < queue.size() && via[Size(sink())] < 0; ++head) {
      for (size_t i : edges_of_[Size(queue[head])]) {
        if (edges_[i].room <= kNothing || edges_[i].to == 0 || via[Size(edges_[i].to)] >= 0) continue;
        via[Size(edges_[i].to)] = static_cast<int>(i);
        queue.push_back(edges_[i].to);
      }
    }
    if (via[Size(sink())] < 0) return 0;
    double amount = 1e300;
    for (int at = sink(); at != 0; at = edges_[Size(via[Size(at)])].from)
      amount = std::min(amount, edges_[Size(via[Size(at)])].room);
    for (int at = sink(); at != 0; at = edges_[Size(via[Size(at)])].from) {
      edges_[Size(via[Size(at)])].room -= amount;
      edges_[Size(via[Size(at)]) ^ 1].room += amount;
    }
    return amount;
  }

  int num_experts_, num_ranks_;
  std::vector<std::vector<size_t>> edges_of_;
  std::vector<Edge> edges_;
  std::vector<double> capacities_;
  size_t first_rank_edge_ = 0;
};

double PlainMaximum(const Shape& shape, const Replicas& replicas, std::span<const uint64_t> tokens) {
  const double total = static_cast<double>(std::accumulate(tokens.begin(), tokens.end(), uint64_t{0}));
  PlainFlow flow(shape, replicas, tokens);
  double low = total / shape.num_ranks, high = total;
  while (high - low > 1e-6 * low) {
    const double middle = (low + high) / 2;
    (flow.FlowAt(middle) > total * (1 - 1e-9) ? high : low) = middle;
  }
  return high;
}

int Run(int argc, char** argv) {
  const PlanningInput input = PlanningInputOf(argc, argv);
  const algos::Load &first = input.windows[0], &second = input.windows[1];
  const Shape shape{first.num_experts, 32, first.num_experts / 32 + 1};
  algos::Problem problem;
  problem.shape = shape;
  problem.num_layers = first.num_layers;
  problem.episodes = {first};
  const auto placements = algos::PlanDeepseek(problem);
  if (!placements.ok()) {
    std::fprintf(stderr, "%s\n", std::string(placements.status().message()).c_str());
    return 1;
  }
  algos::SharesSolver solver;
  std::vector<Replicas> replicas;
  std::vector<algos::Shares> previous;
  for (int l = 0; l < first.num_layers; ++l) {
    replicas.push_back(algos::Invert(placements->at(static_cast<size_t>(l)), shape.num_experts));
    previous.push_back(solver.Solve(shape, replicas.back(), first.layer(LayerId(l))).shares);
  }
  std::vector<double> ours(replicas.size()), plain(replicas.size());
  const auto each = [&](auto&& solve) {
    return [&, solve] {
      for (size_t l = 0; l < replicas.size(); ++l) solve(l, second.layer(LayerId(static_cast<int32_t>(l))));
    };
  };
  const auto solve_ours = [&](size_t l, std::span<const uint64_t> tokens) {
    ours[l] = solver.Solve(shape, replicas[l], tokens, previous[l]).max_rank_load;
  };
  const auto solve_plain = [&](size_t l, std::span<const uint64_t> tokens) {
    plain[l] = PlainMaximum(shape, replicas[l], tokens);
  };
  const std::string batch = "shares of " + std::to_string(first.num_layers) + " layers, " +
                            std::to_string(shape.num_experts) + " experts in " + std::to_string(shape.num_slots()) +
                            " slots on 32 ranks, with previous shares";
  Compare({.input = input.name, .batch = batch, .num_samples = 301, .reference_every = 30, .goal_us = 3000},
          each(solve_ours), "binary search to 1e-6 over Edmonds-Karp, the maximum alone", each(solve_plain));
  algos::SharesSolver thorough({.settle = 0});
  const auto solve_all = [&](size_t l, std::span<const uint64_t> tokens) {
    thorough.Solve(shape, replicas[l], tokens, previous[l]);
  };
  Compare({.input = input.name, .batch = batch + ", all ranks settled", .num_samples = 301, .reference_every = 30},
          each(solve_all), "the same reference", each(solve_plain));

  double worst = 0, even = 0, solved = 0;
  for (size_t l = 0; l < ours.size(); ++l) {
    worst = std::max(worst, std::abs(ours[l] / plain[l] - 1));
    const auto tokens = second.layer(LayerId(static_cast<int32_t>(l)));
    const auto loads = algos::RankLoads(algos::EvenMap(placements->at(l), shape.num_experts), shape, tokens);
    const double mean = std::accumulate(loads.begin(), loads.end(), 0.0) / 32;
    even += *std::max_element(loads.begin(), loads.end()) / mean / static_cast<double>(ours.size());
    solved += ours[l] / mean / static_cast<double>(ours.size());
  }
  std::printf("maxima differ from the reference's by at most %.1e; imbalance %.4f even, %.4f solved\n", worst, even,
              solved);
  return worst < 1e-5 ? 0 : 1;
}

}  // namespace
}  // namespace evenkeel::bench

int main(int argc, char** argv) { return evenkeel::bench::Run(argc, argv); }
