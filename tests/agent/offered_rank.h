// SPDX-License-Identifier: Apache-2.0
//
// OfferedRank: a rank with a region full of known bytes, offered by one transport: what transports are tested to read.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "agent/local_transport.h"
#include "agent/throttle.h"
#include "agent/transport.h"
#include "agent/ucx_transport.h"
#include "agent/weights_table.h"
#include "algos/base/hash.h"
#include "engine/evenkeel.h"
#include "engine/region/agent_region.h"
#include "runtime/read_pass.h"

namespace evenkeel::agent {

inline constexpr int kOfferedLayers = 2;
inline constexpr int kOfferedSlots = 3;
// Per tensor. An odd size, a tiny one, and one of several pieces.
inline const std::vector<uint64_t> kOfferedBytes = {300'001, 96, 2 * 1024 * 1024 + 17};

inline uint64_t OfferedExpertBytes() {
  uint64_t sum = 0;
  for (uint64_t bytes : kOfferedBytes) sum += bytes;
  return sum;
}

inline std::byte OfferedByte(int layer, int slot, size_t tensor, uint64_t at) {
  const uint64_t block =
      MixBits((at / 8) << 16 ^ static_cast<uint64_t>(layer) << 8 ^ static_cast<uint64_t>(slot) << 4 ^ tensor);
  return static_cast<std::byte>(block >> (at % 8 * 8));
}

// As the controller makes it.
inline std::string PassOf(const std::string& secret, const Member& reader, uint64_t rollout = 7) {
  return runtime::MakePass(secret, rollout, {reader.rank.value(), reader.incarnation});
}

// "local", "ucx" (what UCX finds best), or "ucx:" with the UCX transports to use.
inline absl::StatusOr<std::unique_ptr<Transport>> MakeTransport(const std::string& kind,
                                                                const engine::AgentRegion& region,
                                                                const std::shared_ptr<Throttle>& throttle) {
  if (kind == "local") {
    return std::unique_ptr<Transport>(std::make_unique<LocalTransport>(
        LocalTransport::Options{.host = HostIdentity(), .region_path = region.path(), .throttle = throttle}));
  }
  return UcxTransport::Create({.member = region.member(),
                               .host = HostIdentity(),
                               .tls = kind == "ucx" ? "" : kind.substr(4),
                               .table = TableOf(region),
                               .memory = SegmentOf(region),
                               .throttle = throttle});
}

class OfferedRank {
 public:
  // Ends the program where it cannot be made.
  OfferedRank(const std::string& kind, const std::string& directory, int rank) {
    evenkeel_options options = {};
    options.abi_version = EVENKEEL_ABI_VERSION;
    options.directory = directory.c_str();
    options.group = "offered";
    options.model = "model";
    options.rank = rank;
    options.num_ranks = 2;
    options.num_layers = kOfferedLayers;
    options.num_experts = 4;
    options.slots_per_rank = kOfferedSlots;
    options.weights_bytes = 2 * kOfferedLayers * kOfferedSlots * OfferedExpertBytes();
    evenkeel_error error = {};
    Check(evenkeel_create(&options, &engine_, &error) == EVENKEEL_OK, error.message);
    for (int layer = 0; layer < kOfferedLayers; ++layer) {
      for (size_t tensor = 0; tensor < kOfferedBytes.size(); ++tensor) AddTensor(layer, tensor);
    }
    Check(evenkeel_ready(engine_, &error) == EVENKEEL_OK, error.message);
    auto region = engine::AgentRegion::Open(evenkeel_path(engine_));
    Check(region.ok(), region.status().ToString().c_str());
    region_ = *std::move(region);
    auto transport = MakeTransport(kind, *region_, std::make_shared<Throttle>());
    Check(transport.ok(), transport.status().ToString().c_str());
    transport_ = *std::move(transport);
  }
  ~OfferedRank() {
    transport_.reset();
    region_.reset();
    evenkeel_destroy(engine_);
  }
  OfferedRank(const OfferedRank&) = delete;
  OfferedRank& operator=(const OfferedRank&) = delete;

  engine::AgentRegion& region() { return *region_; }
  Transport& transport() { return *transport_; }
  MoveSource Source(int layer, int local_slot) const {
    const algos::Shape& shape = region_->group().shape;
    MoveSource source;
    source.member = region_->member();
    source.slot = shape.SlotAt(source.member.rank, local_slot);
    source.generation = region_->ReadSlot(LayerId(layer), source.slot).generation;
    source.endpoint = transport_->endpoint();
    return source;
  }

 private:
  static void Check(bool ok, const char* what) {
    if (ok) return;
    std::fprintf(stderr, "offered rank: %s\n", what);
    std::abort();
  }
  void AddTensor(int layer, size_t tensor) {
    const uint64_t bytes = kOfferedBytes[tensor], stride = bytes + (tensor == 0 ? 63 : 0);
    auto* data = static_cast<std::byte*>(evenkeel_alloc_weights(engine_, kOfferedSlots * stride));
    Check(data != nullptr, "no room for weights");
    for (int slot = 0; slot < kOfferedSlots; ++slot) {
      std::byte* at = data + static_cast<uint64_t>(slot) * stride;
      for (uint64_t i = 0; i < bytes; ++i) at[i] = OfferedByte(layer, slot, tensor, i);
    }
    evenkeel_error error = {};
    const std::string name = "tensor" + std::to_string(tensor);
    Check(evenkeel_add_tensor(engine_, layer, name.c_str(), "u8", data, bytes, stride, &error) == EVENKEEL_OK,
          error.message);
  }

  evenkeel_region* engine_ = nullptr;
  std::unique_ptr<engine::AgentRegion> region_;
  std::unique_ptr<Transport> transport_;
};

}  // namespace evenkeel::agent
