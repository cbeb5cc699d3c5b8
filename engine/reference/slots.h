// SPDX-License-Identifier: Apache-2.0
//
// Slots: the experts' weights of this rank, in the region's memory or a GPU's, and computing with them there.
//
// Beside its three matrices each slot has a stamp at its start and one at its end that name layer, expert and weights
// version. They are tensors like the others, so they travel with the content: a slot that an agent overwrites, or has
// half overwritten, shows other stamps. Compute looks at both stamps and at the region's own record (expert,
// generation, verified) before and after each use; what does not fit is a stale use.
//
// Threads:   Compute from any thread, each with its own scratch; Fill and SetVersion before evenkeel_ready and while
//            suspended.
// Owns:      nothing in host memory, which is the region's; the device memory, which must outlive the region.
// Errors:    a GPU that fails in Compute ends the process: what its memory holds is not known any more.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "engine/evenkeel.h"
#include "engine/reference/config.h"
#include "engine/reference/cuda_experts.h"
#include "engine/reference/expert.h"
#include "engine/reference/kernel.h"

namespace evenkeel::engine {

// A GPU for the experts of `rank` where `device` is "cuda", null where it is "cpu".
absl::StatusOr<std::unique_ptr<CudaMemory>> OpenDevice(const std::string& device, int rank);

class Slots {
 public:
  // Of evenkeel_options: what the tensors of `slots_per_rank` slots need in host memory.
  static uint64_t WeightsBytes(const ModelConfig& config, int slots_per_rank);

  // Takes memory, from the region or, where it is given, from `device`, and registers every tensor.
  static absl::StatusOr<std::unique_ptr<Slots>> Create(evenkeel_region* region, const ModelConfig& config,
                                                       int slots_per_rank, uint64_t weights_version,
                                                       CudaMemory* device = nullptr);

  // Of what is filled in from now on.
  void SetVersion(uint64_t weights_version) { weights_version_ = weights_version; }
  absl::Status Fill(int layer, int local_slot, int expert, const ExpertTensors& tensors);

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

  Slots(evenkeel_region* region, const ModelConfig& config, int slots_per_rank, uint64_t weights_version,
        CudaMemory* device);
  absl::StatusOr<void*> Allocate(uint64_t bytes);
  absl::Status Put(void* to, const void* from, uint64_t bytes);
  // By a CudaRows of its own, kept for the next call. False where a stamp did not fit.
  bool ComputeOnDevice(int layer, int local_slot, int expert, Rows x, float* y) const;
  Stamp StampOf(int layer, int expert) const;
  // The slot holds `expert`, by the region's record and both stamps; its generation.
  bool Holds(int layer, int local_slot, int expert, uint64_t& generation) const;

  evenkeel_region* const region_;
  const ModelConfig config_;
  const int slots_per_rank_;
  uint64_t weights_version_;
  CudaMemory* const device_;
  std::vector<Layer> layers_;
  mutable absl::Mutex mutex_;
  mutable std::vector<std::unique_ptr<CudaRows>> resting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace evenkeel::engine
