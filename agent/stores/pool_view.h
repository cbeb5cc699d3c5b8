// SPDX-License-Identifier: Apache-2.0
//
// PoolView: a mapped pool of experts, to read from. What the pool's keepers and its readers build on.
//
// Threads:   values; calls are safe from any thread. Others write cells meanwhile: what was copied is right only if
//            its fingerprint says so.
// Errors:    Open: kNotFound: no such pool; kFailedPrecondition: of other weights or another version; kDataLoss: not a
//            whole pool. Find: kNotFound: the pool does not hold the expert with that fingerprint.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "agent/stores/pool_layout.h"
#include "agent/stores/store_identity.h"
#include "algos/base/ids.h"
#include "engine/region/shared_memory.h"

namespace evenkeel::agent {

class PoolView {
 public:
  // Of the pool at `path`, which is to be of `identity`.
  static absl::StatusOr<std::unique_ptr<PoolView>> Open(const std::string& path, const StoreIdentity& identity,
                                                        engine::SharedMemory::Access access);
  // Of one just made, its header written. Requires: it has the plan's size.
  PoolView(engine::SharedMemory memory, const StoreIdentity& identity, const PoolPlan& plan);

  const StoreIdentity& identity() const { return identity_; }
  const PoolPlan& plan() const { return plan_; }
  engine::SharedMemory& memory() { return memory_; }
  const engine::SharedMemory& memory() const { return memory_; }
  std::string path() const { return memory_.path(); }

  uint64_t EntryOf(LayerId layer, ExpertId expert) const {
    return layer.idx() * static_cast<uint64_t>(identity_.num_experts) + expert.idx();
  }
  LayerId LayerOf(uint64_t entry) const {
    return LayerId(static_cast<int32_t>(entry / static_cast<uint64_t>(identity_.num_experts)));
  }
  PoolCell& cell(uint64_t entry) const { return At<PoolCell>(plan_.directory_at)[entry]; }
  engine::Word& given(uint64_t frame) const { return At<engine::Word>(plan_.given_at)[frame]; }
  // The expert's tensors in the frame. Requires: frame < num_frames.
  std::vector<std::span<std::byte>> TensorsIn(uint64_t frame, LayerId layer) const;
  uint64_t FingerprintOf(uint64_t frame, LayerId layer) const;

  struct Found {
    uint64_t entry = 0;
    uint64_t frame = 0;
    uint64_t generation = 0;
  };
  absl::StatusOr<Found> Find(LayerId layer, ExpertId expert, uint64_t fingerprint) const;
  // Whether nobody began to write over it since.
  bool StillThere(const Found& found) const;

 private:
  template <typename T>
  T* At(uint64_t offset) const {
    return reinterpret_cast<T*>(memory_.payload() + offset);
  }

  engine::SharedMemory memory_;
  StoreIdentity identity_;
  PoolPlan plan_;
};

}  // namespace evenkeel::agent
