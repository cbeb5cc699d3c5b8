// SPDX-License-Identifier: Apache-2.0
//
// Daemon: one agent in one incarnation of its engine: the core, its region, its transports and its stream.
//
// Threads:   Start, WaitOver, outcome, Stop: the owner's. All else on the strand.
// Owns:      region, transports, stores, stream, strand. The region's agent lock is held until the end.
// Takeover:  where an earlier agent left slots in `writing`, nothing is done for kTakeoverWait, so that its last
//            writes have landed (protocol, rule 19).
// Stuck:     a copy that has not ended kCopyStuck after its deadline ends the process with status 3: a successor takes
//            over (protocol, rule 28).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

#include "agent/controller_stream.h"
#include "agent/core/event.h"
#include "agent/core/worker.h"
#include "agent/peer_watch.h"
#include "agent/region_watch.h"
#include "agent/stores/host_pool.h"
#include "agent/stores/store_keeper.h"
#include "agent/transfers.h"
#include "agent/transport.h"
#include "engine/region/agent_region.h"
#include "runtime/client_credentials.h"
#include "runtime/strand.h"

namespace evenkeel::agent {

class Daemon {
 public:
  static constexpr absl::Duration kTakeoverWait = absl::Seconds(1);
  static constexpr absl::Duration kCopyStuck = absl::Seconds(10);
  static constexpr absl::Duration kFarewell = absl::Milliseconds(50);  // to tell the controller of the engine's end

  struct Options {
    std::string controller;  // host:port
    runtime::ClientCredentials credentials;
    std::string transport;              // forces this one over what the controller says; empty: not
    uint64_t bytes_per_second_max = 0;  // bounds what the controller allows; 0: not
    uint64_t seed = 0;                  // of the back-off's jitter
  };

  // kDataLoss where the region's maps do not match their digest.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(Options options, std::unique_ptr<engine::AgentRegion> region,
                                                       std::vector<std::unique_ptr<Transport>> transports,
                                                       StoreKeeper::Options stores = {});
  ~Daemon();

  // Whether it is over: the engine has ended or resumed, or the region is not as it should be.
  bool WaitOver(absl::Duration at_most) const { return over_.WaitForNotificationWithTimeout(at_most); }
  // OK where the engine has ended; kAborted where it has resumed from a suspension: its slots are to be taken over anew.
  // Requires: it is over.
  const absl::Status& outcome() const { return outcome_; }

  // Ends copies and stream, joins all threads. Repeating it does nothing.
  void Stop();
  // The hold on the host's pool, for the next engine's agent; may be null. Requires: stopped.
  std::unique_ptr<HostPool> TakePool() { return stores_.TakePool(); }

 private:
  Daemon(Options options, std::unique_ptr<engine::AgentRegion> region, RegionState state, absl::Time begin,
         std::vector<std::unique_ptr<Transport>> transports, StoreKeeper::Options stores);

  absl::Time NextWakeup() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void WakeUp() ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void CheckEngine(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void CheckPeers(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  // Gives the event to the core and carries out the effects, and all events that come of them.
  void Feed(Event event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void Receive(uint64_t stream, ControllerMessage message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void StreamEnded(uint64_t stream, const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void End(absl::Status outcome) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // On a thread of the stores.
  void OfferStores(std::vector<Endpoint> stores);

  void Carry(const SendToController& effect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void Carry(const CloseStream& effect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void Carry(const StoreTerm& effect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void Carry(const WriteMaps& effect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void Carry(const StoreView& effect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void Carry(const StoreSlot& effect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void Carry(const StartTransfer& effect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void Carry(const CancelTransfer& effect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void Carry(const NotifyPostMove& effect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void Carry(const FingerprintSlot& effect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void Carry(const ReadCounters& effect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void Carry(const GrantSuspension& effect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // The engine is suspended: stores read its slots no more.
  void BeginSuspension(uint64_t suspension) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  // Where the core and the stores are done.
  void GrantIfQuiet() ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // Constant after construction.
  const Options options_;
  const std::unique_ptr<engine::AgentRegion> region_;
  const absl::Time begin_;  // nothing is done before
  const int rank_;          // for logs

  absl::Notification over_;
  absl::Status outcome_;  // written before over_ is notified, constant afterwards
  runtime::Strand strand_;

  Worker worker_ ABSL_GUARDED_BY(strand_);
  View view_ ABSL_GUARDED_BY(strand_);
  RegionWatch watch_ ABSL_GUARDED_BY(strand_);
  PeerWatch peers_ ABSL_GUARDED_BY(strand_);
  ControllerStream stream_ ABSL_GUARDED_BY(strand_);
  std::deque<Event> events_ ABSL_GUARDED_BY(strand_);
  bool feeding_ ABSL_GUARDED_BY(strand_) = false;
  std::string stream_trouble_ ABSL_GUARDED_BY(strand_);  // the last one logged
  uint64_t suspension_ ABSL_GUARDED_BY(strand_);         // of the engine; 0: none yet
  bool core_grants_ ABSL_GUARDED_BY(strand_) = false;
  bool stores_ended_ ABSL_GUARDED_BY(strand_) = false;
  absl::Time engine_ended_at_ ABSL_GUARDED_BY(strand_) = absl::InfiniteFuture();
  const std::vector<Endpoint> own_endpoints_;  // of this rank, without stores
  bool stopped_ = false;
  Transfers transfers_;  // last, with the stores: stopped before the rest
  StoreKeeper stores_;
};

}  // namespace evenkeel::agent
