// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/store_transport.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "runtime/clock.h"

namespace evenkeel::agent {

namespace {

using runtime::MonotonicNow;

// Cancelling and deadlines are looked at once per piece.
constexpr uint64_t kPiece = 1024 * 1024;

std::string Name(const TransferRequest& request) {
  return absl::StrCat("read layer ", request.layer.value(), " expert ", request.expert.value(), " from ",
                      request.source.endpoint.transport);
}

}  // namespace

StoreTransport::StoreTransport(Options options) : options_(std::move(options)), thread_([this] { Run(); }) {
  pthread_setname_np(thread_.native_handle(), absl::StrCat(options_.name, "-reads").substr(0, 15).c_str());
}

StoreTransport::~StoreTransport() { Close(); }

int StoreTransport::CostFrom(const Endpoint& source) const {
  return source.transport == options_.name && source.host == options_.host ? options_.cost : -1;
}

absl::Status StoreTransport::Start(TransferRequest request, TransferDone done) {
  if (CostFrom(request.source.endpoint) < 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(Name(request), " of host ", request.source.endpoint.host, ": it is not of this host"));
  }
  absl::MutexLock lock(&mutex_);
  if (closed_) return absl::UnavailableError(absl::StrCat(Name(request), ": transport is closed"));
  Copy copy;
  copy.request = std::move(request);
  copy.done = std::move(done);
  inbox_.started.push_back(std::move(copy));
  return absl::OkStatus();
}

void StoreTransport::Cancel(uint64_t transfer_id) {
  absl::MutexLock lock(&mutex_);
  inbox_.cancelled.push_back(transfer_id);
}

void StoreTransport::Close() {
  {
    absl::MutexLock lock(&mutex_);
    if (closed_) return;
    closed_ = true;
    inbox_.closing = true;
  }
  thread_.join();
}

bool StoreTransport::HasNews() const { return inbox_.closing || !inbox_.started.empty() || !inbox_.cancelled.empty(); }

StoreTransport::Inbox StoreTransport::Take(absl::Time until) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(this, &StoreTransport::HasNews), until - MonotonicNow());
  return std::exchange(inbox_, Inbox());
}

void StoreTransport::Run() {
  bool any_moved = false;
  while (true) {
    Inbox news = Take(NextLook(MonotonicNow(), any_moved));
    for (Copy& copy : news.started) copies_.push_back(std::move(copy));
    if (news.closing) break;
    any_moved = false;
    const absl::Time now = MonotonicNow();
    for (size_t i = 0; i < copies_.size();) {
      const uint64_t before = copies_[i].copied, id = copies_[i].request.transfer_id;
      absl::Status ended = absl::AbortedError("cancelled");
      const bool cancelled = std::count(news.cancelled.begin(), news.cancelled.end(), id) > 0;
      const bool has_ended = cancelled || Advance(copies_[i], now, ended);
      any_moved = any_moved || has_ended || copies_[i].copied > before;
      if (!has_ended) {
        ++i;
        continue;
      }
      Copy copy = std::move(copies_[i]);
      copies_.erase(copies_.begin() + static_cast<ptrdiff_t>(i));
      End(copy, std::move(ended));
    }
  }
  for (Copy& copy : std::exchange(copies_, {})) End(copy, absl::AbortedError("transport is closed"));
}

// When there is something to do that nobody will tell.
absl::Time StoreTransport::NextLook(absl::Time now, bool any_moved) const {
  if (copies_.empty()) return absl::InfiniteFuture();
  if (any_moved) return now;
  absl::Time next = options_.throttle->NextBegin();
  for (const Copy& copy : copies_) next = std::min(next, copy.request.deadline);
  return next;
}

bool StoreTransport::Advance(Copy& copy, absl::Time now, absl::Status& ended) {
  const TransferRequest& request = copy.request;
  if (now >= request.deadline) {
    ended = absl::DeadlineExceededError(absl::StrCat(Name(request), ": ", copy.copied, " bytes came in time"));
    return true;
  }
  ended = absl::OkStatus();
  if (copy.reader == nullptr) {
    auto opened = options_.open(request);
    if (!opened.ok()) {
      ended = opened.status();
      return true;
    }
    copy.reader = *std::move(opened);
  }
  while (copy.range < request.destination.size() && copy.offset == request.destination[copy.range].size()) {
    ++copy.range;
    copy.offset = 0;
  }
  if (copy.range == request.destination.size()) {
    ended = copy.reader->Finish();
    return true;
  }
  const std::span<std::byte> left = request.destination[copy.range].subspan(copy.offset);
  const uint64_t piece = request.bytes_per_second_max == 0 ? kPiece : Throttle::kThrottledPiece;
  const std::span<std::byte> to = left.first(static_cast<size_t>(std::min<uint64_t>(piece, left.size())));
  if (!options_.throttle->TryBegin(now, to.size(), request.bytes_per_second_max)) return false;
  ended = copy.reader->Read(copy.range, copy.offset, to);
  if (!ended.ok()) return true;
  copy.offset += to.size();
  copy.copied += to.size();
  return false;
}

void StoreTransport::End(Copy& copy, absl::Status status) {
  copy.reader.reset();
  copy.done({copy.request.transfer_id, std::move(status), copy.copied});
}

}  // namespace evenkeel::agent
