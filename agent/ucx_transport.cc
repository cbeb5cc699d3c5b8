// SPDX-License-Identifier: Apache-2.0
#include "agent/ucx_transport.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "algos/base/check.h"
#include "algos/base/status_macros.h"
#include "runtime/clock.h"
#include "runtime/token.h"

namespace evenkeel::agent {

namespace {

using runtime::MonotonicNow;

constexpr uint64_t kPiece = 512 * 1024;
constexpr int kPiecesInFlightMax = 4;
// UCX's keepalive needs a look now and then, as do reads whose end some UCX transports do not signal.
constexpr absl::Duration kLookWhileReading = absl::Milliseconds(20);
constexpr absl::Duration kLookWhileConnected = absl::Milliseconds(500);

std::string Name(const TransferRequest& request) {
  return absl::StrCat("read layer ", request.layer.value(), " local slot ", request.source_local_slot, " of rank ",
                      request.source.member.rank.value());
}

Endpoint MakeEndpoint(const UcxTransport::Options& options, const std::string& secret, const UcxWorker& worker) {
  UcxAddress address;
  address.member = options.member;
  address.ucx_version = UcxWorker::UcxVersion();
  address.worker = worker.address();
  address.memory_bytes = options.memory.size();
  address.table = options.table;
  return {"ucx", options.host, EncodeUcxAddress(address), secret};
}

absl::Status Check(const TransferRequest& request, const UcxAddress& address) {
  const Member member = request.source.member;
  if (address.member != member) {
    return absl::FailedPreconditionError(
        absl::StrCat(Name(request), ": its address is of rank ", address.member.rank.value(), " incarnation ",
                     absl::Hex(address.member.incarnation), ", wanted incarnation ", absl::Hex(member.incarnation)));
  }
  if (address.ucx_version != UcxWorker::UcxVersion()) {
    return absl::FailedPreconditionError(
        absl::StrCat(Name(request), ": it uses UCX ", address.ucx_version >> 16, ".", address.ucx_version & 0xFFFF));
  }
  const WeightsTable& table = address.table;
  if (request.layer.value() < 0 || request.layer.idx() >= table.layers.size() || request.source_local_slot < 0 ||
      request.source_local_slot >= table.slots_per_rank) {
    return absl::FailedPreconditionError(
        absl::StrCat(Name(request), ": it has ", table.layers.size(), " layers of ", table.slots_per_rank, " slots"));
  }
  const std::vector<TensorPlace>& places = table.layers[request.layer.idx()];
  const auto fits = [](const TensorPlace& place, std::span<std::byte> to) { return place.bytes == to.size(); };
  if (!std::equal(places.begin(), places.end(), request.destination.begin(), request.destination.end(), fits)) {
    return absl::FailedPreconditionError(absl::StrCat(Name(request), ": its tensors are of other sizes"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<UcxTransport>> UcxTransport::Create(Options options) {
  std::string secret = runtime::RandomBytes(runtime::kOfferSecretBytes);
  EVENKEEL_ASSIGN_OR_RETURN(std::unique_ptr<UcxWorker> worker,
                            UcxWorker::Create({.memory = options.memory, .tls = options.tls, .secret = secret}));
  return std::unique_ptr<UcxTransport>(new UcxTransport(std::move(options), std::move(secret), std::move(worker)));
}

UcxTransport::UcxTransport(Options options, std::string secret, std::unique_ptr<UcxWorker> worker)
    : options_(std::move(options)),
      secret_(std::move(secret)),
      endpoint_(MakeEndpoint(options_, secret_, *worker)),
      worker_(std::move(worker)),
      thread_([this] { Run(); }) {
  pthread_setname_np(thread_.native_handle(), "ucx-reads");
}

UcxTransport::~UcxTransport() { Close(); }

Endpoint UcxTransport::endpoint() const { return endpoint_; }

int UcxTransport::CostFrom(const Endpoint& source) const {
  if (source.transport != "ucx") return -1;
  return source.host == options_.host ? 10 : 20;
}

absl::Status UcxTransport::Start(TransferRequest request, TransferDone done) {
  if (CostFrom(request.source.endpoint) < 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(Name(request), ": cannot be done by ", request.source.endpoint.transport));
  }
  Transfer transfer;
  EVENKEEL_ASSIGN_OR_RETURN(transfer.address, DecodeUcxAddress(request.source.endpoint.address));
  EVENKEEL_RETURN_IF_ERROR(Check(request, transfer.address));
  transfer.pass = runtime::ParsePass(request.source.pass);
  if (transfer.pass.secret.empty()) {
    return absl::PermissionDeniedError(absl::StrCat(Name(request), ": the controller gave no pass for it"));
  }
  transfer.request = std::move(request);
  transfer.done = std::move(done);
  {
    absl::MutexLock lock(&mutex_);
    if (closed_) return absl::UnavailableError(absl::StrCat(Name(transfer.request), ": transport is closed"));
    inbox_.started.push_back(std::move(transfer));
  }
  worker_->Signal();
  return absl::OkStatus();
}

void UcxTransport::Cancel(uint64_t transfer_id) {
  {
    absl::MutexLock lock(&mutex_);
    if (closed_) return;
    inbox_.cancelled.push_back(transfer_id);
  }
  worker_->Signal();
}

void UcxTransport::Forget(const Member& source) {
  {
    absl::MutexLock lock(&mutex_);
    if (closed_) return;
    inbox_.forgotten.push_back(source);
  }
  worker_->Signal();
}

void UcxTransport::Close() {
  {
    absl::MutexLock lock(&mutex_);
    if (closed_) return;
    closed_ = true;
    inbox_.closing = true;
  }
  worker_->Signal();
  thread_.join();
}

UcxTransport::Inbox UcxTransport::Take() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(inbox_, Inbox());
}

void UcxTransport::Run() {
  while (true) {
    Inbox news = Take();
    absl::Time now = MonotonicNow();
    for (Transfer& transfer : news.started) transfers_.push_back(std::move(transfer));
    for (Transfer& transfer : transfers_) {
      const Member& member = transfer.request.source.member;
      if (std::count(news.cancelled.begin(), news.cancelled.end(), transfer.request.transfer_id) > 0) {
        GiveUp(transfer, absl::AbortedError("cancelled"), now);
      } else if (std::count(news.forgotten.begin(), news.forgotten.end(), member) > 0) {
        GiveUp(transfer, absl::UnavailableError(absl::StrCat("rank ", member.rank.value(), " has ended")), now);
      }
    }
    for (Source& source : sources_) {
      if (std::count(news.forgotten.begin(), news.forgotten.end(), source.member) > 0) CutSource(&source);
    }
    if (news.closing) return EndAll();
    const bool progressed = worker_->Progress();
    now = MonotonicNow();
    bool ended = false;
    for (auto it = transfers_.begin(); it != transfers_.end();) {
      if (!Advance(*it, now)) {
        ++it;
        continue;
      }
      ended = true;
      End(*it);
      it = transfers_.erase(it);
    }
    CloseUnused(now);
    if (!progressed && !ended) worker_->Sleep(UntilNextLook(now));
  }
}

// One look at a transfer; true when it has ended: `why` is its status and no piece is in flight.
bool UcxTransport::Advance(Transfer& transfer, absl::Time now) {
  if (transfer.why.ok() && now >= transfer.request.deadline) {
    GiveUp(transfer,
           absl::DeadlineExceededError(
               absl::StrCat(Name(transfer.request), ": ", transfer.arrived, " bytes came in time")),
           now);
  }
  if (transfer.why.ok() && transfer.source == nullptr) {
    if (absl::Status status = FindSource(transfer, now); !status.ok()) GiveUp(transfer, std::move(status), now);
  }
  if (transfer.why.ok() && (transfer.source->peer == nullptr || transfer.source->peer->failure != UCS_OK)) {
    const ucs_status_t failure = transfer.source->peer == nullptr ? UCS_ERR_CANCELED : transfer.source->peer->failure;
    GiveUp(transfer, absl::UnavailableError(absl::StrCat(Name(transfer.request), ": ", ucs_status_string(failure))),
           now);
  }
  if (transfer.why.ok() && transfer.source->peer->refused) {
    GiveUp(transfer,
           absl::PermissionDeniedError(
               absl::StrCat(Name(transfer.request), ": it refuses the pass for rollout ", transfer.pass.rollout)),
           now);
  }
  bool waits = transfer.why.ok() && !transfer.source->peer->granted;
  if (waits && now - transfer.last_news >= kNoAnswer) {
    GiveUp(transfer, absl::UnavailableError(absl::StrCat(Name(transfer.request), ": no answer to the greeting")), now);
    CutSource(transfer.source);
  }
  while (transfer.why.ok() && !waits && transfer.in_flight < kPiecesInFlightMax && !AllAsked(transfer)) {
    if (absl::Status status = AskForPiece(transfer, now, waits); !status.ok()) GiveUp(transfer, std::move(status), now);
  }
  if (transfer.why.ok() && transfer.in_flight > 0 && now - transfer.last_news >= kNoAnswer) {
    GiveUp(transfer, absl::UnavailableError(absl::StrCat(Name(transfer.request), ": no answer")), now);
    CutSource(transfer.source);
  }
  if (!transfer.why.ok() && transfer.in_flight > 0 && now - transfer.given_up >= kDrain) CutSource(transfer.source);
  if (transfer.in_flight > 0) return false;
  if (!transfer.why.ok() || AllAsked(transfer)) {
    if (transfer.source != nullptr) --transfer.source->num_transfers;
    return true;
  }
  return false;
}

absl::Status UcxTransport::FindSource(Transfer& transfer, absl::Time now) {
  const MoveSource& wanted = transfer.request.source;
  auto it = std::find_if(sources_.begin(), sources_.end(), [&](const Source& source) {
    return source.member == wanted.member && source.text == wanted.endpoint.address && source.pass == wanted.pass &&
           source.peer != nullptr && source.peer->failure == UCS_OK && !source.peer->refused;
  });
  if (it == sources_.end()) {
    EVENKEEL_ASSIGN_OR_RETURN(UcxWorker::Peer * peer,
                              worker_->Connect(transfer.address.worker, transfer.pass, options_.member));
    it = sources_.insert(sources_.end(), {wanted.member, wanted.endpoint.address, wanted.pass, peer, now, 0});
  }
  it->last_used = transfer.last_news = now;
  ++it->num_transfers;
  transfer.source = &*it;
  return absl::OkStatus();
}

bool UcxTransport::AllAsked(Transfer& transfer) const {
  const auto& ranges = transfer.request.destination;
  while (transfer.range < ranges.size() && transfer.offset == ranges[transfer.range].size()) {
    ++transfer.range;
    transfer.offset = 0;
  }
  return transfer.range == ranges.size();
}

absl::Status UcxTransport::AskForPiece(Transfer& transfer, absl::Time now, bool& waits) {
  const TransferRequest& request = transfer.request;
  const std::span<std::byte> left = request.destination[transfer.range].subspan(transfer.offset);
  const uint64_t most = request.bytes_per_second_max == 0 ? kPiece : Throttle::kThrottledPiece;
  const std::span<std::byte> to = left.first(static_cast<size_t>(std::min<uint64_t>(most, left.size())));
  if (!options_.throttle->TryBegin(now, to.size(), request.bytes_per_second_max)) {
    waits = true;
    return absl::OkStatus();
  }
  const TensorPlace& place = transfer.address.table.layers[request.layer.idx()][transfer.range];
  const uint64_t from =
      place.offset + static_cast<uint64_t>(request.source_local_slot) * place.stride + transfer.offset;
  Transfer* self = &transfer;  // a list's element: it stays where it is until no piece is in flight
  const auto done = [this, self, bytes = to.size()](ucs_status_t status) {
    --self->in_flight;
    self->last_news = MonotonicNow();
    if (status == UCS_OK) {
      self->arrived += bytes;
    } else {
      GiveUp(*self, absl::UnavailableError(absl::StrCat(Name(self->request), ": ", ucs_status_string(status))),
             MonotonicNow());
    }
  };
  EVENKEEL_ASSIGN_OR_RETURN(const UcxWorker::ReadState state, worker_->Read(*transfer.source->peer, from, to, done));
  transfer.offset += to.size();
  transfer.source->last_used = transfer.last_news = now;
  if (state == UcxWorker::ReadState::kDone) {
    transfer.arrived += to.size();
  } else {
    ++transfer.in_flight;
  }
  return absl::OkStatus();
}

// The first reason holds.
void UcxTransport::GiveUp(Transfer& transfer, absl::Status why, absl::Time now) {
  if (!transfer.why.ok()) return;
  transfer.why = std::move(why);
  transfer.given_up = now;
}

void UcxTransport::CutSource(Source* source) {
  if (source->peer == nullptr) return;
  worker_->Disconnect(source->peer);
  source->peer = nullptr;
}

void UcxTransport::CloseUnused(absl::Time now) {
  for (auto it = sources_.begin(); it != sources_.end();) {
    const bool failed = it->peer == nullptr || it->peer->failure != UCS_OK;
    // What a failed connection still has in flight ends with it.
    if (failed) CutSource(&*it);
    if (it->num_transfers > 0 || (!failed && now - it->last_used < kKeepOpen)) {
      ++it;
      continue;
    }
    CutSource(&*it);
    it = sources_.erase(it);
  }
}

absl::Duration UcxTransport::UntilNextLook(absl::Time now) const {
  absl::Duration next = sources_.empty() ? absl::InfiniteDuration() : kLookWhileConnected;
  for (const Transfer& transfer : transfers_) {
    next = std::min({next, kLookWhileReading, transfer.request.deadline - now});
    if (transfer.why.ok() && transfer.in_flight < kPiecesInFlightMax && transfer.request.bytes_per_second_max > 0) {
      next = std::min(next, options_.throttle->NextBegin() - now);
    }
  }
  return next;
}

// All pieces end: connections are cut after kDrain.
void UcxTransport::EndAll() {
  for (Transfer& transfer : transfers_) GiveUp(transfer, absl::AbortedError("transport is closed"), MonotonicNow());
  while (!transfers_.empty()) {
    worker_->Progress();
    const absl::Time now = MonotonicNow();
    for (auto it = transfers_.begin(); it != transfers_.end();) {
      if (!Advance(*it, now)) {
        ++it;
        continue;
      }
      End(*it);
      it = transfers_.erase(it);
    }
    if (!transfers_.empty()) worker_->Sleep(absl::Milliseconds(1));
  }
  for (Source& source : sources_) CutSource(&source);
  sources_.clear();
}

void UcxTransport::End(Transfer& transfer) {
  transfer.done({transfer.request.transfer_id, std::move(transfer.why), transfer.arrived});
}

}  // namespace evenkeel::agent
