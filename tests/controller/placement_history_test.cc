// SPDX-License-Identifier: Apache-2.0
#include "controller/core/rollout/placement_history.h"

#include <string>
#include <vector>

#include "catch2/catch.hpp"

namespace evenkeel::controller {
namespace {

algos::Placement Of(std::vector<int> experts) {
  algos::Placement placement;
  for (const int expert : experts) placement.expert_of_slot.push_back(ExpertId(expert));
  return placement;
}

PlacementHistory::Entry Change(const std::string& id, uint32_t number, int layer, std::vector<int> before) {
  return {id, Epoch{1, number}, absl::UnixEpoch(), {{LayerId(layer), Of(std::move(before))}}};
}

TEST_CASE("undoing several operations gives each layer what it held before the first", "[placement_history]") {
  PlacementHistory history;
  history.Add(Change("a", 10, 0, {0, 1}));
  history.Add(Change("b", 20, 1, {1, 1}));
  history.Add(Change("c", 30, 0, {1, 0}));
  CHECK(*history.BeforeLast() == PlacementHistory::Layers{{LayerId(0), Of({1, 0})}});
  CHECK(*history.Before("a") == PlacementHistory::Layers{{LayerId(0), Of({0, 1})}, {LayerId(1), Of({1, 1})}});
  CHECK(*history.At({1, 10}) == *history.Before("a"));
  CHECK(*history.At({1, 11}) == *history.Before("b"));
  CHECK(*history.At({1, 3}) == *history.Before("a"));
  CHECK(history.At({1, 31}).status().code() == absl::StatusCode::kNotFound);
  CHECK(history.At({0, 5}).status().code() == absl::StatusCode::kNotFound);  // of a term before
}

TEST_CASE("history forgets the oldest, and says where it begins", "[placement_history]") {
  PlacementHistory history;
  for (uint32_t i = 0; i <= PlacementHistory::kEntriesMax; ++i) {
    history.Add(Change("op" + std::to_string(i), 10 * i, 0, {0, 1}));
  }
  CHECK(history.entries().size() == PlacementHistory::kEntriesMax);
  CHECK(history.Before("op0").status().message().find("operation op0 moved nothing, or history") == 0);
  CHECK(history.Before("op1").ok());
  CHECK(history.At({1, 0}).status().message() == "epoch 1.0 is before what history holds: it begins at epoch 1.10");
  CHECK(history.At({1, 1}).ok());
}

TEST_CASE("few large layers are kept in place of many", "[placement_history]") {
  PlacementHistory history;
  const std::vector<int> large(PlacementHistory::kSlotsMax, 0);
  history.Add(Change("a", 1, 0, large));
  history.Add(Change("b", 2, 0, large));
  CHECK(history.entries().size() == 1);
  CHECK(history.Before("b").ok());
}

}  // namespace
}  // namespace evenkeel::controller
