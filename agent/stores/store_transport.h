// SPDX-License-Identifier: Apache-2.0
//
// StoreTransport: reads experts out of a store of this host, its pool or its snapshot, piece by piece on one thread.
//
// What a store is lies behind StoreReader. Transfers take turns; cancels and deadlines are looked at between pieces.
//
// Threads:   as Transport says; completions arrive on the reading thread, where readers are opened and used too.
// Errors:    those of Transport, and of the store: kNotFound, kFailedPrecondition, kDataLoss.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "agent/throttle.h"
#include "agent/transport.h"

namespace evenkeel::agent {

// One expert of a store, being read.
class StoreReader {
 public:
  virtual ~StoreReader() = default;
  // The bytes of tensor `tensor` from `offset` on.
  virtual absl::Status Read(size_t tensor, uint64_t offset, std::span<std::byte> to) = 0;
  // After the last byte: whether all of them were of one content, as far as the store can tell.
  virtual absl::Status Finish() = 0;
};

class StoreTransport : public Transport {
 public:
  struct Options {
    std::string name;  // "pool" or "snapshot"
    std::string host;
    int cost = 0;
    std::shared_ptr<Throttle> throttle;
    std::function<absl::StatusOr<std::unique_ptr<StoreReader>>(const TransferRequest&)> open;
  };

  // Starts the thread.
  explicit StoreTransport(Options options);
  ~StoreTransport() override;

  std::string_view name() const override { return options_.name; }
  // Without an address: what is offered is known to the keeper of the store.
  Endpoint endpoint() const override { return {options_.name, options_.host, ""}; }
  int CostFrom(const Endpoint& source) const override;
  absl::Status Start(TransferRequest request, TransferDone done) override;
  void Cancel(uint64_t transfer_id) override;
  void Forget(const Member&) override {}
  void Close() override;

 private:
  struct Copy {
    TransferRequest request;
    TransferDone done;
    std::unique_ptr<StoreReader> reader;
    size_t range = 0;     // being copied
    uint64_t offset = 0;  // within it
    uint64_t copied = 0;  // bytes in all
  };
  struct Inbox {
    std::vector<Copy> started;
    std::vector<uint64_t> cancelled;
    bool closing = false;
  };

  void Run();
  Inbox Take(absl::Time until);
  bool HasNews() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Below: on the reading thread. Copies one piece; true when the transfer has ended, with its status.
  bool Advance(Copy& copy, absl::Time now, absl::Status& ended);
  absl::Time NextLook(absl::Time now, bool any_moved) const;
  static void End(Copy& copy, absl::Status status);

  // Constant after construction.
  const Options options_;
  // Used by the reading thread alone.
  std::vector<Copy> copies_;

  absl::Mutex mutex_;
  Inbox inbox_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: Run uses all of the above
};

}  // namespace evenkeel::agent
