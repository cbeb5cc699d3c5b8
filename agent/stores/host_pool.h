// SPDX-License-Identifier: Apache-2.0
//
// HostPool: this agent's hold on its host's pool of experts: found or made, entered, filled, left.
//
// All agents of a host that serve the same weights share one pool. The first one makes it; each holds the lock on its
// rank's byte as long as it uses it, so that all know whose ranks are of this host. Frames are given out under a lock
// that is never waited for. An agent that is told to end removes the pool if nobody else uses it; one that is killed
// leaves it behind, and whoever enters it later goes on with what it holds.
//
// Threads:   one at a time; the view may be read from any.
// Owns:      the mapping and the locks.
// Errors:    kUnavailable: others are at it, ask again; kResourceExhausted: no room in shared memory, or no frame to be
//            had; otherwise as PoolView::Open and PlanPool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "agent/stores/holdings.h"
#include "agent/stores/pool_view.h"
#include "agent/stores/store_identity.h"
#include "algos/base/ids.h"

namespace evenkeel::agent {

class HostPool {
 public:
  struct Options {
    std::string directory;  // in shared memory
    std::string host;
    RankId rank;
    int num_ranks = 0;  // of the group: ranks() looks no further
    uint64_t bytes_max = 0;
  };

  static absl::StatusOr<std::unique_ptr<HostPool>> Enter(const Options& options, const StoreIdentity& identity);
  // Leaves; the pool stays.
  ~HostPool() = default;
  HostPool(const HostPool&) = delete;
  HostPool& operator=(const HostPool&) = delete;

  // Removes the pool if no other agent uses it.
  void RemoveIfLast();

  const PoolView& view() const { return *view_; }
  // Whether its name still leads to it: another agent may have removed it just as this one entered.
  bool IsNamed() const { return view_->memory().IsNamed(); }
  // Whose agents use the pool, ascending, this one among them.
  std::vector<RankId> Ranks() const;
  bool Holds(LayerId layer, ExpertId expert, uint64_t fingerprint) const {
    return view_->Find(layer, expert, fingerprint).ok();
  }

  // An entry being written. Held until Publish or Abandon.
  struct Claim {
    uint64_t entry = 0;
    uint64_t frame = 0;
    LayerId layer;
    std::vector<std::span<std::byte>> tensors;  // to be written
  };
  using WorthOfEntry = std::function<Worth(uint64_t entry)>;
  // Gives the expert a frame: a free one, else that of an entry worth less than `worth`. kResourceExhausted where there
  // is none; kUnavailable where another agent writes the entry or gives out frames just now.
  absl::StatusOr<Claim> Begin(LayerId layer, ExpertId expert, Worth worth, const WorthOfEntry& worth_of);
  // The bytes are there. kDataLoss, and the entry free, where they have another fingerprint.
  absl::Status Publish(const Claim& claim, uint64_t fingerprint);
  void Abandon(const Claim& claim);

  // Fingerprints the next verified entry again, in turn; frees one that does not match. Whether it did match, or there
  // was none.
  bool ScrubNext();

 private:
  HostPool(Options options, std::unique_ptr<PoolView> view);

  // kUnavailable where another agent holds the lock.
  absl::Status LockFrames();
  std::optional<uint64_t> FindFrame(uint64_t entry, Worth worth, const WorthOfEntry& worth_of);
  bool IsWritten(uint64_t entry) const;
  void FreeEntry(uint64_t entry);

  // Constant after construction.
  const Options options_;
  const std::unique_ptr<PoolView> view_;
  uint64_t scrub_next_ = 0;
};

}  // namespace evenkeel::agent
