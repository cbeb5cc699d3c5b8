// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/route_on_device.h"

#include <cuda_runtime.h>

#include "tests/kernels/device_array.h"

namespace evenkeel::kernels {

namespace {

std::vector<unsigned char> Packed(const std::vector<int64_t>& values, int32_t bytes, int32_t misalignment) {
  std::vector<unsigned char> packed((values.size() + static_cast<size_t>(misalignment)) * static_cast<size_t>(bytes));
  for (size_t i = 0; i < values.size(); ++i) {
    for (int32_t b = 0; b < bytes; ++b) {
      packed[(i + static_cast<size_t>(misalignment)) * static_cast<size_t>(bytes) + static_cast<size_t>(b)] =
          static_cast<unsigned char>(static_cast<uint64_t>(values[i]) >> (8 * b));
    }
  }
  return packed;
}

std::vector<int64_t> Unpacked(const std::vector<unsigned char>& packed, int32_t bytes) {
  std::vector<int64_t> values(packed.size() / static_cast<size_t>(bytes));
  for (size_t i = 0; i < values.size(); ++i) {
    uint64_t value = 0;
    for (int32_t b = 0; b < bytes; ++b)
      value |= uint64_t{packed[i * static_cast<size_t>(bytes) + static_cast<size_t>(b)]} << (8 * b);
    values[i] = bytes == 4 ? static_cast<int32_t>(static_cast<uint32_t>(value)) : static_cast<int64_t>(value);
  }
  return values;
}

}  // namespace

std::vector<RouteOutcome> RouteOnDevice(const RouteCase& c, const std::vector<RouteMoment>& moments) {
  const size_t num_slots = static_cast<size_t>(c.num_slots), num_experts = static_cast<size_t>(c.num_experts);
  const size_t num_ranks = num_slots / static_cast<size_t>(c.slots_per_rank);
  const int32_t slot_bytes = c.slot_bytes == 0 ? c.id_bytes : c.slot_bytes;
  const bool masked = !moments.front().lost.empty();
  DeviceArray<unsigned char> ids(Packed(c.ids, c.id_bytes, c.misalignment));
  DeviceArray<unsigned char> slots(static_cast<size_t>(c.num_tokens * c.top_k) * static_cast<size_t>(slot_bytes));
  DeviceArray<int32_t> offsets(num_experts + 1), table_slots(num_slots);
  DeviceArray<uint32_t> bounds(num_slots), lost(num_ranks);
  DeviceArray<uint64_t> joined(num_ranks), routed(c.count == RouteCount::kSlots ? num_slots : num_experts),
      unrouted(num_experts), numbers(3);
  RouteLaunch launch;
  launch.table = {offsets.data(), table_slots.data(), bounds.data(), c.num_experts};
  launch.batch = {
      ids.data() + c.misalignment * c.id_bytes, c.id_bytes, c.top_k, c.num_tokens, c.row_stride, c.first_token};
  if (masked) launch.mask = {lost.data(), joined.data(), 0, c.slots_per_rank};
  launch.mask.slots_per_rank = c.slots_per_rank;
  launch.counters = {routed.data(), unrouted.data()};
  launch.mode = c.mode;
  launch.count = c.count;
  launch.step = numbers.data();
  launch.table_view = numbers.data() + 1;
  launch.num_unknown = numbers.data() + 2;
  launch.rank = c.rank;
  launch.layer = c.layer;
  launch.num_slots = c.num_slots;
  launch.slots = slots.data();
  launch.slot_bytes = c.slot_bytes;

  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  cudaError_t error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  if (error == cudaSuccess) error = cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
  const int launched = LaunchRouteAndCount(launch, stream);
  if (error == cudaSuccess) error = cudaStreamEndCapture(stream, &graph);
  if (error == cudaSuccess) error = static_cast<cudaError_t>(launched);
  if (error == cudaSuccess) error = cudaGraphInstantiate(&replay, graph, 0);

  std::vector<RouteOutcome> outcomes;
  uint64_t num_unknown = 0;
  for (const RouteMoment& moment : moments) {
    RouteOutcome& outcome = outcomes.emplace_back();
    offsets.Write(moment.offsets);
    table_slots.Write(moment.slots);
    bounds.Write(moment.bounds);
    lost.Write(moment.lost);
    joined.Write(moment.joined);
    numbers.Write({moment.step, moment.view, num_unknown});
    if (error == cudaSuccess) error = cudaGraphLaunch(replay, stream);
    if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
    outcome.slots = Unpacked(slots.Read(), slot_bytes);
    outcome.routed = routed.Read();
    outcome.unrouted = unrouted.Read();
    num_unknown = numbers.Read()[2];
    outcome.num_unknown = num_unknown;
    for (cudaError_t each : {ids.error(), slots.error(), offsets.error(), routed.error(), numbers.error()}) {
      if (error == cudaSuccess) error = each;
    }
    outcome.error = error;
  }
  cudaGraphExecDestroy(replay);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  return outcomes;
}

}  // namespace evenkeel::kernels
