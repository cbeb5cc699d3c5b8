// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "algos/base/check.h"
#include "algos/base/status_macros.h"
#include "engine/region/agent_region.h"
#include "engine/region/device_slots.h"
#include "engine/region/ready_region.h"
#include "engine/region/to_status.h"

namespace evenkeel::engine {

absl::StatusOr<std::string> FindRegion(const std::string& directory, const std::string& group, RankId rank) {
  const std::string prefix = absl::StrCat("evenkeel.", group, ".", rank.value(), ".");
  std::vector<std::string> names;
  DIR* listing = ::opendir(directory.c_str());
  if (listing == nullptr) return absl::NotFoundError(absl::StrCat("find region: no directory ", directory));
  while (const dirent* entry = ::readdir(listing)) {
    if (absl::StartsWith(entry->d_name, prefix) && !absl::EndsWith(entry->d_name, ".new")) {
      names.push_back(entry->d_name);
    }
  }
  ::closedir(listing);
  std::string newest;
  uint64_t newest_ns = 0;
  absl::Status found = absl::NotFoundError(
      absl::StrCat("find region: no living engine of rank ", rank.value(), " of group ", group, " in ", directory));
  for (const std::string& name : names) {
    const std::string path = absl::StrCat(directory, "/", name);
    const auto view = RegionView::Open(path.c_str(), SharedMemory::Access::kReadOnly);
    if (!view.ok()) {
      found = ToStatus(view.error);
    } else if (view.value.memory().IsLockedElsewhere(kEngineLockByte) && view.value.header().created_ns >= newest_ns) {
      newest = path;
      newest_ns = view.value.header().created_ns;
    }
  }
  if (newest.empty()) return found;
  return newest;
}

PeerRegion::PeerRegion(std::unique_ptr<RegionView> view) : view_(std::move(view)), group_(GroupOf(*view_)) {}
PeerRegion::~PeerRegion() = default;

absl::StatusOr<std::unique_ptr<PeerRegion>> PeerRegion::Open(const std::string& path, Member member,
                                                             kernels::CudaDevice* device) {
  EVENKEEL_ASSIGN_OR_RETURN(auto view, OpenReadyRegion(path, SharedMemory::Access::kReadOnly));
  const uint64_t incarnation = view->header().incarnation.Load();
  if (view->sizes().rank != member.rank.value() || incarnation != member.incarnation) {
    return absl::FailedPreconditionError(
        absl::StrCat("open ", path, ": it is of rank ", view->sizes().rank, " incarnation ", absl::Hex(incarnation),
                     ", wanted rank ", member.rank.value(), " incarnation ", absl::Hex(member.incarnation)));
  }
  auto region = std::unique_ptr<PeerRegion>(new PeerRegion(std::move(view)));
  if (region->view_->on_device() != (device != nullptr)) {
    return absl::FailedPreconditionError(
        absl::StrCat("open ", path, ": its weights are in ", device == nullptr ? "device" : "host", " memory"));
  }
  if (device == nullptr) return region;
  auto mapping = DeviceMapping::Create(*region->view_, *device);
  if (!mapping.ok()) return absl::FailedPreconditionError(absl::StrCat("open ", path, ": ", mapping.error.message));
  region->mapping_ = std::move(mapping.value);
  return region;
}

const GroupInfo& PeerRegion::group() const { return group_; }
bool PeerRegion::EngineAlive() const { return view_->memory().IsLockedElsewhere(kEngineLockByte); }
bool PeerRegion::IsSuspended() const { return view_->IsSuspended(); }
WeightsSegment PeerRegion::weights() const { return {view_->weights(), view_->sizes().weights_bytes}; }

SlotRecord PeerRegion::ReadSlot(LayerId layer, int local_slot) const {
  EVENKEEL_CHECK(local_slot >= 0 && local_slot < group_.shape.slots_per_rank);
  return RecordOf(view_->ReadSlot(layer.value(), local_slot));
}

std::vector<std::span<const std::byte>> PeerRegion::SlotBytes(LayerId layer, int local_slot) const {
  EVENKEEL_CHECK(local_slot >= 0 && local_slot < group_.shape.slots_per_rank);
  std::vector<std::span<const std::byte>> ranges;
  for (int t = 0; t < view_->tensor_count(layer.value()); ++t) {
    ranges.push_back(view_->TensorBytes(layer.value(), t, local_slot));
  }
  return ranges;
}

}  // namespace evenkeel::engine
