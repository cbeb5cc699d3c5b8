// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/slots_on_device.h"

#include <cuda_runtime.h>

#include "kernels/copy_cuda.h"
#include "kernels/counts_cuda.h"
#include "tests/kernels/device_array.h"

namespace evenkeel::kernels {

namespace {

template <typename Value>
CountsOutcome AddAs(const std::vector<int64_t>& values, bool cumulative, const std::vector<uint64_t>& before) {
  const DeviceArray<Value> on_device(std::vector<Value>(values.begin(), values.end()));
  const DeviceArray<uint64_t> counters(before);
  const int launched = LaunchAddCounts(
      {on_device.data(), sizeof(Value), static_cast<int32_t>(values.size()), cumulative}, counters.data(), nullptr);
  CountsOutcome outcome{launched, counters.Read()};
  if (outcome.error == 0) outcome.error = counters.error();
  return outcome;
}

}  // namespace

CountsOutcome FoldOnDevice(const std::vector<uint64_t>& per_slot, const std::vector<int32_t>& expert_of_slot,
                           std::vector<uint64_t> before) {
  const DeviceArray<uint64_t> counts(per_slot), counters(before);
  const DeviceArray<int32_t> experts(expert_of_slot);
  const int launched = LaunchFoldCounts(counts.data(), experts.data(), static_cast<int32_t>(per_slot.size()),
                                        counters.data(), static_cast<int32_t>(before.size()), nullptr);
  CountsOutcome outcome{launched, counters.Read()};
  if (outcome.error == 0) outcome.error = counters.error();
  return outcome;
}

CountsOutcome AddOnDevice(const std::vector<int64_t>& values, int32_t value_bytes, bool cumulative,
                          std::vector<uint64_t> before) {
  return value_bytes == 4 ? AddAs<int32_t>(values, cumulative, before) : AddAs<int64_t>(values, cumulative, before);
}

CopyOutcome CopyOnDevice(const std::vector<unsigned char>& bytes, const std::vector<CopySpan>& spans) {
  const DeviceArray<unsigned char> memory(bytes);
  std::vector<CopyPart> parts;
  for (const CopySpan& span : spans) parts.push_back({memory.data() + span.from, memory.data() + span.to, span.bytes});
  const DeviceArray<CopyPart> list(parts);
  const int launched = LaunchCopyParts(list.data(), static_cast<int>(parts.size()), nullptr);
  CopyOutcome outcome{launched, memory.Read()};
  if (outcome.error == 0) outcome.error = memory.error();
  return outcome;
}

}  // namespace evenkeel::kernels
