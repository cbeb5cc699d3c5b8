// SPDX-License-Identifier: Apache-2.0
//
// Transfers: carries out the copies that the core asks for, by the cheapest transport that can, and fingerprints
// what came.
//
// Threads:   all calls on the strand, where the answers are delivered too. Fingerprints are computed on a thread of
//            its own; of slots in device memory all that wait together, kLaunchApart apart: a busy GPU feels launches
//            (protocol, rule 33).
// Owns:      the transports. Refers to strand and region, which outlive it.
// Order:     every Start and every Fingerprint is answered exactly once, unless Stop came first.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "agent/core/event.h"
#include "agent/transport.h"
#include "engine/region/agent_region.h"
#include "runtime/strand.h"

namespace evenkeel::agent {

class Transfers {
 public:
  using Deliver = std::function<void(Event)>;

  static constexpr absl::Duration kLaunchApart = absl::Milliseconds(100);

  Transfers(runtime::Strand& strand, const engine::AgentRegion& region,
            std::vector<std::unique_ptr<Transport>> transports, Deliver deliver);
  ~Transfers();

  void Start(const StartTransfer& effect);
  void Cancel(const CancelTransfer& effect);
  void Fingerprint(const FingerprintSlot& effect);
  void Forget(const Member& member);
  // The earliest deadline of a copy under way; InfiniteFuture if none is.
  absl::Time OldestDeadline() const;

  // Closes all mappings of other ranks and what others have of this one. No transfer is started after it.
  // Requires: none is under way.
  void CloseTransports();
  // Ends all copies and joins the transports' threads. Not on the strand, which must still run or have refused.
  void Stop();

 private:
  struct Transfer {
    uint64_t move_id = 0;
    int attempt = 0;
    absl::Time deadline;
    Transport* transport = nullptr;
  };

  Transport* Choose(const StartTransfer& effect) const;
  // On a transport's thread.
  void Complete(const StartTransfer& effect, const TransferResult& result);
  void Answer(uint64_t transfer_id, TransferEnded ended);
  // `then` is called on the fingerprints' thread, with what was computed.
  using Fingerprinted = std::function<void(absl::StatusOr<uint64_t>)>;
  void Await(LayerId layer, SlotIdx slot, Fingerprinted then);
  void FingerprintWaiting() ABSL_EXCLUSIVE_LOCKS_REQUIRED(fingerprints_);

  struct Waiting {
    LayerId layer;
    SlotIdx slot;
    Fingerprinted then;
  };

  runtime::Strand& strand_;
  const engine::AgentRegion& region_;
  const std::vector<std::unique_ptr<Transport>> transports_;
  const Deliver deliver_;
  uint64_t num_started_ ABSL_GUARDED_BY(strand_) = 0;
  absl::btree_map<uint64_t, Transfer> running_ ABSL_GUARDED_BY(strand_);
  runtime::Strand fingerprints_;  // its tasks use the above
  std::vector<Waiting> waiting_ ABSL_GUARDED_BY(fingerprints_);
  absl::Time next_launch_ ABSL_GUARDED_BY(fingerprints_) = absl::InfinitePast();
};

}  // namespace evenkeel::agent
