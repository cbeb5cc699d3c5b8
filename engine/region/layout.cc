// SPDX-License-Identifier: Apache-2.0
#include "engine/region/layout.h"

namespace evenkeel::engine {

namespace {

constexpr uint64_t kAreaAlignment = 64;
// Weights begin on a page of the file, whatever stands before the header in it.
constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kBytesBeforeHeader = 64;

constexpr uint64_t RoundUp(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

RegionOffsets OffsetsOf(const RegionSizes& sizes) {
  const auto ranks = static_cast<uint64_t>(sizes.num_ranks);
  const auto layers = static_cast<uint64_t>(sizes.num_layers);
  const auto experts = static_cast<uint64_t>(sizes.num_experts);
  const auto local_slots = static_cast<uint64_t>(sizes.slots_per_rank);
  const auto slots = static_cast<uint64_t>(sizes.num_slots());
  const auto lanes = static_cast<uint64_t>(sizes.num_lanes);

  RegionOffsets at;
  at.counter_stride = RoundUp(layers * static_cast<uint64_t>(sizes.slots_counted()) * sizeof(Word), kAreaAlignment);
  at.unrouted_stride = RoundUp(layers * experts * sizeof(Word), kAreaAlignment);
  at.view_stride = RoundUp(sizeof(ViewCell) + ranks * sizeof(Word), kAreaAlignment);
  at.table_stride = RoundUp((experts + 1 + 2 * slots) * sizeof(uint32_t), kAreaAlignment);
  at.bank_stride = sizeof(BankCell) + layers * at.table_stride;

  uint64_t end = sizeof(RegionHeader);
  const auto place = [&end](uint64_t bytes) {
    const uint64_t begin = end;
    end = RoundUp(begin + bytes, kAreaAlignment);
    return begin;
  };
  at.num_tensors = place(layers * sizeof(uint64_t));
  at.tensors = place(layers * kTensorsPerLayerMax * sizeof(TensorRecord));
  at.slots = place(layers * local_slots * sizeof(SlotCell));
  at.lanes = place(lanes * sizeof(LaneCell));
  at.serving = place(static_cast<uint64_t>(sizes.num_counting_threads) * sizeof(ServingCell));
  at.counters = place(static_cast<uint64_t>(sizes.num_counters()) * kPhases * at.counter_stride);
  at.unrouted = place(lanes * at.unrouted_stride);
  at.views = place(kViewBanks * at.view_stride);
  at.lost = place(ranks * sizeof(uint32_t));
  at.joined = place(ranks * sizeof(Word));
  at.banks = place(static_cast<uint64_t>(sizes.num_banks()) * at.bank_stride);
  at.weights = RoundUp(end + kBytesBeforeHeader, kPageBytes) - kBytesBeforeHeader;
  at.total_bytes = at.weights + sizes.weights_bytes;
  return at;
}

}  // namespace evenkeel::engine
