// SPDX-License-Identifier: Apache-2.0
//
// What the ipc transport reaches beside one plain copy of as many bytes: 88 MiB experts of nine tensors, from one engine's
// device memory into another's, by this process as the agent; and what fingerprints of them and a mapping cost.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "absl/time/time.h"

#include "agent/local_transport.h"
#include "agent/throttle.h"
#include "engine/region/agent_region.h"
#include "kernels/cuda_memory.h"
#include "runtime/clock.h"
#include "tests/gpu/device_buffers.h"
#include "tests/gpu/device_rank.h"

namespace evenkeel::gpu {
namespace {

using agent::LocalTransport;
using agent::TransferRequest;
using agent::TransferResult;
using engine::AgentRegion;

constexpr uint64_t kExpertBytes = 88 << 20;
constexpr int kSamples = 51;

// Median and 99th percentile of the seconds that `run` takes.
std::pair<double, double> Seconds(const std::function<void()>& run) {
  run();
  std::vector<double> seconds;
  for (int i = 0; i < kSamples; ++i) {
    const auto begun = std::chrono::steady_clock::now();
    run();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return {seconds[kSamples / 2], seconds[kSamples * 99 / 100]};
}

TransferRequest RequestOf(const AgentRegion& from, const AgentRegion& into, int index) {
  const LayerId layer(index / kSlots % kLayers);
  const int slot = index % kSlots;
  TransferRequest request;
  request.transfer_id = static_cast<uint64_t>(index) + 1;
  request.layer = layer;
  request.source_local_slot = slot;
  request.source.member = from.member();
  request.source.generation = from.ReadSlot(layer, from.group().shape.SlotAt(from.member().rank, slot)).generation;
  request.source.endpoint = {"ipc", agent::HostIdentity(), from.path()};
  request.destination = into.SlotBytes(layer, into.group().shape.SlotAt(into.member().rank, slot));
  request.deadline = runtime::MonotonicNow() + absl::Seconds(60);
  return request;
}

// Whether all went well.
bool Move(LocalTransport& transport, const AgentRegion& from, const AgentRegion& into, int num_experts) {
  absl::BlockingCounter left(num_experts);
  bool ok = true;
  for (int i = 0; i < num_experts; ++i) {
    const absl::Status started = transport.Start(RequestOf(from, into, i), [&](const TransferResult& result) {
      if (!result.status.ok()) {
        std::printf("FAILED: %s\n", result.status.ToString().c_str());
        ok = false;
      }
      left.DecrementCount();
    });
    if (!started.ok()) return false;
  }
  left.Wait();
  return ok;
}

int Measure(const char* name, int source_gpu, int destination_gpu) {
  const ScratchDirectory directory;
  const DeviceRank first(directory.path(), 0, source_gpu, "plain", kExpertBytes);
  const DeviceRank second(directory.path(), 1, destination_gpu, "plain", kExpertBytes);
  const uint64_t free_before = FreeBytes(destination_gpu);
  const auto from = AgentRegion::Open(first.text()), into = AgentRegion::Open(second.text());
  std::unique_ptr<kernels::CudaDevice> device, plain;
  if (!from.ok() || !into.ok() || !kernels::CudaDevice::Open((*into)->device(), &device).ok() ||
      !kernels::CudaDevice::Open((*into)->device(), &plain).ok()) {
    std::printf("FAILED: %s: %s %s\n", name, first.text().c_str(), second.text().c_str());
    return 1;
  }
  const uint64_t agent_bytes = free_before - FreeBytes(destination_gpu);
  LocalTransport transport({.host = agent::HostIdentity(),
                            .region_path = (*into)->path(),
                            .throttle = std::make_shared<agent::Throttle>(),
                            .device = std::move(device)});
  uint64_t expert = 0;
  for (int t = 0; t < kTensors; ++t) expert += TensorBytes(t, kExpertBytes);
  bool ok = true;
  const auto one = Seconds([&] { ok = Move(transport, **from, **into, 1) && ok; });
  const auto wave = Seconds([&] { ok = Move(transport, **from, **into, kSlots * kLayers) && ok; });
  // As many bytes as an expert has, as one copy: all slots of its largest tensor.
  const auto peer = engine::PeerRegion::Open((*from)->path(), (*from)->member(), plain.get());
  if (!peer.ok() || !ok) return 1;
  const uint64_t run_bytes = kSlots * TensorBytes(0, kExpertBytes);
  const auto to = (*into)->SlotBytes(LayerId(0), (*into)->group().shape.SlotAt(RankId(1), 0));
  const auto parts = (*peer)->SlotBytes(LayerId(0), 0);
  const auto copy = Seconds([&] {
    plain->Copy(to[0].data(), parts[0].data(), run_bytes);
    ok = plain->Wait().ok() && ok;
  });
  const auto tensors = Seconds([&] {
    for (size_t t = 0; t < parts.size(); ++t) plain->Copy(to[t].data(), parts[t].data(), parts[t].size());
    ok = plain->Wait().ok() && ok;
  });
  std::vector<std::pair<LayerId, SlotIdx>> slots;
  for (int i = 0; i < kSlots * kLayers; ++i) {
    slots.emplace_back(LayerId(i / kSlots), (*into)->group().shape.SlotAt(RankId(1), i % kSlots));
  }
  const auto print = [](const char* what, double bytes, std::pair<double, double> seconds) {
    std::printf("  %-44s %8.1f GB/s  median %8.3f ms  p99 %8.3f ms\n", what, bytes / seconds.first / 1e9,
                seconds.first * 1e3, seconds.second * 1e3);
  };
  const double experts = static_cast<double>(expert), all = experts * kSlots * kLayers;
  const auto copied = static_cast<double>(run_bytes);
  std::printf("%s: experts of %.1f MiB in %d tensors, %d samples, warm\n", name, experts / (1 << 20), kTensors,
              kSamples);
  print("one plain copy of 88 MiB, waited for", copied, copy);
  print("an expert's tensors, waited for", experts, tensors);
  print("ipc, one expert at a time", experts, one);
  print("ipc, six experts asked for at once", all, wave);
  const double plain_rate = copied / copy.first;
  std::printf("  ratio to the plain copy: tensors %.3f, one expert %.3f, six %.3f\n",
              experts / tensors.first / plain_rate, experts / one.first / plain_rate, all / wave.first / plain_rate);
  const auto prints = Seconds([&] { ok = (*into)->FingerprintSlots(slots).ok() && ok; });
  print("fingerprints of six experts, one call", all, prints);
  const auto mapping =
      Seconds([&] { ok = engine::PeerRegion::Open((*from)->path(), (*from)->member(), plain.get()).ok() && ok; });
  std::printf("  mapping a peer's %d allocations and closing them: median %.3f ms\n", kLayers * kTensors,
              mapping.first * 1e3);
  std::printf("  taken on the GPU by two agents' regions and two copying devices, mappings included: %.1f MiB\n",
              static_cast<double>(agent_bytes) / (1 << 20));
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace evenkeel::gpu

int main() {
  const int num_gpus = evenkeel::gpu::NumGpus();
  if (num_gpus == 0) {
    std::printf("skipped: no GPU here\n");
    return 0;
  }
  int failed = evenkeel::gpu::Measure("one GPU", 0, 0);
  if (num_gpus > 1) {
    failed += evenkeel::gpu::Measure("from another GPU", 1, 0);
  } else {
    std::printf("from another GPU: skipped, there is one\n");
  }
  return failed;
}
