// SPDX-License-Identifier: Apache-2.0
//
// CudaSteps: what the steps of an engine's lanes have on its GPU: maps, step number and counters at addresses that stay,
// so that captured graphs go on with what begin and end of a step put there, in the order of its stream.
//
// The host's side is memory that the agent reads too, given when it is opened: maps are copied from there, counters to
// there, and the stream's progress is told by 64-bit stores to there. Nothing waits, and no kernel runs but to route and
// count.
//
// Threads:   a lane's calls: one thread at a time. PushMask: any.
// Memory:    of the GPU bytes_of(sizes), taken when it is opened; the host's side is page-locked as long as it lives.
// Order:     what a call enqueues is done in the order of the calls on its stream. Begin and End must not be captured;
//            Route and AddCounts may be.
// Errors:    as kernels/cuda_memory.h has them.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/cuda_memory.h"
#include "kernels/host/route.h"

namespace evenkeel::kernels {

class CudaSteps {
 public:
  struct Sizes {
    int num_lanes = 0;
    int num_ranks = 0;
    int num_phases = 0;
    uint64_t tables_bytes = 0;    // of one bank: all layers' tables
    uint64_t table_stride = 0;    // from a layer's table to the next one's: offsets [E + 1], slots [P], bounds [P]
    uint64_t counters_bytes = 0;  // of a lane and phase: 64 bits for each layer and slot counted
    uint64_t unrouted_bytes = 0;  // of a lane: 64 bits for each layer and expert
    int num_experts = 0;
    int num_slots = 0;  // of a layer
    int slots_per_rank = 0;
    uint32_t rank = 0;
    bool counts_routed = false;  // Route counts, per slot
  };
  // Where the host's side keeps who is a member; all within the memory given to Open.
  struct MaskAt {
    const void* lost = nullptr;    // uint32_t [num_ranks]
    const void* joined = nullptr;  // uint64_t [num_ranks]
    const void* change = nullptr;  // uint64_t
  };

  // On the GPU that CUDA numbers `ordinal` here. `host` is page aligned. The identity of the GPU is put into `uuid`.
  static CudaFailure Open(int ordinal, const Sizes& sizes, void* host, uint64_t host_bytes, const MaskAt& mask,
                          CudaUuid* uuid, std::unique_ptr<CudaSteps>* steps);
  ~CudaSteps();

  static uint64_t bytes_of(const Sizes& sizes);

  struct Begin {
    const void* tables = nullptr;  // on the host's side, until `copied` has been stored; null: as they are
    void* copied = nullptr;        // word on the host's side that gets `copy` behind the copy
    uint64_t copy = 0;
    uint64_t step = 0;
    uint64_t table_view = 0;
    int phase = -1;           // negative: nothing is counted
    bool takes_mask = false;  // who is a member now
  };
  CudaFailure BeginStep(int lane, const Begin& begin, void* stream);

  struct End {
    void* counters = nullptr;  // on the host's side, of the lane and `phase`; null: as they are
    int phase = 0;
    void* unrouted = nullptr;  // on the host's side, of the lane; null: as they are
    void* done = nullptr;      // word on the host's side that gets `ticket` behind it all
    uint64_t ticket = 0;
  };
  CudaFailure EndStep(int lane, const End& end, void* stream);

  // Who is a member now, at once beside all streams.
  CudaFailure PushMask();

  // `values` as EngineCounts has them, of each local slot, to the phase that the lane's newest step was begun with.
  struct LocalCounts {
    const void* values = nullptr;
    int value_bytes = 0;
    bool cumulative = false;
  };
  CudaFailure AddCounts(int lane, int layer, const LocalCounts& counts, void* stream);
  // Shares mode, by the lane's maps. Ids and slots are device memory; slots are int32.
  CudaFailure Route(int lane, int layer, const RouteBatch& batch, int32_t* slots, void* stream);

 private:
  CudaSteps() = default;
  uint64_t RowAt(int lane, int phase) const;
  CudaFailure CopyMask(void* stream);

  int ordinal_ = 0;
  Sizes sizes_;
  MaskAt mask_;
  void* host_ = nullptr;
  int64_t host_to_device_ = 0;  // from the host's address of a byte to the GPU's
  void* beside_ = nullptr;      // stream of PushMask
  unsigned char* memory_ = nullptr;
};

}  // namespace evenkeel::kernels
