// SPDX-License-Identifier: Apache-2.0
#include "agent/faulty_transport.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

#include "runtime/clock.h"

namespace evenkeel::agent {

namespace {

// One bit of the middle byte of the largest range.
void Flip(const std::vector<std::span<std::byte>>& destination) {
  const auto largest = std::max_element(destination.begin(), destination.end(),
                                        [](const auto& a, const auto& b) { return a.size() < b.size(); });
  if (largest == destination.end() || largest->empty()) return;
  (*largest)[largest->size() / 2] ^= std::byte{0x10};
}

}  // namespace

absl::StatusOr<std::vector<Fault>> ParseFaults(const std::string& text) {
  std::vector<Fault> faults;
  if (text.empty()) return faults;
  for (absl::string_view one : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(one, ':');
    Fault fault;
    bool known = true;
    if (parts[0] == "flip") {
      fault.kind = Fault::Kind::kFlip;
    } else if (parts[0] == "fail") {
      fault.kind = Fault::Kind::kFail;
    } else if (parts[0] == "delay") {
      fault.kind = Fault::Kind::kDelay;
    } else {
      known = false;
    }
    int milliseconds = 0;
    const size_t num_parts = fault.kind == Fault::Kind::kDelay ? 3 : 2;
    if (!known || parts.size() != num_parts || !absl::SimpleAtoi(parts[1], &fault.transfer) || fault.transfer < 0 ||
        (num_parts == 3 && (!absl::SimpleAtoi(parts[2], &milliseconds) || milliseconds < 0))) {
      return absl::InvalidArgumentError(
          absl::StrCat("fault '", one, "': wanted flip:N, fail:N or delay:N:MILLISECONDS"));
    }
    fault.delay = absl::Milliseconds(milliseconds);
    faults.push_back(fault);
  }
  return faults;
}

FaultyTransport::FaultyTransport(std::unique_ptr<Transport> within, std::vector<Fault> faults)
    : within_(std::move(within)), faults_(std::move(faults)), late_strand_({.name = "late-transfers"}) {}

FaultyTransport::~FaultyTransport() { Close(); }

absl::Status FaultyTransport::Start(TransferRequest request, TransferDone done) {
  ++num_started_;
  bool flips = false, fails = false;
  absl::Duration delay;
  for (const Fault& fault : faults_) {
    if (fault.transfer != 0 && fault.transfer != num_started_) continue;
    flips = flips || fault.kind == Fault::Kind::kFlip;
    fails = fails || fault.kind == Fault::Kind::kFail;
    if (fault.kind == Fault::Kind::kDelay) delay = std::max(delay, fault.delay);
  }
  if (!flips && !fails && delay == absl::ZeroDuration()) return within_->Start(std::move(request), std::move(done));
  TransferDone spoil = [this, flips, fails, delay, destination = request.destination,
                        done = std::move(done)](TransferResult result) {
    if (flips && result.status.ok()) Flip(destination);
    if (fails && result.status.ok()) result.status = absl::UnavailableError("failed on order");
    if (delay == absl::ZeroDuration()) return done(std::move(result));
    const absl::Time due = runtime::MonotonicNow() + delay;
    const absl::Status posted = late_strand_.PostEssential([this, due, done, result = std::move(result)]() mutable {
      late_strand_.AssertHeld();
      const auto at = std::upper_bound(late_.begin(), late_.end(), due,
                                       [](absl::Time time, const Late& late) { return time < late.due; });
      late_.insert(at, {due, done, std::move(result)});
      late_strand_.SetTimer({.next_wakeup =
                                 [this] {
                                   late_strand_.AssertHeld();
                                   return late_.empty() ? absl::InfiniteFuture() : late_.front().due;
                                 },
                             .on_wakeup =
                                 [this] {
                                   late_strand_.AssertHeld();
                                   DeliverDue(/*all=*/false);
                                 }});
    });
    static_cast<void>(posted);  // the strand ends after the transport within, which has then completed everything
  };
  return within_->Start(std::move(request), std::move(spoil));
}

void FaultyTransport::DeliverDue(bool all) {
  const absl::Time now = runtime::MonotonicNow();
  while (!late_.empty() && (all || late_.front().due <= now)) {
    Late late = std::move(late_.front());
    late_.erase(late_.begin());
    late.done(std::move(late.result));
  }
}

void FaultyTransport::Close() {
  within_->Close();
  const absl::Status posted = late_strand_.PostEssential([this] {
    late_strand_.AssertHeld();
    DeliverDue(/*all=*/true);
  });
  static_cast<void>(posted);  // refused when closed already
  late_strand_.Stop();
}

}  // namespace evenkeel::agent
