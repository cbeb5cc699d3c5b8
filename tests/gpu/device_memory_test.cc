// SPDX-License-Identifier: Apache-2.0
//
// Engines whose experts are in device memory, as their agents see them: mapped, fingerprinted, copied, let go.
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "catch2/catch.hpp"

#include "agent/local_transport.h"
#include "agent/throttle.h"
#include "engine/region/agent_region.h"
#include "kernels/cuda_memory.h"
#include "kernels/host/fingerprint.h"
#include "runtime/clock.h"
#include "tests/gpu/device_buffers.h"
#include "tests/gpu/device_rank.h"

namespace evenkeel::gpu {
namespace {

using agent::LocalTransport;
using agent::TransferRequest;
using agent::TransferResult;
using engine::AgentRegion;

constexpr uint64_t kExpertBytes = 3 << 20;

bool Skipped(int num_gpus = 1) {
  if (NumGpus() >= num_gpus) return false;
  WARN("skipped: " << num_gpus << " GPUs are needed, this machine has " << NumGpus());
  return true;
}

uint64_t Expected(int layer, int expert, uint64_t expert_bytes) {
  uint64_t sum = 0;
  for (int tensor = 0; tensor < kTensors; ++tensor) {
    const auto bytes = Content(layer, expert, tensor, expert_bytes);
    sum += kernels::FingerprintSum(bytes.data(), bytes.size(), static_cast<uint32_t>(tensor));
  }
  return kernels::FinishFingerprint(sum, kVersion);
}

std::unique_ptr<AgentRegion> Open(const DeviceRank& rank) {
  INFO(rank.text());
  REQUIRE(rank.ready());
  auto region = AgentRegion::Open(rank.text());
  INFO(region.status().ToString());
  REQUIRE(region.ok());
  return *std::move(region);
}

std::unique_ptr<LocalTransport> TransportOf(const AgentRegion& region) {
  std::unique_ptr<kernels::CudaDevice> device;
  const auto opened = kernels::CudaDevice::Open(region.device(), &device);
  INFO(opened.text);
  REQUIRE(opened.ok());
  return std::make_unique<LocalTransport>(LocalTransport::Options{.host = agent::HostIdentity(),
                                                                  .region_path = region.path(),
                                                                  .throttle = std::make_shared<agent::Throttle>(),
                                                                  .device = std::move(device)});
}

// Local slot 1 of `from` to local slot 2 of `into`, in layer 1.
TransferResult Copy(LocalTransport& transport, const AgentRegion& from, const AgentRegion& into, uint64_t rate = 0) {
  const LayerId layer(1);
  TransferRequest request;
  request.transfer_id = 1;
  request.layer = layer;
  request.source_local_slot = 1;
  request.source.member = from.member();
  request.source.generation = from.ReadSlot(layer, from.group().shape.SlotAt(from.member().rank, 1)).generation;
  request.source.endpoint = {"ipc", agent::HostIdentity(), from.path()};
  request.destination = into.SlotBytes(layer, into.group().shape.SlotAt(into.member().rank, 2));
  request.deadline = runtime::MonotonicNow() + absl::Seconds(30);
  request.bytes_per_second_max = rate;
  TransferResult ended;
  absl::Notification done;
  const absl::Status started = transport.Start(std::move(request), [&](const TransferResult& result) {
    ended = result;
    done.Notify();
  });
  INFO(started.ToString());
  REQUIRE(started.ok());
  done.WaitForNotification();
  return ended;
}

uint64_t FingerprintOf(const AgentRegion& region, int layer, int local_slot) {
  const std::pair<LayerId, SlotIdx> slot(LayerId(layer), region.group().shape.SlotAt(region.member().rank, local_slot));
  const auto fingerprints = region.FingerprintSlots({&slot, 1});
  REQUIRE(fingerprints.ok());
  return fingerprints->front();
}

void CheckMoves(int source_gpu, int destination_gpu, uint64_t rate) {
  const ScratchDirectory directory;
  const DeviceRank first(directory.path(), 0, source_gpu, "plain", kExpertBytes);
  const DeviceRank second(directory.path(), 1, destination_gpu, "plain", kExpertBytes);
  const auto from = Open(first), into = Open(second);
  const auto transport = TransportOf(*into);
  CHECK(transport->endpoint().transport == "ipc");
  const TransferResult ended = Copy(*transport, *from, *into, rate);
  INFO(ended.status.ToString());
  REQUIRE(ended.status.ok());
  uint64_t bytes = 0;
  for (int tensor = 0; tensor < kTensors; ++tensor) bytes += TensorBytes(tensor, kExpertBytes);
  CHECK(ended.bytes == bytes);
  CHECK(FingerprintOf(*into, 1, 2) == Expected(1, 1, kExpertBytes));
  CHECK(FingerprintOf(*into, 1, 1) == Expected(1, 3, kExpertBytes));  // the slot before it is untouched
  CHECK(FingerprintOf(*into, 0, 2) == Expected(0, 0, kExpertBytes));  // so is the same slot of the other layer
}

}  // namespace

TEST_CASE("an agent maps its engine's device memory and fingerprints all slots in it as the CPU does", "[gpu]") {
  if (Skipped()) return;
  const ScratchDirectory directory;
  const DeviceRank rank(directory.path(), 1, 0, "plain", kExpertBytes);
  const auto region = Open(rank);
  CHECK(region->on_device());
  CHECK(region->weights().bytes == 0);
  std::vector<std::pair<LayerId, SlotIdx>> slots;
  for (int layer = 0; layer < kLayers; ++layer) {
    for (int s = 0; s < kSlots; ++s) slots.emplace_back(LayerId(layer), region->group().shape.SlotAt(RankId(1), s));
  }
  const auto fingerprints = region->FingerprintSlots(slots);
  REQUIRE(fingerprints.ok());
  for (size_t i = 0; i < slots.size(); ++i) {
    const SlotRecord record = region->ReadSlot(slots[i].first, slots[i].second);
    CHECK((*fingerprints)[i] == record.fingerprint);
    CHECK(record.fingerprint == Expected(slots[i].first.value(), record.expert.value(), kExpertBytes));
  }
}

TEST_CASE("an expert moves between two engines of one GPU", "[gpu]") {
  if (Skipped()) return;
  CheckMoves(0, 0, 0);
}

TEST_CASE("an expert moves at a limited rate", "[gpu]") {
  if (Skipped()) return;
  const auto begun = std::chrono::steady_clock::now();
  CheckMoves(0, 0, 10 << 20);
  CHECK(std::chrono::steady_clock::now() - begun > std::chrono::milliseconds(150));
}

TEST_CASE("an expert moves between two GPUs", "[gpu][multi-gpu]") {
  if (Skipped(2)) return;
  CheckMoves(1, 0, 0);
}

TEST_CASE("a killed engine's memory is free within a second although agents had it mapped", "[gpu]") {
  if (Skipped()) return;
  constexpr uint64_t kLarge = 512 << 20;
  const ScratchDirectory directory;
  DeviceRank lost(directory.path(), 0, 0, "plain", kLarge);
  const DeviceRank stays(directory.path(), 1, 0, "plain", kLarge);
  auto from = Open(lost);
  const auto into = Open(stays);
  const auto transport = TransportOf(*into);
  REQUIRE(Copy(*transport, *from, *into).status.ok());  // the peer's agent has it mapped, and so has its own
  const uint64_t before = FreeBytes(0);
  const auto killed = std::chrono::steady_clock::now();
  lost.Kill();
  from.reset();  // as its own agent does when it sees the engine's lock free
  const uint64_t held = kLayers * kSlots * kLarge;
  while (FreeBytes(0) < before + held / 10 * 9 && std::chrono::steady_clock::now() - killed < std::chrono::seconds(5)) {
    std::this_thread::yield();
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - killed;
  WARN("free after " << took.count() << " s");
  CHECK(took.count() < 1.0);
}

TEST_CASE("memory that CUDA IPC cannot export is refused by name", "[gpu]") {
  if (Skipped()) return;
  const ScratchDirectory directory;
  const std::pair<const char*, const char*> kinds[] = {
      {"async", "stream-ordered pool"}, {"mapped", "expandable_segments:False"}, {"managed", "managed memory"}};
  for (const auto& [kind, reason] : kinds) {
    const DeviceRank rank(directory.path(), 0, 0, kind, kExpertBytes);
    CAPTURE(kind);
    CHECK_FALSE(rank.ready());
    CHECK_THAT(rank.text(), Catch::Contains(reason));
    CHECK_THAT(rank.text(), Catch::Contains("tensor0"));
  }
}

TEST_CASE("a peer's device memory is not opened as if it were the host's", "[gpu]") {
  if (Skipped()) return;
  const ScratchDirectory directory;
  const DeviceRank rank(directory.path(), 0, 0, "plain", kExpertBytes);
  const auto region = Open(rank);
  const auto peer = engine::PeerRegion::Open(rank.text(), region->member());
  CHECK(absl::IsFailedPrecondition(peer.status()));
}

}  // namespace evenkeel::gpu
