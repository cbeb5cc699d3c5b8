// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/world.h"

#include "absl/strings/str_cat.h"

namespace evenkeel::sim {

World::World(const Options& run_options)
    : options(run_options),
      trace(&queue, run_options.verbose),
      rng(MixBits(run_options.seed)),
      maps(&trace, run_options.num_groups),
      load(&trace),
      losses({.trace = &trace,
              .ranks_needed = (run_options.num_experts + run_options.slots_per_rank - 1) / run_options.slots_per_rank,
              .rules = {.agent_lease = kAgentLease,
                        .engine_lease = kEngineLease,
                        .agent_reconnect_max = kAgentReconnectMax},
              .lives = [this](int group, const Member& member) { return Lives(group, member); },
              .leaves =
                  [this](int group, const Member& member) {
                    return may_leave.contains({group, member.rank.value()});
                  }}),
      stores(run_options),
      network(run_options, &queue, run_options.num_groups * run_options.num_ranks, MixBits(run_options.seed ^ 1)),
      transfers(run_options,
                {.queue = &queue,
                 .trace = &trace,
                 .maps = &maps,
                 .find = [this](int group, Member member) { return FindRegion(group, member); },
                 .stores = &stores},
                MixBits(run_options.seed ^ 2)),
      weights_version(static_cast<size_t>(run_options.num_groups), 1) {}

RegionModel* World::AddRegion(int group, const GroupInfo& info, Member member, bool joining) {
  regions.push_back(std::make_unique<RegionModel>(static_cast<uint32_t>(regions.size()), group, info, member, joining));
  return regions.back().get();
}

RegionModel* World::FindRegion(int group, Member member) {
  RegionModel* const region = engines[static_cast<size_t>(group)]->region(member.rank.value());
  return region != nullptr && region->member() == member ? region : nullptr;
}

bool World::Lives(int group, const Member& member) const {
  const RegionModel* const region = engines[static_cast<size_t>(group)]->region(member.rank.value());
  return region != nullptr && region->member() == member;
}

GroupInfo World::InfoOf(int group) const {
  return {.name = absl::StrCat("group-", group),
          .model = "model",
          .weights_version = weights_version[static_cast<size_t>(group)],
          .manifest_digest = 42,
          .shape = {.num_experts = options.num_experts,
                    .num_ranks = options.num_ranks,
                    .slots_per_rank = options.slots_per_rank},
          .world = options.world,
          .num_layers = options.num_layers,
          .expert_bytes = uint64_t{1} << 20,
          .count_place = options.count_at_router ? CountPlace::kRouter : CountPlace::kAfterDispatch};
}

}  // namespace evenkeel::sim
