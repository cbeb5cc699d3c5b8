// SPDX-License-Identifier: Apache-2.0
//
// FaultyTransport: a transport that misbehaves on order, around one that does not. For tests of what must cope with it.
//
// Faults are written `kind:n[:milliseconds]`: `flip:1` changes one byte of what the first transfer brought, `fail:2`
// fails the second one with kUnavailable, `delay:3:500` tells of the third one's end half a second late, `flip:0` does
// it to every transfer. Several are separated by commas.
//
// Threads:   as the transport within; delayed completions arrive on a thread of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "agent/transport.h"
#include "runtime/strand.h"

namespace evenkeel::agent {

struct Fault {
  enum class Kind { kFlip, kFail, kDelay };
  Kind kind = Kind::kFlip;
  int transfer = 0;      // counted from 1 over the transport's life; 0: every one
  absl::Duration delay;  // of kDelay
};

// kInvalidArgument names what cannot be read. Empty text: no faults.
absl::StatusOr<std::vector<Fault>> ParseFaults(const std::string& text);

class FaultyTransport : public Transport {
 public:
  FaultyTransport(std::unique_ptr<Transport> within, std::vector<Fault> faults);
  ~FaultyTransport() override;

  std::string_view name() const override { return within_->name(); }
  Endpoint endpoint() const override { return within_->endpoint(); }
  int CostFrom(const Endpoint& source) const override { return within_->CostFrom(source); }
  absl::Status Start(TransferRequest request, TransferDone done) override;
  void Cancel(uint64_t transfer_id) override { within_->Cancel(transfer_id); }
  void Forget(const Member& source) override { within_->Forget(source); }
  void Close() override;

 private:
  // A completion held back.
  struct Late {
    absl::Time due;
    TransferDone done;
    TransferResult result;
  };

  void DeliverDue(bool all) ABSL_EXCLUSIVE_LOCKS_REQUIRED(late_strand_);

  const std::unique_ptr<Transport> within_;
  const std::vector<Fault> faults_;
  int num_started_ = 0;  // on the strand that calls Start
  runtime::Strand late_strand_;
  std::vector<Late> late_ ABSL_GUARDED_BY(late_strand_);  // by due
};

}  // namespace evenkeel::agent
