// SPDX-License-Identifier: Apache-2.0
//
// Part problem: some of a problem's ranks, and for each layer some of its experts, as a problem of its own.
//
// What a policy that knows neither dead ranks nor expert groups can plan: the living ranks alone, or one node with
// the groups of experts that live there. Ranks and experts are numbered anew, in ascending order. A current
// placement comes without holes: missing experts and blank slots are filled as repair.h says.
//
// Pins and budgets are not passed on: what the plan lacks of them is repaired afterwards.
#pragma once

#include <vector>

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "algos/problem.h"

namespace evenkeel::algos {

struct Part {
  std::vector<RankId> ranks = {};                   // ascending, all live
  std::vector<std::vector<ExpertId>> experts = {};  // [num_layers], ascending, equally many in each; empty: all
  int num_nodes = 1;
  int num_expert_groups = 1;
};

Problem PartOf(const Problem& problem, const Part& part);

// The living ranks, with their nodes if equally many live on each, else as one node.
Part LivingRanks(const Problem& problem);

// Whether experts are to stay with their group on one node (policy of DeepSeek): several groups that divide by
// several nodes, all ranks of which live.
bool KeepsGroups(const Problem& problem);

// One part for each node. The groups of each layer go heaviest first to the lightest node that has not its number
// yet; they stay where they are now if each is on one node, nodes have equally many, and the heaviest node is at
// most 5 % heavier so. Requires: KeepsGroups.
std::vector<Part> NodesWithGroups(const Problem& problem);

// Writes what was planned for the part into `whole`, in the whole's numbers: slots of the part's ranks alone.
void Embed(const Placement& planned, const Problem& problem, const Part& part, LayerId layer, Placement& whole);

}  // namespace evenkeel::algos
