// SPDX-License-Identifier: Apache-2.0
//
// UcxTransport: reads experts out of other ranks' memory by one-sided UCX reads, and offers this rank's.
//
// One thread owns the UCX worker. It reads in pieces, a few of each transfer at a time, serves what others read where
// their UCX transport needs help (tcp), and sleeps on the worker's event descriptor when there is nothing to do. A
// transfer that is given up first waits for its pieces; where these do not end within kDrain, the connection to the
// source is cut, which ends them, and with them the other transfers from it (kUnavailable). A source is read only after it
// was shown the pass that the controller made for this reader and rollout.
//
// Threads:   as Transport says; completions arrive on the worker's thread.
// Owns:      the worker and its connections, which are closed kKeepOpen after their last use. The memory outlives it.
// Errors:    besides those of Transport: kFailedPrecondition from Start where the address is broken, of another
//            incarnation, of another version of UCX, or its tensors are not those of the destination; kPermissionDenied
//            where the request has no pass, or the source refuses it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "agent/throttle.h"
#include "agent/transport.h"
#include "agent/ucx_address.h"
#include "agent/ucx_worker.h"
#include "agent/weights_table.h"
#include "runtime/read_pass.h"

namespace evenkeel::agent {

class UcxTransport : public Transport {
 public:
  static constexpr absl::Duration kKeepOpen = absl::Seconds(5);
  static constexpr absl::Duration kDrain = absl::Milliseconds(200);
  static constexpr absl::Duration kNoAnswer = absl::Seconds(5);  // of a piece: the source is unavailable

  struct Options {
    Member member;       // this rank
    std::string host;    // HostIdentity(), but for tests
    std::string tls;     // as UCX_TLS; empty: that variable, or what UCX finds best
    WeightsTable table;  // of `memory`
    std::span<std::byte> memory;
    std::shared_ptr<Throttle> throttle;
  };

  // Registers the memory and starts the thread.
  static absl::StatusOr<std::unique_ptr<UcxTransport>> Create(Options options);
  ~UcxTransport() override;

  std::string_view name() const override { return "ucx"; }
  Endpoint endpoint() const override;
  int CostFrom(const Endpoint& source) const override;
  absl::Status Start(TransferRequest request, TransferDone done) override;
  void Cancel(uint64_t transfer_id) override;
  void Forget(const Member& source) override;
  void Close() override;

 private:
  // An agent that is read from.
  struct Source {
    Member member;
    std::string text;  // its endpoint's address
    std::string pass;  // that was shown
    UcxWorker::Peer* peer = nullptr;
    absl::Time last_used;
    int num_transfers = 0;
  };
  struct Transfer {
    TransferRequest request;
    TransferDone done;
    UcxAddress address;
    runtime::ReadPass pass;
    Source* source = nullptr;
    size_t range = 0;      // being asked for
    size_t offset = 0;     // within it
    int in_flight = 0;     // pieces
    uint64_t arrived = 0;  // bytes
    absl::Status why;      // it ends, once no piece is in flight; OK: it goes on
    absl::Time given_up = absl::InfiniteFuture();
    absl::Time last_news;  // a piece was asked for or came
  };
  // What other threads ask of the worker's.
  struct Inbox {
    std::vector<Transfer> started;
    std::vector<uint64_t> cancelled;
    std::vector<Member> forgotten;
    bool closing = false;
  };

  UcxTransport(Options options, std::string secret, std::unique_ptr<UcxWorker> worker);
  void Run();
  Inbox Take();
  // Below: on the worker's thread. All pieces issued, arrived or given up.
  bool Advance(Transfer& transfer, absl::Time now);
  absl::Status FindSource(Transfer& transfer, absl::Time now);
  bool AllAsked(Transfer& transfer) const;
  absl::Status AskForPiece(Transfer& transfer, absl::Time now, bool& waits);
  void GiveUp(Transfer& transfer, absl::Status why, absl::Time now);
  void CutSource(Source* source);
  void CloseUnused(absl::Time now);
  absl::Duration UntilNextLook(absl::Time now) const;
  void EndAll();
  static void End(Transfer& transfer);

  // Constant after construction.
  const Options options_;
  const std::string secret_;  // of passes to what is offered
  const Endpoint endpoint_;
  // Used by the thread alone, but for worker_->Signal.
  const std::unique_ptr<UcxWorker> worker_;
  std::list<Transfer> transfers_;
  std::list<Source> sources_;

  absl::Mutex mutex_;
  Inbox inbox_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: Run uses all of the above
};

}  // namespace evenkeel::agent
