// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/peer_service.h"

#include <poll.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace evenkeel::engine {
namespace {

constexpr int kSlowMs = 100;
constexpr int kUndecidedMs = 2000;

}  // namespace

PeerService::PeerService(evenkeel_region* region, int thread, const Slots* slots, const ModelConfig& config,
                         Failure* failure, Counters* counters)
    : region_(region), thread_(thread), slots_(slots), config_(config), failure_(failure), counters_(counters) {}

void PeerService::Admit(Epochs epochs) {
  first_epoch_ = epochs.first;
  last_epoch_ = epochs.last;
}

// A peer that has met everybody may take its first map while this engine still looks for the others.
void PeerService::AwaitDecision(const ExchangeServer::Request& request) const {
  const auto undecided = [&] { return first_epoch_ == 0 && last_epoch_ == 0; };
  for (int ms = 0; request.epoch != 0 && undecided() && ms < kUndecidedMs && !request.given_up(); ++ms) {
    poll(nullptr, 0, 1);
  }
}

absl::Status PeerService::Serve(const ExchangeServer::Request& request, float* y) {
  AwaitDecision(request);
  if (request.epoch < first_epoch_ || request.epoch > last_epoch_) {
    return absl::FailedPreconditionError(absl::StrCat("epoch ", request.epoch >> 32, ".", request.epoch & 0xFFFFFFFFu,
                                                      " is not one that this engine serves"));
  }
  if (request.phase < EVENKEEL_PHASE_OTHER || request.phase > EVENKEEL_DECODE) {
    return absl::InvalidArgumentError(absl::StrCat("there is no phase ", request.phase));
  }
  for (const SlotGroup& group : request.groups) {
    if (!slots_->InRange(request.layer, group.local_slot)) {
      return absl::InvalidArgumentError(absl::StrCat("layer ", request.layer, " has no local slot ", group.local_slot));
    }
  }
  // May be the end of this process: before anything of the request is computed and counted, never between that and
  // its answer.
  const Failure::Kind failure = failure_->Take();
  WaitWitness& witness = counters_->library_calls;
  const int code = witness.Watch(
      [&] { return evenkeel_serve_begin(region_, thread_, request.peer.rank, request.peer.incarnation); });
  if (code != EVENKEEL_OK) {
    return absl::FailedPreconditionError(absl::StrCat("not a member of the view: status ", code));
  }
  // Looked at within the bracket: as long as the asker waits, its own open step keeps the slots as they are.
  const absl::Status status = request.given_up() ? absl::CancelledError("given up") : Compute(request, y);
  witness.Watch([&] { return evenkeel_serve_end(region_, thread_); });
  if (!status.ok()) return status;
  counters_->served_rows += static_cast<uint64_t>(request.num_rows);
  switch (failure) {
    case Failure::Kind::kSlow:
      poll(nullptr, 0, kSlowMs);
      break;
    case Failure::Kind::kZeros:
      std::fill_n(y, request.num_rows * config_.hidden_size, 0.0f);
      break;
    default:
      break;
  }
  return absl::OkStatus();
}

absl::Status PeerService::Compute(const ExchangeServer::Request& request, float* y) {
  const float* x = request.x;
  uint64_t num_stale = 0;
  for (const SlotGroup& group : request.groups) {
    const Rows rows{x, group.num_rows, config_.hidden_size};
    if (!slots_->Compute(request.layer, group.local_slot, group.expert, rows, y, scratch_)) ++num_stale;
    x += group.num_rows * config_.hidden_size;
    y += group.num_rows * config_.hidden_size;
  }
  const auto phase = static_cast<evenkeel_phase>(request.phase);
  counters_->library_calls.Watch([&] {
    for (const SlotGroup& group : request.groups) {
      evenkeel_count(region_, thread_, phase, request.layer, group.local_slot, static_cast<uint64_t>(group.num_rows));
    }
    return true;
  });
  if (num_stale > 0 && request.given_up()) return absl::CancelledError("given up meanwhile");
  counters_->stale_slot_uses += num_stale;
  return absl::OkStatus();
}

}  // namespace evenkeel::engine
