// SPDX-License-Identifier: Apache-2.0
//
// SnapshotKeeper: sees to it that every expert which this rank owns is on disk, whole.
//
// What is there and right is left alone, whoever wrote it; what is missing, cut short or damaged is written from the
// rank's own slots. The bytes of files are checked once in a keeper's life, their headers at each look.
//
// Threads:   one at a time; refers to the region, which outlives it.
// Errors:    of Look, the first trouble met: as SnapshotFolder says. What could be written is written all the same, but
//            for a full disk, which ends the look. kCancelled: told to end.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "agent/stores/held_experts.h"
#include "agent/stores/pool_filler.h"
#include "agent/stores/snapshot_folder.h"
#include "engine/region/agent_region.h"

namespace evenkeel::agent {

class SnapshotKeeper {
 public:
  // Of one file; a file is at most so large but for a single expert.
  static constexpr int kExpertsPerFileMax = 32;

  // `directory` is the one that is configured: it is not made where it is missing, for it may be a file system that is
  // not mounted.
  SnapshotKeeper(const engine::AgentRegion& region, const std::string& directory);

  struct Work {
    int num_files_written = 0;
    int num_experts_found = 0;  // of those owned, that were there and right
    uint64_t bytes_written = 0;
  };
  absl::Status Look(const Owners& owners, const Pace& pace, Work& work);

  const SnapshotFolder& folder() const { return folder_; }

 private:
  // Of the experts `held` of one layer, all owned: which are in no file, [held.size()].
  std::vector<bool> FindMissing(const std::vector<SnapshotName>& names, std::span<const HeldExpert> held,
                                const Pace& pace, absl::Status& trouble);
  bool IsDamaged(const SnapshotFile& file, ExpertId expert, const Pace& pace, absl::Status& trouble);
  absl::Status WriteLayer(std::span<const HeldExpert> held, const std::vector<bool>& missing, const Pace& pace,
                          Work& work);
  absl::Status WriteFile(std::span<const HeldExpert> held, const Pace& pace, Work& work);

  const engine::AgentRegion& region_;
  const SnapshotFolder folder_;
  const std::string writer_;
  bool cleaned_ = false;
  // One expert of one file as it was written: its bytes were read, and matched or not.
  using Checked = std::pair<std::pair<std::string, int64_t>, ExpertId>;
  std::set<Checked> good_, damaged_;
};

}  // namespace evenkeel::agent
