// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/pool_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "agent/stores/pool_view.h"
#include "algos/base/status_macros.h"

namespace evenkeel::agent {

namespace {

class PoolReader : public StoreReader {
 public:
  PoolReader(std::unique_ptr<PoolView> pool, PoolView::Found found)
      : pool_(std::move(pool)), found_(found), tensors_(pool_->TensorsIn(found.frame, pool_->LayerOf(found.entry))) {}

  absl::Status Read(size_t tensor, uint64_t offset, std::span<std::byte> to) override {
    std::memcpy(to.data(), tensors_[tensor].data() + offset, to.size());
    return absl::OkStatus();
  }

  absl::Status Finish() override {
    if (pool_->StillThere(found_)) return absl::OkStatus();
    return absl::AbortedError(absl::StrCat("read from pool ", pool_->path(), ": other content came meanwhile"));
  }

 private:
  const std::unique_ptr<PoolView> pool_;
  const PoolView::Found found_;
  const std::vector<std::span<std::byte>> tensors_;
};

}  // namespace

std::string RenderPoolAddress(const PoolAddress& address) { return absl::StrCat(address.path, "|", address.ucx); }

absl::StatusOr<PoolAddress> ParsePoolAddress(const std::string& text) {
  const size_t bar = text.rfind('|');
  if (bar == std::string::npos || bar == 0 || text.find('\0') != std::string::npos) {
    return absl::FailedPreconditionError("read from pool: its address is not one");
  }
  return PoolAddress{text.substr(0, bar), text.substr(bar + 1)};
}

absl::StatusOr<std::unique_ptr<StoreReader>> OpenPoolReader(const StoreIdentity& identity,
                                                            const TransferRequest& request) {
  EVENKEEL_ASSIGN_OR_RETURN(const PoolAddress address, ParsePoolAddress(request.source.endpoint.address));
  EVENKEEL_ASSIGN_OR_RETURN(auto pool, PoolView::Open(address.path, identity, engine::SharedMemory::Access::kReadOnly));
  EVENKEEL_ASSIGN_OR_RETURN(const PoolView::Found found,
                            pool->Find(request.layer, request.expert, request.fingerprint));
  const auto same_size = [](const auto& a, const auto& b) { return a.size() == b.size(); };
  const auto tensors = pool->TensorsIn(found.frame, request.layer);
  if (!std::equal(tensors.begin(), tensors.end(), request.destination.begin(), request.destination.end(), same_size)) {
    return absl::FailedPreconditionError(
        absl::StrCat("read from pool ", address.path, ": its tensors are of other ", "sizes"));
  }
  return std::make_unique<PoolReader>(std::move(pool), found);
}

}  // namespace evenkeel::agent
