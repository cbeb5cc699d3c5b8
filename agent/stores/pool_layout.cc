// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/pool_layout.h"

#include <algorithm>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "algos/base/hash.h"

namespace evenkeel::agent {

namespace {

constexpr uint64_t kPage = 4096;

uint64_t RoundUp(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

uint64_t NumEntries(const StoreIdentity& identity) {
  return static_cast<uint64_t>(identity.num_layers) * static_cast<uint64_t>(identity.num_experts);
}

uint64_t FrameBytes(const StoreIdentity& identity) {
  uint64_t most = kTensorAlignment;
  for (const std::vector<uint64_t>& layer : identity.tensor_bytes) most = std::max(most, ExpertRoom(layer));
  return most;
}

}  // namespace

PoolPlan PlanOfFrames(const StoreIdentity& identity, uint64_t num_frames) {
  PoolPlan plan;
  plan.num_entries = NumEntries(identity);
  plan.num_frames = num_frames;
  plan.cells_per_row = (plan.num_entries + num_frames - 1) / num_frames;
  plan.frame_bytes = FrameBytes(identity);
  plan.given_at = RoundUp(sizeof(PoolHeader), 64);
  plan.directory_at = RoundUp(plan.given_at + num_frames * sizeof(engine::Word), 64);
  plan.frames_at = RoundUp(plan.directory_at + num_frames * plan.cells_per_row * sizeof(PoolCell), kPage);
  plan.total_bytes = plan.frames_at + num_frames * plan.frame_bytes;
  return plan;
}

absl::StatusOr<PoolPlan> PlanPool(const StoreIdentity& identity, uint64_t bytes_max) {
  const uint64_t num_entries = NumEntries(identity);
  if (num_entries == 0 || num_entries > kPoolEntriesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("plan a pool of ", num_entries, " experts: 1 to ", kPoolEntriesMax, " wanted"));
  }
  uint64_t low = 0, high = std::min({num_entries, kPoolFramesMax, bytes_max / FrameBytes(identity)});
  while (low < high) {
    const uint64_t middle = (low + high + 1) / 2;
    if (PlanOfFrames(identity, middle).total_bytes <= bytes_max) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  if (low == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("plan a pool of ", bytes_max, " bytes: one expert takes ", PlanOfFrames(identity, 1).total_bytes));
  }
  return PlanOfFrames(identity, low);
}

std::string PoolPrefix(const StoreIdentity& identity, const std::string& host) {
  Digest digest;
  for (const char c : host) digest.Add(static_cast<unsigned char>(c));
  return absl::StrCat("evenkeel-pool.", identity.group, ".",
                      absl::Hex(static_cast<uint32_t>(digest.value()), absl::kZeroPad8), ".");
}

std::string PoolName(const StoreIdentity& identity, const std::string& host) {
  return absl::StrCat(PoolPrefix(identity, host), absl::Hex(DigestOf(identity), absl::kZeroPad16));
}

}  // namespace evenkeel::agent
