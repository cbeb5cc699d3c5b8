// SPDX-License-Identifier: Apache-2.0
//
// RemotePool: reads experts out of another host's pool by UCX, as agents of that host offer it.
//
// To UCX an offered pool looks like a rank's weights: its frames are the slots, the rows of its directory a layer of
// their own. A read takes the directory's row first, then the frame that it names.
//
// Threads:   none of its own: completions arrive on the UCX transport's.
// Owns:      nothing; refers to the UCX transport, which must have ended its transfers when this one goes.
// Errors:    those of Transport; kNotFound: the pool does not hold the expert; kFailedPrecondition: it is of other weights.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "agent/stores/pool_view.h"
#include "agent/stores/store_identity.h"
#include "agent/transport.h"
#include "agent/ucx_address.h"
#include "agent/ucx_transport.h"

namespace evenkeel::agent {

// Offers the pool of this host to others; its endpoint's address is the ucx part of a PoolAddress. The pool outlives it.
absl::StatusOr<std::unique_ptr<UcxTransport>> OfferPool(const PoolView& pool, const Member& member,
                                                        const std::string& host);

class RemotePool : public Transport {
 public:
  static constexpr int kCost = 40;

  struct Options {
    std::string host;
    StoreIdentity identity;
    Transport* ucx = nullptr;
  };
  explicit RemotePool(Options options) : options_(std::move(options)) {}
  ~RemotePool() override { Close(); }

  std::string_view name() const override { return "pool"; }
  Endpoint endpoint() const override { return {"pool", options_.host, ""}; }
  int CostFrom(const Endpoint& source) const override;
  absl::Status Start(TransferRequest request, TransferDone done) override;
  void Cancel(uint64_t transfer_id) override;
  void Forget(const Member&) override {}
  void Close() override;

 private:
  // One read under way.
  struct Read {
    TransferRequest request;
    TransferDone done;
    Member member;    // that offers the pool
    Endpoint source;  // for UCX
    uint64_t num_frames = 0;
    LayerId frames_row;            // the layer of frames with tensors as this expert's, to UCX
    std::vector<std::byte> cells;  // one row of the directory
    size_t cell = 0;               // within it
    bool cancelled = false;
  };

  absl::StatusOr<std::shared_ptr<Read>> Prepare(TransferRequest request, TransferDone done) const;
  absl::Status AskForRow(const std::shared_ptr<Read>& read, int row);
  absl::StatusOr<uint64_t> FrameOf(const Read& read) const;
  void AskForFrame(const std::shared_ptr<Read>& read);
  void End(const std::shared_ptr<Read>& read, TransferResult result);

  const Options options_;

  absl::Mutex mutex_;
  absl::btree_map<uint64_t, std::shared_ptr<Read>> reads_ ABSL_GUARDED_BY(mutex_);  // by transfer id
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace evenkeel::agent
