// SPDX-License-Identifier: Apache-2.0
//
// Slots: the experts' weights of this rank, in the region's memory, and computing with them.
//
// Beside its three matrices each slot has a stamp at its start and one at its end that name layer, expert and weights
// version. They are tensors like the others, so they travel with the content: a slot that an agent overwrites, or has
// half overwritten, shows other stamps. Compute looks at both stamps and at the region's own record (expert,
// generation, verified) before and after each use; what does not fit is a stale use.
//
// Threads:   Compute from any thread, each with its own scratch; Fill and SetVersion before evenkeel_ready and while
//            suspended.
// Owns:      nothing; the memory is the region's.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "engine/evenkeel.h"
#include "engine/reference/config.h"
#include "engine/reference/expert.h"
#include "engine/reference/kernel.h"

namespace evenkeel::engine {

class Slots {
 public:
  // Of evenkeel_options: what the tensors of `slots_per_rank` slots need.
  static uint64_t WeightsBytes(const ModelConfig& config, int slots_per_rank);

  // Takes memory from the region and registers every tensor.
  static absl::StatusOr<std::unique_ptr<Slots>> Create(evenkeel_region* region, const ModelConfig& config,
                                                       int slots_per_rank, uint64_t weights_version);

  // Of what is filled in from now on.
  void SetVersion(uint64_t weights_version) { weights_version_ = weights_version; }
  void Fill(int layer, int local_slot, int expert, const ExpertTensors& tensors);

  // y = the output of what the slot holds. False where that was not `expert`, whole and unchanged, all the time.
  // Requires: layer and local_slot in range.
  bool Compute(int layer, int local_slot, int expert, Rows x, float* y, std::vector<float>& scratch) const;

  bool InRange(int layer, int local_slot) const;

 private:
  struct Stamp {
    uint64_t magic, layer, expert, version;
    friend bool operator==(const Stamp&, const Stamp&) = default;
  };
  struct alignas(64) PaddedStamp {
    Stamp stamp;
  };
  struct Layer {
    PaddedStamp* head = nullptr;
    float* gate = nullptr;
    float* up = nullptr;
    float* down = nullptr;
    PaddedStamp* tail = nullptr;
  };

  Slots(evenkeel_region* region, const ModelConfig& config, int slots_per_rank, uint64_t weights_version);
  Stamp StampOf(int layer, int expert) const;
  // The slot holds `expert`, by the region's record and both stamps; its generation.
  bool Holds(int layer, int local_slot, int expert, uint64_t& generation) const;

  evenkeel_region* const region_;
  const ModelConfig config_;
  const int slots_per_rank_;
  uint64_t weights_version_;
  std::vector<Layer> layers_;
};

}  // namespace evenkeel::engine
