// SPDX-License-Identifier: Apache-2.0
//
// Transport: one way to read an expert's weights from another rank into a slot of this one.
//
// The destination reads; the source does nothing (two-sided transports answer within their own threads). All
// tensors of the expert are copied, in manifest order, into `destination`'s byte ranges.
//
// Threads:   Start, Cancel and Close are called on the agent's strand and never block. The completion arrives on a
//            thread of the transport and must do one thing: post an event.
// Order:     a completion is delivered exactly once for each Start that returned OK, also after Cancel and Close.
// Memory:    destination ranges belong to the transport from Start until the completion; no byte is written after it.
//            The source side sees nothing.
// Cancel:    leaves the destination with undefined content.
// Errors:    kUnavailable: peer or link away; kDeadlineExceeded: not done in time; kAborted: cancelled;
//            kFailedPrecondition: the source is of another incarnation, or the endpoint cannot be used from here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "algos/protocol/identity.h"
#include "algos/protocol/messages.h"

namespace evenkeel::agent {

struct TransferRequest {
  uint64_t transfer_id = 0;  // unique within this agent; names the transfer to Cancel
  LayerId layer;
  ExpertId expert;
  uint64_t fingerprint = 0;   // expected of the expert; stores pass over what they hold of another one
  int source_local_slot = 0;  // of sources that are members
  MoveSource source;
  std::vector<std::span<std::byte>> destination;  // one range per tensor of the layer, manifest order
  absl::Time deadline;
  uint64_t bytes_per_second_max = 0;  // 0: no limit; otherwise kept over each 64 KiB
};

struct TransferResult {
  uint64_t transfer_id = 0;
  absl::Status status;
  uint64_t bytes = 0;
};

using TransferDone = std::function<void(TransferResult)>;

class Transport {
 public:
  virtual ~Transport() = default;

  virtual std::string_view name() const = 0;

  // Where others can read this rank's weights by this transport.
  virtual Endpoint endpoint() const = 0;

  // Whether a source with this endpoint can be read from here; lower is better, negative: not at all.
  virtual int CostFrom(const Endpoint& source) const = 0;

  virtual absl::Status Start(TransferRequest request, TransferDone done) = 0;
  virtual void Cancel(uint64_t transfer_id) = 0;

  // Drops what is kept open towards a source that has ended (rule 20).
  virtual void Forget(const Member& source) = 0;

  // Ends all transfers (kAborted), delivers their completions and joins the transport's threads. Idempotent.
  virtual void Close() = 0;
};

}  // namespace evenkeel::agent
