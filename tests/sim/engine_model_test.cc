// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/engine_model.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"

#include "agent/core/event.h"
#include "algos/protocol/identity.h"
#include "tests/sim/options.h"
#include "tests/sim/region_model.h"
#include "tests/sim/world.h"

namespace evenkeel::sim {
namespace {

// One group of three ranks whose work for others is bracketed, and no agents: the test is theirs.
struct Engines {
  explicit Engines(uint64_t seed) : world(Bracketed(seed)) {
    world.engines.push_back(std::make_unique<EngineModel>(world.options, 0,
                                                          EngineModel::World{.queue = &world.queue,
                                                                             .trace = &world.trace,
                                                                             .maps = &world.maps,
                                                                             .load = &world.load,
                                                                             .changed = [](int) {}},
                                                          seed));
    for (int r = 0; r < world.options.num_ranks; ++r) {
      regions.push_back(world.AddRegion(0, world.InfoOf(0), {RankId(r), static_cast<uint64_t>(r) + 1}));
      model().Start(regions.back());
    }
  }
  static Options Bracketed(uint64_t seed) {
    Options options;
    options.seed = seed;
    options.num_ranks = 3;
    options.bracketed = true;
    options.step_mean = absl::Milliseconds(5);
    return options;
  }
  EngineModel& model() { return *world.engines[0]; }
  void RunFor(absl::Duration duration) {
    const absl::Time end = world.queue.now() + duration;
    while (world.queue.RunNext(end)) {
    }
  }
  // Every agent stores the view of all ranks from `first` on.
  void TakeView(uint64_t number, int first) {
    View view = {.number = number, .members = {}};
    for (size_t r = static_cast<size_t>(first); r < regions.size(); ++r) view.members.push_back(regions[r]->member());
    for (RegionModel* region : regions) model().TakeView(region, view);
  }
  void TakeMaps(Epoch epoch, uint64_t view_number) {
    auto maps = std::make_shared<agent::Maps>(*regions[0]->maps);
    maps->epoch = epoch;
    maps->view_number = view_number;
    for (RegionModel* region : regions) model().TakeMaps(region, maps);
  }

  World world;
  std::vector<RegionModel*> regions;
};

TEST_CASE("a rank that a view leaves out ends what it had begun for others, and serves no more", "[sim]") {
  int num_serving = 0;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    Engines engines(seed);
    RegionModel& left_out = *engines.regions[0];
    engines.RunFor(absl::Milliseconds(100));
    engines.TakeView(1, 1);
    REQUIRE_FALSE(left_out.in_set);
    num_serving += left_out.Quiesced(/*steps_count=*/false, /*serving_counts=*/true).view_number < 1;

    engines.TakeView(2, 0);
    const Epoch epoch = {.term = 1, .number = 1};
    engines.TakeMaps(epoch, 2);
    engines.RunFor(absl::Seconds(10));  // steps that lost an answer have been given up
    CHECK_FALSE(left_out.in_set);
    for (const RegionModel* region : engines.regions) {
      const Quiescence quiesced = region->Quiesced(/*steps_count=*/true, /*serving_counts=*/true);
      CHECK(quiesced.epoch == epoch);
      CHECK(quiesced.view_number == 2);
    }
    CHECK(engines.world.trace.violation() == "");
  }
  CHECK(num_serving > 5);
}

}  // namespace
}  // namespace evenkeel::sim
