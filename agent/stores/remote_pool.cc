// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/remote_pool.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "agent/stores/pool_layout.h"
#include "agent/stores/pool_reader.h"
#include "agent/throttle.h"
#include "agent/weights_table.h"
#include "algos/base/status_macros.h"

namespace evenkeel::agent {

namespace {

constexpr uint64_t kRowBytesMax = 1 << 20;

std::string Name(const TransferRequest& request) {
  return absl::StrCat("read layer ", request.layer.value(), " expert ", request.expert.value(), " from the pool of ",
                      request.source.endpoint.host);
}

// Layer 0 is the directory, one row a slot; then come the frames, once for each set of tensor sizes.
WeightsTable TableOfPool(const PoolView& pool) {
  const PoolPlan& plan = pool.plan();
  const uint64_t row_bytes = plan.cells_per_row * sizeof(PoolCell);
  WeightsTable table;
  table.slots_per_rank = static_cast<int>(plan.num_frames);
  table.layers.push_back({{.offset = plan.directory_at, .stride = row_bytes, .bytes = row_bytes}});
  std::vector<std::vector<uint64_t>> seen;
  for (const std::vector<uint64_t>& sizes : pool.identity().tensor_bytes) {
    if (std::count(seen.begin(), seen.end(), sizes) > 0) continue;
    seen.push_back(sizes);
    const std::vector<uint64_t> offsets = TensorOffsets(sizes);
    std::vector<TensorPlace>& places = table.layers.emplace_back();
    for (size_t t = 0; t < sizes.size(); ++t) {
      places.push_back({.offset = plan.frames_at + offsets[t], .stride = plan.frame_bytes, .bytes = sizes[t]});
    }
  }
  return table;
}

bool SameSizes(const std::vector<TensorPlace>& places, const std::vector<std::span<std::byte>>& destination) {
  return std::equal(places.begin(), places.end(), destination.begin(), destination.end(),
                    [](const TensorPlace& place, std::span<std::byte> to) { return place.bytes == to.size(); });
}

}  // namespace

absl::StatusOr<std::unique_ptr<UcxTransport>> OfferPool(const PoolView& pool, const Member& member,
                                                        const std::string& host) {
  return UcxTransport::Create({.member = member,
                               .host = host,
                               .tls = "",
                               .table = TableOfPool(pool),
                               .memory = {pool.memory().payload(), pool.plan().total_bytes},
                               .throttle = std::make_shared<Throttle>()});
}

int RemotePool::CostFrom(const Endpoint& source) const {
  const bool can = source.transport == "pool" && source.host != options_.host && !absl::EndsWith(source.address, "|");
  return can ? kCost : -1;
}

absl::StatusOr<std::shared_ptr<RemotePool::Read>> RemotePool::Prepare(TransferRequest request,
                                                                      TransferDone done) const {
  const auto refused = [&request](absl::string_view why) {
    return absl::FailedPreconditionError(absl::StrCat(Name(request), ": ", why));
  };
  if (CostFrom(request.source.endpoint) < 0) return refused("it cannot be read from here");
  EVENKEEL_ASSIGN_OR_RETURN(const PoolAddress address, ParsePoolAddress(request.source.endpoint.address));
  if (!absl::EndsWith(address.path, absl::StrCat(".", absl::Hex(DigestOf(options_.identity), absl::kZeroPad16)))) {
    return refused("it is of other weights");
  }
  EVENKEEL_ASSIGN_OR_RETURN(const UcxAddress ucx, DecodeUcxAddress(address.ucx));
  const WeightsTable& table = ucx.table;
  if (table.layers.size() < 2 || table.layers[0].size() != 1) return refused("it has no directory");
  const uint64_t row_bytes = table.layers[0][0].bytes;
  if (row_bytes == 0 || row_bytes > kRowBytesMax || row_bytes % sizeof(PoolCell) != 0) {
    return refused(absl::StrCat("rows of its directory have ", row_bytes, " bytes"));
  }
  const auto frames = std::find_if(table.layers.begin() + 1, table.layers.end(),
                                   [&](const auto& places) { return SameSizes(places, request.destination); });
  if (frames == table.layers.end()) return refused("its tensors are of other sizes");
  auto read = std::make_shared<Read>();
  read->member = ucx.member;
  read->source = {"ucx", request.source.endpoint.host, address.ucx};  // the pass goes along with the request
  read->num_frames = static_cast<uint64_t>(table.slots_per_rank);
  read->frames_row = LayerId(static_cast<int32_t>(frames - table.layers.begin()));
  read->cells.resize(row_bytes);
  read->request = std::move(request);
  read->done = std::move(done);
  return read;
}

absl::Status RemotePool::Start(TransferRequest request, TransferDone done) {
  EVENKEEL_ASSIGN_OR_RETURN(const std::shared_ptr<Read> read, Prepare(std::move(request), std::move(done)));
  const TransferRequest& wanted = read->request;
  if (!options_.identity.Has(wanted.layer, wanted.expert)) {
    return absl::NotFoundError(absl::StrCat(Name(wanted), ": there is none"));
  }
  const uint64_t entry =
      wanted.layer.idx() * static_cast<uint64_t>(options_.identity.num_experts) + wanted.expert.idx();
  const uint64_t cells_per_row = read->cells.size() / sizeof(PoolCell);
  if (entry / cells_per_row >= read->num_frames) {
    return absl::FailedPreconditionError(absl::StrCat(Name(wanted), ": its directory is too short"));
  }
  read->cell = entry % cells_per_row;
  {
    absl::MutexLock lock(&mutex_);
    if (closed_) return absl::UnavailableError(absl::StrCat(Name(wanted), ": transport is closed"));
    reads_[wanted.transfer_id] = read;
  }
  absl::Status started = AskForRow(read, static_cast<int>(entry / cells_per_row));
  if (!started.ok()) {
    absl::MutexLock lock(&mutex_);
    reads_.erase(wanted.transfer_id);
  }
  return started;
}

absl::Status RemotePool::AskForRow(const std::shared_ptr<Read>& read, int row) {
  TransferRequest request = read->request;
  request.layer = LayerId(0);
  request.source_local_slot = row;
  request.source.member = read->member;
  request.source.endpoint = read->source;
  request.destination = {std::span(read->cells)};
  return options_.ucx->Start(std::move(request), [this, read](TransferResult result) {
    if (!result.status.ok()) return End(read, std::move(result));
    AskForFrame(read);
  });
}

absl::StatusOr<uint64_t> RemotePool::FrameOf(const Read& read) const {
  static_assert(sizeof(PoolCell) == 4 * sizeof(uint64_t));
  uint64_t words[4];  // state, frame, fingerprint, generation
  std::memcpy(words, read.cells.data() + read.cell * sizeof(PoolCell), sizeof(words));
  if (words[0] != static_cast<uint64_t>(PoolState::kVerified) || words[2] != read.request.fingerprint) {
    return absl::NotFoundError(absl::StrCat(Name(read.request), ": it does not hold it with that fingerprint"));
  }
  if (words[1] >= read.num_frames) {
    return absl::NotFoundError(absl::StrCat(Name(read.request), ": its directory is damaged"));
  }
  return words[1];
}

void RemotePool::AskForFrame(const std::shared_ptr<Read>& read) {
  const uint64_t id = read->request.transfer_id;
  const absl::StatusOr<uint64_t> frame = FrameOf(*read);
  if (!frame.ok()) return End(read, {id, frame.status(), 0});
  TransferRequest request = read->request;
  request.layer = read->frames_row;
  request.source_local_slot = static_cast<int>(*frame);
  request.source.member = read->member;
  request.source.endpoint = read->source;
  const absl::Status started =
      options_.ucx->Start(std::move(request), [this, read](TransferResult result) { End(read, std::move(result)); });
  if (!started.ok()) return End(read, {id, started, 0});
  bool cancelled = false;
  {
    absl::MutexLock lock(&mutex_);
    cancelled = read->cancelled;
  }
  if (cancelled) options_.ucx->Cancel(id);  // it came before there was anything to cancel
}

void RemotePool::End(const std::shared_ptr<Read>& read, TransferResult result) {
  const TransferDone done = std::move(read->done);
  done(std::move(result));
  absl::MutexLock lock(&mutex_);
  reads_.erase(read->request.transfer_id);
}

void RemotePool::Cancel(uint64_t transfer_id) {
  {
    absl::MutexLock lock(&mutex_);
    const auto read = reads_.find(transfer_id);
    if (read == reads_.end()) return;
    read->second->cancelled = true;
  }
  options_.ucx->Cancel(transfer_id);
}

void RemotePool::Close() {
  std::vector<uint64_t> ids;
  {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
    for (const auto& [id, read] : reads_) ids.push_back(id);
  }
  for (const uint64_t id : ids) Cancel(id);
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(
      +[](RemotePool* self) ABSL_EXCLUSIVE_LOCKS_REQUIRED(self->mutex_) { return self->reads_.empty(); }, this));
}

}  // namespace evenkeel::agent
