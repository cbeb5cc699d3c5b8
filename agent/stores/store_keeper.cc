// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/store_keeper.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"

#include "agent/stores/pool_reader.h"
#include "agent/stores/remote_pool.h"
#include "runtime/clock.h"

namespace evenkeel::agent {

namespace {

using runtime::MonotonicNow;

// The controller takes no longer ones.
constexpr size_t kAddressBytesMax = 4096;

std::string FolderOf(const std::string& path) { return path.substr(0, path.rfind('/')); }

}  // namespace

StoreKeeper::StoreKeeper(Options options, const engine::AgentRegion& region, Offer offer)
    : host_(std::move(options.host)),
      offers_ucx_(options.offers_ucx),
      region_(region),
      offer_(std::move(offer)),
      pool_(std::move(options.pool)),
      thread_([this] { Run(); }) {
  pthread_setname_np(thread_.native_handle(), "stores");
}

StoreKeeper::~StoreKeeper() { Stop(); }

void StoreKeeper::Configure(const AgentSettings& settings) {
  absl::MutexLock lock(&mutex_);
  orders_.settings = settings;
  if (region_.on_device()) {
    // Neither store reads device memory.
    orders_.settings.pool_bytes = 0;
    orders_.settings.snapshot_directory.clear();
  }
  orders_.configured = true;
}

void StoreKeeper::SetMaps(std::shared_ptr<const Maps> maps) {
  absl::MutexLock lock(&mutex_);
  orders_.maps = std::move(maps);
}

void StoreKeeper::EndSoon(std::function<void()> ended) {
  absl::MutexLock lock(&mutex_);
  orders_.closing = true;
  orders_.ended = std::move(ended);
}

void StoreKeeper::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    orders_.closing = true;
  }
  if (thread_.joinable()) thread_.join();
}

// Until then, or until it is to end; whether it goes on.
bool StoreKeeper::Waits(absl::Time until) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&orders_.closing), until - MonotonicNow());
  return !orders_.closing;
}

bool StoreKeeper::Pace(uint64_t bytes, uint64_t bytes_per_second) {
  while (!throttle_.TryBegin(MonotonicNow(), bytes, bytes_per_second)) {
    if (!Waits(throttle_.NextBegin())) return false;
  }
  absl::MutexLock lock(&mutex_);
  return !orders_.closing;
}

void StoreKeeper::Run() {
  // Until it is told what to do it looks often, for a start is when stores are wanted soon.
  absl::Duration pause = kLook / 20;
  while (Waits(MonotonicNow() + pause)) {
    Orders orders;
    {
      absl::MutexLock lock(&mutex_);
      orders = orders_;
    }
    if (!orders.configured || orders.maps == nullptr) continue;
    if (owners_of_ != orders.maps) {
      owners_ = OwnersOf(*orders.maps, region_.group().shape);
      owners_of_ = orders.maps;
    }
    pause = LookAtPool(orders) ? absl::ZeroDuration() : kLook;
    LookAtSnapshot(orders, MonotonicNow());
  }
  pool_offer_.reset();
  std::function<void()> ended;
  {
    absl::MutexLock lock(&mutex_);
    ended = std::move(orders_.ended);
  }
  if (ended != nullptr) ended();
}

// ---- The pool

bool StoreKeeper::LookAtPool(const Orders& orders) {
  const bool wanted = orders.settings.pool_bytes > 0;
  if (pool_ != nullptr && (!wanted || !pool_->IsNamed() || pool_->view().identity() != IdentityOf(region_))) {
    LeavePool(true);
  }
  if (wanted && pool_ == nullptr) Tell("pool", EnterPool(orders), pool_told_);
  if (pool_ != nullptr && offers_ucx_ && !std::exchange(pool_offer_tried_, true)) {
    Tell("pool for other hosts", OfferByUcx(), offer_told_);
  }
  OfferStores();
  if (pool_ == nullptr) return false;
  const uint64_t rate = orders.settings.store_bytes_per_second;
  const auto pace = [&](uint64_t bytes) { return Pace(bytes, rate); };
  const PoolFill fill = FillPool(region_, *orders.maps, owners_, *pool_, pace, MonotonicNow() + kLook);
  if (absl::IsCancelled(fill.trouble)) return false;
  Tell("pool", fill.trouble, pool_told_);
  if (fill.num_filled > 0) {
    pool_was_complete_ = false;
    spdlog::debug("rank {} pool took {} experts, {} bytes", region_.member().rank.value(), fill.num_filled, fill.bytes);
    return !fill.complete;
  }
  if (fill.complete && fill.trouble.ok() && !std::exchange(pool_was_complete_, true)) {
    spdlog::info("rank {} pool {} holds all that this rank is to fill in", region_.member().rank.value(),
                 pool_->view().path());
  }
  if (!pool_->ScrubNext()) {
    spdlog::error("rank {} pool {} held an expert that no longer matched its fingerprint",
                  region_.member().rank.value(), pool_->view().path());
  }
  return false;
}

absl::Status StoreKeeper::EnterPool(const Orders& orders) {
  const HostPool::Options options = {.directory = FolderOf(region_.path()),
                                     .host = host_,
                                     .rank = region_.member().rank,
                                     .num_ranks = region_.group().shape.num_ranks,
                                     .bytes_max = orders.settings.pool_bytes};
  auto entered = HostPool::Enter(options, IdentityOf(region_));
  if (absl::IsUnavailable(entered.status())) return absl::OkStatus();  // others are at it
  if (!entered.ok()) return entered.status();
  pool_ = *std::move(entered);
  spdlog::info("rank {} uses pool {} of {} experts, {} bytes", region_.member().rank.value(), pool_->view().path(),
               pool_->view().plan().num_frames, pool_->view().plan().total_bytes);
  return absl::OkStatus();
}

absl::Status StoreKeeper::OfferByUcx() {
  auto offer = OfferPool(pool_->view(), region_.member(), host_);
  if (!offer.ok()) return offer.status();
  const PoolAddress address = {pool_->view().path(), (*offer)->endpoint().address};
  if (const size_t bytes = RenderPoolAddress(address).size(); bytes > kAddressBytesMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("its address has ", bytes, " bytes, the controller takes ", kAddressBytesMax));
  }
  pool_offer_ = *std::move(offer);
  return absl::OkStatus();
}

void StoreKeeper::LeavePool(bool remove) {
  pool_offer_.reset();
  if (pool_ != nullptr && remove) pool_->RemoveIfLast();
  pool_.reset();
  pool_offer_tried_ = pool_was_complete_ = false;
}

// ---- The snapshot

void StoreKeeper::LookAtSnapshot(const Orders& orders, absl::Time now) {
  const std::string& directory = orders.settings.snapshot_directory;
  if (directory != snapshot_directory_) {
    snapshot_directory_ = directory;
    snapshot_ = directory.empty() ? nullptr : std::make_unique<SnapshotKeeper>(region_, directory);
    next_snapshot_look_ = absl::InfinitePast();
    OfferStores();
  }
  if (snapshot_ == nullptr || (now < next_snapshot_look_ && snapshot_owners_ == owners_)) return;
  SnapshotKeeper::Work work;
  const auto pace = [&](uint64_t bytes) { return Pace(bytes, orders.settings.store_bytes_per_second); };
  const absl::Status status = snapshot_->Look(owners_, pace, work);
  if (absl::IsCancelled(status)) return;
  Tell("snapshot", status, snapshot_told_);
  if (work.num_files_written > 0) {
    spdlog::info("rank {} snapshot {}: {} files, {} bytes written, {} experts were there",
                 region_.member().rank.value(), snapshot_->folder().path(), work.num_files_written, work.bytes_written,
                 work.num_experts_found);
  }
  snapshot_owners_ = owners_;
  next_snapshot_look_ = MonotonicNow() + kSnapshotLook;
}

// ---- What is said

void StoreKeeper::OfferStores() {
  std::vector<Endpoint> stores;
  if (pool_ != nullptr) {
    const PoolAddress address = {pool_->view().path(), pool_offer_ == nullptr ? "" : pool_offer_->endpoint().address};
    stores.push_back(
        {"pool", host_, RenderPoolAddress(address), pool_offer_ == nullptr ? "" : pool_offer_->endpoint().secret});
  }
  if (snapshot_ != nullptr) stores.push_back({"snapshot", host_, snapshot_directory_});
  if (stores == offered_) return;
  offered_ = stores;
  offer_(std::move(stores));
}

void StoreKeeper::Tell(const char* store, const absl::Status& status, std::string& told) const {
  std::string now = status.ok() ? "" : status.ToString();
  if (now == told) return;
  if (status.ok()) {
    spdlog::info("rank {} {}: no trouble any more", region_.member().rank.value(), store);
  } else {
    spdlog::warn("rank {} {}: {}", region_.member().rank.value(), store, now);
  }
  told = std::move(now);
}

}  // namespace evenkeel::agent
