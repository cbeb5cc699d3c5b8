// SPDX-License-Identifier: Apache-2.0
//
// What tests of ranks that come and go share.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "catch2/catch.hpp"

#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {

// Four ranks of six at most.
inline Cluster::Options Growing() {
  Cluster::Options options = Basic();
  options.shape.num_ranks = 6;
  options.world = 4;
  return options;
}

inline Standing StandingOf(const Cluster& cluster, int rank) {
  return cluster.coordinator->GetMembership(kGroup, cluster.now)->ranks[static_cast<size_t>(rank)].standing;
}
inline RankStatus StatusOf(const Cluster& cluster, int rank) {
  return cluster.coordinator->GetMembership(kGroup, cluster.now)->ranks[static_cast<size_t>(rank)];
}

inline std::vector<RankId> Ranks(std::initializer_list<int> ranks) {
  std::vector<RankId> ids;
  for (int rank : ranks) ids.push_back(RankId(rank));
  return ids;
}

inline void Admit(Cluster& cluster, std::string id, std::initializer_list<int> ranks) {
  cluster.Deliver(AdmitRequested{std::move(id), kGroup, Ranks(ranks)});
}
inline void Drain(Cluster& cluster, std::string id, std::initializer_list<int> ranks,
                  absl::Duration grace = absl::ZeroDuration()) {
  cluster.Deliver(DrainRequested{std::move(id), kGroup, Ranks(ranks), grace});
}

inline bool IsDone(const Cluster& cluster, std::string_view id) { return cluster.StateOf(id) == "done"; }

inline void RunUntilDone(Cluster& cluster, std::string_view id) {
  const bool done = cluster.RunUntil([&] { return IsDone(cluster, id); });
  const OperationProgress operation = cluster.Operation(id);
  CAPTURE(cluster.StateOf(id), operation.detail, operation.num_moves, operation.num_moves_done);
  const MembershipStatus membership = *cluster.coordinator->GetMembership(kGroup, cluster.now);
  for (const RankStatus& rank : membership.ranks) {
    UNSCOPED_INFO("rank " << rank.rank.value() << " stands " << static_cast<int>(rank.standing) << " live "
                          << rank.num_slots_live << " " << rank.note);
  }
  REQUIRE(done);
}

// Of all layers, by the maps in force.
inline int NumLiveOn(const Cluster& cluster, int rank) { return StatusOf(cluster, rank).num_slots_live; }

inline std::vector<OperationProgress> Stored(const Cluster& cluster) {
  std::vector<OperationProgress> operations;
  for (const OperationProgress& persisted : cluster.persisted) {
    std::erase_if(operations, [&](const OperationProgress& operation) { return operation.id == persisted.id; });
    operations.push_back(persisted);
  }
  return operations;
}

inline void Grow(Cluster& cluster) {
  cluster.StartJoining(4);
  cluster.AttachAgent(4);
  Admit(cluster, "a", {4});
  RunUntilDone(cluster, "a");
}

}  // namespace evenkeel::controller
