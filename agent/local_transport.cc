// SPDX-License-Identifier: Apache-2.0
#include "agent/local_transport.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "runtime/clock.h"

namespace evenkeel::agent {

namespace {

using runtime::MonotonicNow;

// Cancelling and deadlines are looked at once per piece.
constexpr uint64_t kPiece = 1024 * 1024;
// On a GPU, where a copy's begin costs more than a megabyte; with a limit on the rate, and what is enqueued at once:
// 3 ms between GPUs, in which nothing is cancelled.
constexpr uint64_t kDevicePiece = 1024 * 1024 * 1024;
constexpr uint64_t kThrottledDevicePiece = 1024 * 1024;
constexpr uint64_t kEnqueuedMax = 1024 * 1024 * 1024;

std::string Name(const TransferRequest& request) {
  return absl::StrCat("copy layer ", request.layer.value(), " local slot ", request.source_local_slot, " of rank ",
                      request.source.member.rank.value());
}

}  // namespace

std::string HostIdentity() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot;
  file >> boot;
  char host[256] = "";
  if (::gethostname(host, sizeof(host) - 1) != 0) host[0] = '\0';
  struct stat shm = {};
  const uint64_t device = ::stat("/dev/shm", &shm) == 0 ? static_cast<uint64_t>(shm.st_dev) : 0;
  return absl::StrCat(host, "/", boot, "/", device);
}

LocalTransport::LocalTransport(Options options) : options_(std::move(options)), thread_([this] { Run(); }) {
  pthread_setname_np(thread_.native_handle(), "local-copies");
}

LocalTransport::~LocalTransport() { Close(); }

Endpoint LocalTransport::endpoint() const { return {std::string(name()), options_.host, options_.region_path}; }

int LocalTransport::CostFrom(const Endpoint& source) const {
  return source.transport == name() && source.host == options_.host ? 0 : -1;
}

absl::Status LocalTransport::Start(TransferRequest request, TransferDone done) {
  if (CostFrom(request.source.endpoint) < 0) {
    return absl::FailedPreconditionError(absl::StrCat(Name(request), ": its ", request.source.endpoint.transport,
                                                      " endpoint on ", request.source.endpoint.host,
                                                      " cannot be mapped here"));
  }
  absl::MutexLock lock(&mutex_);
  if (closed_) return absl::UnavailableError(absl::StrCat(Name(request), ": transport is closed"));
  Copy copy;
  copy.request = std::move(request);
  copy.done = std::move(done);
  inbox_.started.push_back(std::move(copy));
  return absl::OkStatus();
}

void LocalTransport::Cancel(uint64_t transfer_id) {
  absl::MutexLock lock(&mutex_);
  inbox_.cancelled.push_back(transfer_id);
}

void LocalTransport::Forget(const Member& source) {
  absl::MutexLock lock(&mutex_);
  inbox_.forgotten.push_back(source);
}

void LocalTransport::Close() {
  {
    absl::MutexLock lock(&mutex_);
    if (closed_) return;
    closed_ = true;
    inbox_.closing = true;
  }
  thread_.join();
}

bool LocalTransport::HasNews() const {
  return inbox_.closing || !inbox_.started.empty() || !inbox_.cancelled.empty() || !inbox_.forgotten.empty();
}

LocalTransport::Inbox LocalTransport::Take(absl::Time until) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(this, &LocalTransport::HasNews), until - MonotonicNow());
  Inbox taken = std::move(inbox_);
  inbox_ = Inbox();
  return taken;
}

void LocalTransport::Run() {
  bool any_moved = false;
  while (true) {
    Inbox news = Take(NextLook(MonotonicNow(), any_moved));
    for (Copy& copy : news.started) copies_.push_back(std::move(copy));
    for (const Member& member : news.forgotten) {
      ForgetSource(member, absl::UnavailableError(absl::StrCat("rank ", member.rank.value(), " has ended")));
    }
    if (news.closing) break;
    EndAll(absl::AbortedError("cancelled"), news.cancelled);
    const absl::Time now = MonotonicNow();
    any_moved = AdvanceAll(now);
    CloseUnused(now);
  }
  for (Copy& copy : std::exchange(copies_, {})) End(copy, absl::AbortedError("transport is closed"));
  sources_.clear();
}

// When there is something to do that nobody will tell.
absl::Time LocalTransport::NextLook(absl::Time now, bool any_moved) const {
  if (any_moved && !copies_.empty()) return now;
  absl::Time next = sources_.empty() ? absl::InfiniteFuture() : now + kLookAround;
  for (const Copy& copy : copies_) {
    next = std::min({next, copy.request.deadline, options_.throttle->NextBegin()});
  }
  return next;
}

void LocalTransport::EndAll(const absl::Status& status, const std::vector<uint64_t>& ids) {
  for (size_t i = 0; i < copies_.size();) {
    if (std::find(ids.begin(), ids.end(), copies_[i].request.transfer_id) == ids.end()) {
      ++i;
      continue;
    }
    Copy copy = std::move(copies_[i]);
    copies_.erase(copies_.begin() + static_cast<ptrdiff_t>(i));
    End(copy, status);
  }
}

void LocalTransport::ForgetSource(const Member& member, const absl::Status& status) {
  std::vector<uint64_t> ids;
  for (const Copy& copy : copies_) {
    if (copy.request.source.member == member) ids.push_back(copy.request.transfer_id);
  }
  EndAll(status, ids);
  sources_.erase(member);
}

bool LocalTransport::AdvanceAll(absl::Time now) {
  bool any_moved = false;
  enqueued_ = 0;
  for (Copy& copy : copies_) {
    const uint64_t before = copy.copied;
    copy.enqueued = 0;
    copy.trouble = Advance(copy, now);
    any_moved = any_moved || copy.copied > before;
  }
  if (enqueued_ > 0) AwaitDevice();
  for (size_t i = 0; i < copies_.size();) {
    absl::Status ended;
    if (!HasEnded(copies_[i], ended)) {
      ++i;
      continue;
    }
    any_moved = true;
    Copy copy = std::move(copies_[i]);
    copies_.erase(copies_.begin() + static_cast<ptrdiff_t>(i));
    End(copy, std::move(ended));
  }
  return any_moved;
}

absl::Status LocalTransport::Advance(Copy& copy, absl::Time now) {
  const TransferRequest& request = copy.request;
  if (now >= request.deadline) {
    return absl::DeadlineExceededError(absl::StrCat(Name(request), ": ", copy.copied, " bytes came in time"));
  }
  if (copy.source == nullptr) EVENKEEL_RETURN_IF_ERROR(Begin(copy, now));
  CopySome(copy, now);
  return absl::OkStatus();
}

// Also where enqueueing failed: what was enqueued before writes into the destination.
void LocalTransport::AwaitDevice() {
  const kernels::CudaFailure waited = options_.device->Wait();
  if (waited.ok()) return;
  for (Copy& copy : copies_) {
    if (copy.enqueued == 0 || !copy.trouble.ok()) continue;
    copy.trouble = absl::UnavailableError(absl::StrCat(Name(copy.request), ": ", waited.text));
  }
}

bool LocalTransport::HasEnded(const Copy& copy, absl::Status& ended) const {
  if (!copy.trouble.ok()) {
    ended = copy.trouble;
  } else if (copy.range == copy.from.size()) {
    ended = CheckWhole(copy);
  } else if (copy.source->IsSuspended()) {
    ended = absl::UnavailableError(absl::StrCat(Name(copy.request), ": its engine is suspended"));
  } else if (!copy.source->EngineAlive()) {
    ended = absl::UnavailableError(absl::StrCat(Name(copy.request), ": its engine has ended"));
  } else {
    return false;
  }
  return true;
}

void LocalTransport::CopySome(Copy& copy, absl::Time now) {
  const TransferRequest& request = copy.request;
  kernels::CudaDevice* const device = options_.device.get();
  const bool throttled = request.bytes_per_second_max != 0;
  const uint64_t piece = device == nullptr ? (throttled ? Throttle::kThrottledPiece : kPiece)
                                           : (throttled ? kThrottledDevicePiece : kDevicePiece);
  const uint64_t before = copy.copied;
  while (copy.range < copy.from.size()) {
    if (device == nullptr ? copy.copied > before : enqueued_ >= kEnqueuedMax) break;
    const std::span<const std::byte> from = copy.from[copy.range].subspan(copy.offset);
    const size_t bytes = static_cast<size_t>(std::min<uint64_t>(piece, from.size()));
    if (bytes > 0 && !options_.throttle->TryBegin(now, bytes, request.bytes_per_second_max)) break;
    std::byte* to = request.destination[copy.range].data() + copy.offset;
    if (device != nullptr) {
      if (bytes > 0) device->Copy(to, from.data(), bytes);
      copy.enqueued += bytes;
      enqueued_ += bytes;
    } else if (bytes > 0) {
      std::memcpy(to, from.data(), bytes);
    }
    copy.offset += bytes;
    copy.copied += bytes;
    if (copy.offset < copy.from[copy.range].size()) continue;
    ++copy.range;
    copy.offset = 0;
  }
  if (copy.copied > before) sources_[request.source.member].last_used = now;
}

absl::Status LocalTransport::Begin(Copy& copy, absl::Time now) {
  const TransferRequest& request = copy.request;
  const Member member = request.source.member;
  auto source = sources_.find(member);
  if (source == sources_.end()) {
    absl::StatusOr<std::unique_ptr<engine::PeerRegion>> opened =
        engine::PeerRegion::Open(request.source.endpoint.address, member, options_.device.get());
    if (absl::IsNotFound(opened.status())) return absl::UnavailableError(opened.status().message());
    if (!opened.ok()) return opened.status();
    source = sources_.emplace(member, Source{*std::move(opened), now}).first;
  }
  engine::PeerRegion& region = *source->second.region;
  if (!region.EngineAlive()) return absl::UnavailableError(absl::StrCat(Name(request), ": its engine has ended"));
  if (region.IsSuspended()) return absl::UnavailableError(absl::StrCat(Name(request), ": its engine is suspended"));
  const GroupInfo& group = region.group();
  if (request.layer.value() < 0 || request.layer.value() >= group.num_layers || request.source_local_slot < 0 ||
      request.source_local_slot >= group.shape.slots_per_rank) {
    return absl::FailedPreconditionError(absl::StrCat(Name(request), ": it has ", group.num_layers, " layers of ",
                                                      group.shape.slots_per_rank, " slots"));
  }
  const SlotRecord record = region.ReadSlot(request.layer, request.source_local_slot);
  if (record.state != SlotState::kVerified || record.generation != request.source.generation) {
    return absl::FailedPreconditionError(absl::StrCat(Name(request), ": the slot is at generation ", record.generation,
                                                      ", wanted ", request.source.generation));
  }
  copy.from = region.SlotBytes(request.layer, request.source_local_slot);
  const auto same_size = [](const auto& a, const auto& b) { return a.size() == b.size(); };
  if (!std::equal(copy.from.begin(), copy.from.end(), request.destination.begin(), request.destination.end(),
                  same_size)) {
    return absl::FailedPreconditionError(absl::StrCat(Name(request), ": its tensors are of other sizes"));
  }
  copy.source = &region;
  return absl::OkStatus();
}

absl::Status LocalTransport::CheckWhole(const Copy& copy) const {
  const SlotRecord record = copy.source->ReadSlot(copy.request.layer, copy.request.source_local_slot);
  if (record.state == SlotState::kVerified && record.generation == copy.request.source.generation) {
    return absl::OkStatus();
  }
  return absl::AbortedError(absl::StrCat(Name(copy.request), ": the slot was given other content meanwhile"));
}

void LocalTransport::CloseUnused(absl::Time now) {
  for (auto it = sources_.begin(); it != sources_.end();) {
    const bool used = std::any_of(copies_.begin(), copies_.end(),
                                  [&](const Copy& copy) { return copy.source == it->second.region.get(); });
    const bool kept = it->second.region->EngineAlive() && !it->second.region->IsSuspended();
    if (!used && (now - it->second.last_used >= kKeepOpen || !kept)) {
      it = sources_.erase(it);
      continue;
    }
    ++it;
  }
}

void LocalTransport::End(Copy& copy, absl::Status status) {
  copy.done({copy.request.transfer_id, std::move(status), copy.copied});
}

}  // namespace evenkeel::agent
