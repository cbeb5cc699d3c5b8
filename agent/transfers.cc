// SPDX-License-Identifier: Apache-2.0
#include "agent/transfers.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"

#include "runtime/clock.h"

namespace evenkeel::agent {

using runtime::MonotonicNow;

Transfers::Transfers(runtime::Strand& strand, const engine::AgentRegion& region,
                     std::vector<std::unique_ptr<Transport>> transports, Deliver deliver)
    : strand_(strand),
      region_(region),
      transports_(std::move(transports)),
      deliver_(std::move(deliver)),
      fingerprints_({.name = "fingerprints"}) {
  if (!region_.on_device()) return;
  const absl::Status posted = fingerprints_.PostEssential([this] {
    fingerprints_.AssertHeld();
    fingerprints_.SetTimer({.next_wakeup =
                                [this] {
                                  fingerprints_.AssertHeld();
                                  return waiting_.empty() ? absl::InfiniteFuture() : next_launch_;
                                },
                            .on_wakeup =
                                [this] {
                                  fingerprints_.AssertHeld();
                                  FingerprintWaiting();
                                }});
  });
  static_cast<void>(posted);  // a new strand takes it
}

Transfers::~Transfers() { Stop(); }

void Transfers::CloseTransports() {
  for (const auto& transport : transports_) transport->Close();
}

void Transfers::Stop() {
  CloseTransports();
  fingerprints_.Stop();
}

Transport* Transfers::Choose(const StartTransfer& effect) const {
  Transport* best = nullptr;
  int best_cost = 0;
  for (const auto& transport : transports_) {
    const bool forced = !effect.transport.empty() && effect.source.member.rank.valid();
    if (forced && transport->name() != effect.transport) continue;
    const int cost = transport->CostFrom(effect.source.endpoint);
    if (cost < 0 || (best != nullptr && cost >= best_cost)) continue;
    best = transport.get();
    best_cost = cost;
  }
  return best;
}

void Transfers::Start(const StartTransfer& effect) {
  strand_.AssertHeld();
  const uint64_t transfer_id = ++num_started_;
  TransferEnded refused;
  refused.move_id = effect.move_id;
  refused.attempt = effect.attempt;
  Transport* transport = Choose(effect);
  if (transport == nullptr) {
    refused.status = absl::FailedPreconditionError(absl::StrCat("read from rank ", effect.source.member.rank.value(),
                                                                " by ", effect.source.endpoint.transport,
                                                                ": no transport of this agent can"));
    return Answer(transfer_id, std::move(refused));
  }
  TransferRequest request;
  request.transfer_id = transfer_id;
  request.layer = effect.layer;
  request.expert = effect.expert;
  request.fingerprint = effect.fingerprint;
  if (effect.source.slot.valid()) {
    request.source_local_slot = region_.group().shape.LocalSlot(effect.source.slot);
  }
  request.source = effect.source;
  request.destination = region_.SlotBytes(effect.layer, effect.slot);
  request.deadline = effect.deadline;
  request.bytes_per_second_max = effect.bytes_per_second_max;
  running_[transfer_id] = {effect.move_id, effect.attempt, effect.deadline, transport};
  const absl::Status started =
      transport->Start(std::move(request), [this, effect](const TransferResult& result) { Complete(effect, result); });
  if (started.ok()) return;
  refused.status = started;
  Answer(transfer_id, std::move(refused));
}

void Transfers::Complete(const StartTransfer& effect, const TransferResult& result) {
  TransferEnded ended;
  ended.move_id = effect.move_id;
  ended.attempt = effect.attempt;
  ended.status = result.status;
  ended.bytes = result.bytes;
  if (!result.status.ok()) return Answer(result.transfer_id, std::move(ended));
  Await(effect.layer, effect.slot, [this, id = result.transfer_id, ended](absl::StatusOr<uint64_t> fingerprint) {
    TransferEnded answer = ended;
    answer.status = fingerprint.status();
    if (fingerprint.ok()) answer.fingerprint = *fingerprint;
    Answer(id, std::move(answer));
  });
}

void Transfers::Await(LayerId layer, SlotIdx slot, Fingerprinted then) {
  const absl::Status posted = fingerprints_.PostEssential([this, layer, slot, then = std::move(then)]() mutable {
    fingerprints_.AssertHeld();
    waiting_.push_back({layer, slot, std::move(then)});
    if (!region_.on_device()) FingerprintWaiting();
  });
  static_cast<void>(posted);  // refused only while the agent ends
}

void Transfers::FingerprintWaiting() {
  const std::vector<Waiting> batch = std::exchange(waiting_, {});
  std::vector<std::pair<LayerId, SlotIdx>> slots;
  for (const Waiting& one : batch) slots.emplace_back(one.layer, one.slot);
  const absl::StatusOr<std::vector<uint64_t>> fingerprints = region_.FingerprintSlots(slots);
  next_launch_ = MonotonicNow() + kLaunchApart;
  if (!fingerprints.ok()) spdlog::error("fingerprint {} slots: {}", slots.size(), fingerprints.status().ToString());
  for (size_t i = 0; i < batch.size(); ++i) {
    batch[i].then(fingerprints.ok() ? absl::StatusOr<uint64_t>((*fingerprints)[i]) : fingerprints.status());
  }
}

void Transfers::Answer(uint64_t transfer_id, TransferEnded ended) {
  const absl::Status posted = strand_.PostEssential([this, transfer_id, ended = std::move(ended)]() mutable {
    strand_.AssertHeld();
    running_.erase(transfer_id);
    deliver_(std::move(ended));
  });
  static_cast<void>(posted);  // refused only while the agent ends
}

void Transfers::Cancel(const CancelTransfer& effect) {
  strand_.AssertHeld();
  for (const auto& [id, transfer] : running_) {
    if (transfer.move_id == effect.move_id && transfer.attempt == effect.attempt) return transfer.transport->Cancel(id);
  }
}

void Transfers::Fingerprint(const FingerprintSlot& effect) {
  strand_.AssertHeld();
  Await(effect.layer, effect.slot, [this, effect](absl::StatusOr<uint64_t> fingerprint) {
    SlotFingerprinted answer;
    answer.layer = effect.layer;
    answer.slot = effect.slot;
    answer.generation = effect.generation;
    answer.fingerprint = fingerprint.value_or(0);  // content that cannot be read is not to be served
    const absl::Status answered = strand_.PostEssential([this, answer] { deliver_(answer); });
    static_cast<void>(answered);  // refused only while the agent ends
  });
}

void Transfers::Forget(const Member& member) {
  strand_.AssertHeld();
  for (const auto& transport : transports_) transport->Forget(member);
}

absl::Time Transfers::OldestDeadline() const {
  strand_.AssertHeld();
  absl::Time oldest = absl::InfiniteFuture();
  for (const auto& [id, transfer] : running_) oldest = std::min(oldest, transfer.deadline);
  return oldest;
}

}  // namespace evenkeel::agent
