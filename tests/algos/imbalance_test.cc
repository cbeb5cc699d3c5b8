// SPDX-License-Identifier: Apache-2.0
#include "algos/imbalance.h"

#include <catch2/catch.hpp>

namespace evenkeel::algos {
namespace {

std::vector<ExpertId> Experts(std::initializer_list<int> ids) {
  std::vector<ExpertId> experts;
  for (int id : ids) experts.push_back(ExpertId(id));
  return experts;
}

TEST_CASE("a layer's imbalance is its busiest rank over the mean", "[imbalance]") {
  CHECK(LayerImbalance(std::vector<double>{30, 10, 20, 20}) == 1.5);
  CHECK(LayerImbalance(std::vector<uint64_t>{7, 7, 7}) == 1.0);
  CHECK(LayerImbalance(std::vector<double>{0, 0}) == 1.0);
  CHECK(LayerImbalance(std::vector<double>{}) == 1.0);
  CHECK(LayerImbalance(std::vector<uint64_t>{8, 0, 0, 0}) == 4.0);
}

TEST_CASE("a model's imbalance is the mean over layers, with the worst one and the weighted one beside it",
          "[imbalance]") {
  // Layer 0: 300 over 200; layer 1: 30 over 15; layer 2 idle.
  const std::vector<std::vector<double>> loads = {{300, 100}, {30, 0}, {0, 0}};
  const ModelImbalance imbalance = ImbalanceOf(loads);
  CHECK(imbalance.mean == Approx((1.5 + 2.0 + 1.0) / 3));
  CHECK(imbalance.worst == 2.0);
  CHECK(imbalance.worst_layer == LayerId(1));
  CHECK(imbalance.weighted == Approx(330.0 / 215.0));
  CHECK(imbalance.balancedness() == Approx(3 / 4.5));
}

TEST_CASE("a model without layers or load is balanced", "[imbalance]") {
  const ModelImbalance none = ImbalanceOf(std::span<const std::vector<double>>());
  CHECK(none.mean == 1.0);
  CHECK(none.worst == 1.0);
  CHECK(none.weighted == 1.0);
  CHECK_FALSE(none.worst_layer.valid());
}

TEST_CASE("an even split credits each replica with its part, and blank slots with nothing", "[imbalance]") {
  const Shape shape{.num_experts = 3, .num_ranks = 2, .slots_per_rank = 3};
  const Placement placement{Experts({0, 1, -1, 0, 2, 0})};
  const std::vector<uint64_t> tokens = {90, 10, 5};
  CHECK(EvenRankLoads(placement, shape, tokens) == std::vector<double>{40, 65});
}

TEST_CASE("even split by placement and by map agree", "[imbalance]") {
  const Shape shape{.num_experts = 5, .num_ranks = 4, .slots_per_rank = 2};
  const Load load{.num_layers = 1, .num_experts = 5, .tokens = {500, 300, 70, 90, 10}};
  const std::vector<Placement> placements = {DefaultPlacement(shape)};
  const std::vector<LayerMap> maps = {EvenMap(placements[0], 5)};
  const ModelImbalance by_placement = ImbalanceOf(placements, shape, load);
  CHECK(by_placement.mean == Approx(ImbalanceOf(maps, shape, load).mean).epsilon(1e-6));
  CHECK(by_placement.mean > 1.2);
}

TEST_CASE("unequal shares change the ranks' loads as stated", "[imbalance]") {
  const Shape shape{.num_experts = 2, .num_ranks = 2, .slots_per_rank = 2};
  const Placement placement{Experts({0, 1, 0, -1})};
  const Load load{.num_layers = 1, .num_experts = 2, .tokens = {100, 50}};
  const std::vector<LayerMap> maps = {SharedMap(placement, 2, std::vector<double>{0.25, 0.75, 1.0})};
  CHECK(ImbalanceOf(maps, shape, load).mean == Approx(1.0).epsilon(1e-6));
}

TEST_CASE("realised loads are the slots' tokens by rank", "[imbalance]") {
  const Shape shape{.num_experts = 3, .num_ranks = 2, .slots_per_rank = 2};
  CHECK(RealisedRankLoads(shape, std::vector<uint64_t>{1, 2, 3, 40}) == std::vector<uint64_t>{3, 43});
}

}  // namespace
}  // namespace evenkeel::algos
