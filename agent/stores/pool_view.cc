// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/pool_view.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "engine/region/to_status.h"
#include "kernels/host/fingerprint.h"

namespace evenkeel::agent {

using engine::SharedMemory;

PoolView::PoolView(SharedMemory memory, const StoreIdentity& identity, const PoolPlan& plan)
    : memory_(std::move(memory)), identity_(identity), plan_(plan) {}

absl::StatusOr<std::unique_ptr<PoolView>> PoolView::Open(const std::string& path, const StoreIdentity& identity,
                                                         SharedMemory::Access access) {
  auto memory = SharedMemory::Open<PoolHeader>(path.c_str(), access);
  if (!memory.ok()) return engine::ToStatus(memory.error);
  const auto& header = *memory.value.as<PoolHeader>();
  if (header.identity_digest != DigestOf(identity)) {
    return absl::FailedPreconditionError(
        absl::StrCat("open ", path, ": it is a pool of other weights than those of group ", identity.group, ", model ",
                     identity.model, ", version ", identity.weights_version));
  }
  const uint64_t num_frames = header.num_frames;  // read once: others may write the file
  const uint64_t num_entries = PlanOfFrames(identity, 1).num_entries;
  if (num_frames == 0 || num_frames > std::min(num_entries, kPoolFramesMax)) {
    return absl::DataLossError(absl::StrCat("open ", path, ": it says it has ", num_frames, " frames"));
  }
  const PoolPlan plan = PlanOfFrames(identity, num_frames);
  if (plan.total_bytes != memory.value.payload_bytes()) {
    return absl::DataLossError(absl::StrCat("open ", path, ": it has ", memory.value.payload_bytes(), " bytes, ",
                                            num_frames, " frames take ", plan.total_bytes));
  }
  return std::make_unique<PoolView>(std::move(memory.value), identity, plan);
}

std::vector<std::span<std::byte>> PoolView::TensorsIn(uint64_t frame, LayerId layer) const {
  std::vector<std::span<std::byte>> tensors;
  std::byte* base = At<std::byte>(plan_.frames_at + frame * plan_.frame_bytes);
  const std::vector<uint64_t>& sizes = identity_.tensor_bytes[layer.idx()];
  const std::vector<uint64_t> offsets = TensorOffsets(sizes);
  for (size_t t = 0; t < sizes.size(); ++t) tensors.emplace_back(base + offsets[t], sizes[t]);
  return tensors;
}

uint64_t PoolView::FingerprintOf(uint64_t frame, LayerId layer) const {
  uint64_t sum = 0;
  uint32_t tensor = 0;
  for (const std::span<std::byte> bytes : TensorsIn(frame, layer)) {
    sum += kernels::FingerprintSum(bytes.data(), bytes.size(), tensor++);
  }
  return kernels::FinishFingerprint(sum, identity_.weights_version);
}

absl::StatusOr<PoolView::Found> PoolView::Find(LayerId layer, ExpertId expert, uint64_t fingerprint) const {
  const auto missing = [&](const char* why) {
    return absl::NotFoundError(
        absl::StrCat("read layer ", layer.value(), " expert ", expert.value(), " from pool ", path(), ": ", why));
  };
  if (!identity_.Has(layer, expert)) return missing("there is none");
  const PoolCell& held = cell(EntryOf(layer, expert));
  Found found = {EntryOf(layer, expert), 0, held.generation.Load()};
  if (held.state.Load() != static_cast<uint64_t>(PoolState::kVerified)) return missing("it does not hold it");
  if (held.fingerprint.Load() != fingerprint) return missing("it holds it with another fingerprint");
  found.frame = held.frame.Load();
  if (found.frame >= plan_.num_frames) return missing("its directory is damaged");
  return found;
}

bool PoolView::StillThere(const Found& found) const {
  const PoolCell& held = cell(found.entry);
  return held.state.Load() == static_cast<uint64_t>(PoolState::kVerified) && held.frame.Load() == found.frame &&
         held.generation.Load() == found.generation;
}

}  // namespace evenkeel::agent
