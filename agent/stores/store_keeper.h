// SPDX-License-Identifier: Apache-2.0
//
// StoreKeeper: keeps this rank's part of its host's pool and of the snapshot, in the background, as the controller's
// settings say, and tells what may be read of both.
//
// Threads:   calls from any; the work is done on a thread of its own, where `offer` is called too.
// Owns:      the hold on the pool, until Stop hands it back: the pool is to outlast the engine. Refers to the region,
//            which outlives it.
// Limits:    all copying and reading stays within AgentSettings::store_bytes_per_second.
// Errors:    are logged when they change, and what failed is tried again: the pool every kLook, the snapshot every
//            kSnapshotLook. The stores' state changes nothing for ranks and moves.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "agent/core/event.h"
#include "agent/stores/host_pool.h"
#include "agent/stores/pool_filler.h"
#include "agent/stores/snapshot_keeper.h"
#include "agent/throttle.h"
#include "agent/ucx_transport.h"
#include "engine/region/agent_region.h"

namespace evenkeel::agent {

class StoreKeeper {
 public:
  static constexpr absl::Duration kLook = absl::Seconds(1);
  static constexpr absl::Duration kSnapshotLook = absl::Seconds(30);

  struct Options {
    std::string host;
    bool offers_ucx = false;         // the pool to other hosts
    std::unique_ptr<HostPool> pool;  // held from before; may be null
  };
  // All stores that are offered now.
  using Offer = std::function<void(std::vector<Endpoint>)>;

  // Starts the thread. Nothing is done before Configure and SetMaps.
  StoreKeeper(Options options, const engine::AgentRegion& region, Offer offer);
  ~StoreKeeper();

  void Configure(const AgentSettings& settings);
  void SetMaps(std::shared_ptr<const Maps> maps);

  // Ends what is under way; `ended` is called on the thread once the region is not read any more. Once only.
  void EndSoon(std::function<void()> ended);
  // Ends what is under way and joins the thread. Idempotent.
  void Stop();
  // Requires: stopped.
  std::unique_ptr<HostPool> TakePool() { return std::move(pool_); }

 private:
  struct Orders {
    bool configured = false;
    AgentSettings settings;
    std::shared_ptr<const Maps> maps;
    bool closing = false;
    std::function<void()> ended;
  };

  void Run();
  bool Waits(absl::Time until);
  // Below: on the thread.
  // Whether there is more to fill in at once.
  bool LookAtPool(const Orders& orders);
  absl::Status EnterPool(const Orders& orders);
  absl::Status OfferByUcx();
  void LeavePool(bool remove);
  void LookAtSnapshot(const Orders& orders, absl::Time now);
  void OfferStores();
  // Waits its turn; false where all is to end.
  bool Pace(uint64_t bytes, uint64_t bytes_per_second);
  // Logs what is new.
  void Tell(const char* store, const absl::Status& status, std::string& told) const;

  // Constant after construction.
  const std::string host_;
  const bool offers_ucx_;
  const engine::AgentRegion& region_;
  const Offer offer_;
  // Used by the thread alone.
  std::unique_ptr<HostPool> pool_;
  std::unique_ptr<UcxTransport> pool_offer_;
  std::string pool_told_, snapshot_told_, offer_told_;
  bool pool_offer_tried_ = false, pool_was_complete_ = false;
  std::unique_ptr<SnapshotKeeper> snapshot_;
  std::string snapshot_directory_;
  absl::Time next_snapshot_look_ = absl::InfinitePast();
  std::shared_ptr<const Maps> owners_of_;
  Owners owners_, snapshot_owners_;
  std::vector<Endpoint> offered_;
  Throttle throttle_;

  absl::Mutex mutex_;
  Orders orders_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;  // last: Run uses all of the above
};

}  // namespace evenkeel::agent
