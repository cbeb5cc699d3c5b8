// SPDX-License-Identifier: Apache-2.0
//
// Times the kernels on the GPU at hand. Each figure is the median over kSamples replays of a CUDA graph of
// kLaunches launches, by events, after a warm-up; beside it stands a device copy of the same bytes, timed alike.
// Warm: the same buffers again; cold: buffers taken in turn from more memory than the second-level cache holds.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <vector>

#include "algos/base/rng.h"
#include "kernels/copy_cuda.h"
#include "kernels/fingerprint_cuda.h"
#include "kernels/route_cuda.h"
#include "tests/kernels/device_array.h"

namespace evenkeel::kernels {
namespace {

constexpr int kLaunches = 32;
constexpr int kSamples = 101;
constexpr size_t kColdBytes = size_t{512} << 20;

void Check(int error, const char* what) {
  if (error == cudaSuccess) return;
  std::printf("%s: %s\n", what, cudaGetErrorString(static_cast<cudaError_t>(error)));
  std::exit(1);
}

// Microseconds of one of `launches` launches; launch(i) enqueues number i.
double MedianMicroseconds(cudaStream_t stream, int launches, const std::function<void(int)>& launch) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "begin capture");
  for (int i = 0; i < launches; ++i) launch(i);
  Check(cudaStreamEndCapture(stream, &graph), "end capture");
  Check(cudaGraphInstantiate(&replay, graph, 0), "instantiate");
  cudaEvent_t begin = nullptr, end = nullptr;
  Check(cudaEventCreate(&begin), "event");
  Check(cudaEventCreate(&end), "event");
  std::vector<float> samples;
  for (int s = 0; s < kSamples + 10; ++s) {
    Check(cudaEventRecord(begin, stream), "record");
    Check(cudaGraphLaunch(replay, stream), "replay");
    Check(cudaEventRecord(end, stream), "record");
    Check(cudaEventSynchronize(end), "wait");
    float milliseconds = 0;
    Check(cudaEventElapsedTime(&milliseconds, begin, end), "elapsed");
    if (s >= 10) samples.push_back(milliseconds);
  }
  std::sort(samples.begin(), samples.end());
  cudaGraphExecDestroy(replay);
  cudaGraphDestroy(graph);
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return samples[samples.size() / 2] * 1e3 / launches;
}

// A layer's table with redundancy for the first experts, unequal shares.
struct Table {
  static constexpr int32_t kExperts = 256, kSlots = 288;
  std::vector<int32_t> offsets = {0}, slots;
  std::vector<uint32_t> bounds;
  Table() {
    for (int32_t e = 0; e < kExperts; ++e) {
      slots.push_back(e);
      if (e < kSlots - kExperts) {
        bounds.push_back(0x60000000u + static_cast<uint32_t>(e) * 1000003u);
        slots.push_back(kExperts + e);
      }
      bounds.push_back(~0u);
      offsets.push_back(static_cast<int32_t>(slots.size()));
    }
  }
};

// Ids as a skewed router gives them: expert popularity falls as 1 / (1 + e / 16).
std::vector<int32_t> SkewedIds(int64_t count) {
  Rng rng(7);
  std::vector<double> cumulative;
  double sum = 0;
  for (int e = 0; e < Table::kExperts; ++e) cumulative.push_back(sum += 1.0 / (1 + e / 16.0));
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    const auto at = std::lower_bound(cumulative.begin(), cumulative.end(), rng.Uniform() * sum);
    ids.push_back(static_cast<int32_t>(std::min<ptrdiff_t>(at - cumulative.begin(), Table::kExperts - 1)));
  }
  return ids;
}

template <typename Id>
void TimeRoute(cudaStream_t stream, int64_t num_tokens, bool cold) {
  constexpr int32_t kTopK = 8;
  const int64_t copies = num_tokens * kTopK;
  const Table table;
  const DeviceArray<int32_t> offsets(table.offsets), slots(table.slots);
  const DeviceArray<uint32_t> bounds(table.bounds);
  const DeviceArray<uint64_t> counters(Table::kSlots), step(1);
  const size_t bytes = static_cast<size_t>(copies) * sizeof(Id);
  const size_t sets = cold ? std::max<size_t>(1, std::min<size_t>(kLaunches, kColdBytes / (2 * bytes))) : 1;
  const std::vector<int32_t> ids32 = SkewedIds(copies);
  std::vector<Id> ids;
  for (size_t s = 0; s < sets; ++s) ids.insert(ids.end(), ids32.begin(), ids32.end());
  const DeviceArray<Id> in(ids), out(ids.size());
  RouteLaunch launch;
  launch.table = {offsets.data(), slots.data(), bounds.data(), Table::kExperts};
  launch.num_slots = Table::kSlots;
  launch.step = step.data();
  const auto route = [&](uint64_t* routed) {
    return MedianMicroseconds(stream, kLaunches, [&](int i) {
      const size_t at = static_cast<size_t>(i) % sets * static_cast<size_t>(copies);
      launch.batch = {in.data() + at, sizeof(Id), kTopK, num_tokens, kTopK, 0};
      launch.slots = out.data() + at;
      launch.counters = {routed, nullptr};
      Check(LaunchRouteAndCount(launch, stream), "route");
    });
  };
  const double counting = route(counters.data()), plain = route(nullptr);
  // As evenkeel_route_on launches it: counters and mask are found where a step's begin says, and no rank is lost.
  const DeviceArray<uint64_t> routed_at(std::vector<uint64_t>{reinterpret_cast<uint64_t>(counters.data())});
  const DeviceArray<uint64_t> view(1), joined(Table::kSlots);
  const DeviceArray<uint32_t> lost(Table::kSlots);
  launch.routed_at = routed_at.data();
  launch.table_view = view.data();
  launch.mask_change = view.data();
  launch.mask.lost = lost.data();
  launch.mask.joined = joined.data();
  const double on_stream = route(nullptr);
  const double copy = MedianMicroseconds(stream, kLaunches, [&](int i) {
    const size_t at = static_cast<size_t>(i) % sets * static_cast<size_t>(copies);
    Check(cudaMemcpyAsync(out.data() + at, in.data() + at, bytes, cudaMemcpyDeviceToDevice, stream), "copy");
  });
  std::printf(
      "route_and_count %6lld tokens x 8, int%d, %s: %7.2f us; without counting %7.2f us; as route_on %7.2f us; copy of "
      "the same bytes %7.2f us, ratio %.2f\n",
      static_cast<long long>(num_tokens), static_cast<int>(sizeof(Id) * 8), cold ? "cold" : "warm", counting, plain,
      on_stream, copy, copy / counting);
}

// An expert of 9 tensors: three matrices of 7168 x 2048 at a byte each, their scales, three biases.
void TimeExpert(cudaStream_t stream) {
  constexpr uint64_t kMatrix = uint64_t{7168} * 2048, kScales = 7168 / 128 * 2048 / 128 * 4, kBias = 2048 * 2;
  const std::vector<uint64_t> sizes = {kMatrix, kMatrix, kMatrix, kScales, kScales, kScales, kBias, kBias, kBias};
  uint64_t expert = 0;
  for (uint64_t size : sizes) expert += (size + 255) / 256 * 256;
  constexpr int kExperts = 8;
  const DeviceArray<unsigned char> from(expert * kExperts), to(expert * kExperts);
  std::vector<CopyPart> parts;
  std::vector<FingerprintPart> prints;
  for (int e = 0; e < kExperts; ++e) {
    uint64_t at = static_cast<uint64_t>(e) * expert;
    for (size_t t = 0; t < sizes.size(); ++t) {
      parts.push_back({from.data() + at, to.data() + at, sizes[t]});
      prints.push_back({from.data() + at, sizes[t], 0, static_cast<uint32_t>(t), static_cast<uint32_t>(e)});
      at += (sizes[t] + 255) / 256 * 256;
    }
  }
  const DeviceArray<CopyPart> list(parts);
  const DeviceArray<FingerprintPart> print_list(prints);
  const DeviceArray<uint64_t> sums(kExperts);
  const int num_parts = static_cast<int>(parts.size());
  const double copy_us =
      MedianMicroseconds(stream, 2, [&](int) { Check(LaunchCopyParts(list.data(), num_parts, stream), "copy parts"); });
  const double plain_us = MedianMicroseconds(stream, 2, [&](int) {
    Check(cudaMemcpyAsync(to.data(), from.data(), expert * kExperts, cudaMemcpyDeviceToDevice, stream), "copy");
  });
  const double print_us = MedianMicroseconds(stream, 2, [&](int) {
    Check(LaunchFingerprintSums(print_list.data(), num_parts, sums.data(), kExperts, stream), "fingerprint");
  });
  const double gb = static_cast<double>(expert * kExperts) / 1e3;  // per microsecond: GB/s
  std::printf(
      "copy of 8 experts of 9 tensors, %.1f MB each, one launch: %.0f GB/s copied; one cudaMemcpy of all: %.0f GB/s, "
      "ratio %.2f\n",
      static_cast<double>(expert) / 1e6, gb / copy_us, gb / plain_us, plain_us / copy_us);
  std::printf("fingerprint of the same, one launch: %.0f GB/s read\n", gb / print_us);
}

}  // namespace
}  // namespace evenkeel::kernels

int main() {
  using namespace evenkeel::kernels;
  cudaDeviceProp properties;
  int driver = 0, runtime = 0;
  Check(cudaGetDeviceProperties(&properties, 0), "find a GPU");
  Check(cudaDriverGetVersion(&driver), "driver version");
  Check(cudaRuntimeGetVersion(&runtime), "runtime version");
  std::printf("%s, driver CUDA %d, runtime %d; graphs of %d launches, %d samples, medians\n", properties.name, driver,
              runtime, kLaunches, kSamples);
  cudaStream_t stream = nullptr;
  Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  for (bool cold : {false, true}) {
    for (int64_t tokens : {int64_t{64}, int64_t{4096}, int64_t{65536}}) {
      TimeRoute<int32_t>(stream, tokens, cold);
      TimeRoute<int64_t>(stream, tokens, cold);
    }
  }
  TimeExpert(stream);
  return 0;
}
