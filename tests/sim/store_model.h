// SPDX-License-Identifier: Apache-2.0
//
// StoreModel: the host pools and the snapshot of a run: sources of experts that belong to no member.
//
// A host's pool and its way to the snapshot are ready some time after the run began, and then hold every expert, but for
// those that they lack; some are damaged. Agents of the host offer them.
//
// Threads:   none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/protocol/messages.h"
#include "tests/sim/options.h"

namespace evenkeel::sim {

class StoreModel {
 public:
  explicit StoreModel(const Options& options) : options_(options) {}

  // Of one group; hosts of different groups are different ones.
  int HostOf(int rank) const { return options_.ranks_per_host == 0 ? 0 : rank / options_.ranks_per_host; }
  // The rank's own memory, as its agent offers it.
  std::vector<Endpoint> RankEndpoints(int group, int rank) const;
  // That and the stores of its host.
  std::vector<Endpoint> AllEndpoints(int group, int rank) const;
  absl::Time ReadyAt(int group, int rank) const;

  // What lies there; none where the store does not have it.
  std::optional<uint64_t> Read(int group, const Endpoint& store, uint64_t weights_version, LayerId layer,
                               ExpertId expert) const;

 private:
  std::string HostName(int group, int rank) const;
  bool Draw(const std::string& what, LayerId layer, ExpertId expert, double chance) const;

  const Options options_;
};

}  // namespace evenkeel::sim
