// SPDX-License-Identifier: Apache-2.0
//
// RegionView: a mapped region with its areas as typed cells. What engine and agent build on; knows no rule.
//
// Threads:   the accessors are constant; who may write which cell is said in layout.h.
// Errors:    Open answers kDataLoss where header, sizes, offsets or, once the engine is ready, tensors do not fit the
//            file and each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/region/error.h"
#include "engine/region/layout.h"
#include "engine/region/shared_memory.h"

namespace evenkeel::engine {

// One layer's table in a bank; meanings as in algos/layer_map.h.
struct LayerTable {
  int32_t* offsets;  // [E + 1]
  int32_t* slots;    // [P]
  uint32_t* bounds;  // [P]
};

// Plain counterpart of one SlotCell::Copy.
struct SlotContent {
  uint32_t state = 0;
  int32_t expert = -1;
  uint64_t generation = 0;
  uint64_t fingerprint = 0;
};

class RegionView {
 public:
  RegionView() = default;

  // kInvalidArgument names the size that is wrong.
  static Error CheckSizes(const RegionSizes& sizes);
  // A new region at `path`, locked by the engine, its sizes and offsets set. Requires: CheckSizes is OK.
  static Result<RegionView> Create(const char* path, const RegionSizes& sizes);
  static Result<RegionView> Open(const char* path, SharedMemory::Access access);

  explicit operator bool() const { return static_cast<bool>(memory_); }
  SharedMemory& memory() { return memory_; }
  const SharedMemory& memory() const { return memory_; }
  RegionHeader& header() const { return *memory_.as<RegionHeader>(); }
  // Copies made when the region was checked: what others write in the file cannot lead astray. So are, in a region that
  // was opened ready, the tensors' numbers and places that tensor_count and TensorBytes go by.
  const RegionSizes& sizes() const { return sizes_; }
  const RegionOffsets& offsets() const { return offsets_; }

  // When it was opened; from then on the tensors stay as they are.
  bool was_ready() const { return !places_.empty(); }
  uint64_t& num_tensors(int layer) const { return At<uint64_t>(offsets_.num_tensors)[layer]; }
  TensorRecord* tensors(int layer) const {
    return At<TensorRecord>(offsets_.tensors) + static_cast<ptrdiff_t>(layer) * kTensorsPerLayerMax;
  }
  SlotCell& slot(int layer, int local_slot) const {
    return At<SlotCell>(offsets_.slots)[static_cast<ptrdiff_t>(layer) * sizes_.slots_per_rank + local_slot];
  }
  Word* counters(int counter, int phase) const {
    return Row<Word>(offsets_.counters, offsets_.counter_stride, counter * kPhases + phase);
  }
  Word* unrouted(int lane_idx) const { return Row<Word>(offsets_.unrouted, offsets_.unrouted_stride, lane_idx); }
  ViewCell& view(int bank) const { return *Row<ViewCell>(offsets_.views, offsets_.view_stride, bank); }
  Word* members(int bank) const {
    return reinterpret_cast<Word*>(Row<std::byte>(offsets_.views, offsets_.view_stride, bank) + sizeof(ViewCell));
  }
  uint32_t* lost() const { return At<uint32_t>(offsets_.lost); }
  Word* joined() const { return At<Word>(offsets_.joined); }
  BankCell& bank(uint32_t bank_idx) const {
    return *Row<BankCell>(offsets_.banks, offsets_.bank_stride, static_cast<int>(bank_idx));
  }
  LayerTable table(uint32_t bank_idx, int layer) const;
  std::byte* weights() const { return At<std::byte>(offsets_.weights); }
  // All tensors lie in device memory, none in weights(): what TensorBytes names cannot be read by the CPU.
  bool on_device() const { return was_ready() ? on_device_ : header().on_device != 0; }
  int tensor_count(int layer) const {
    return static_cast<int>(places_.empty() ? num_tensors(layer) : num_places_[static_cast<size_t>(layer)]);
  }
  // In device memory the engine's own addresses, elsewhere those that SetBase gave; null before.
  std::span<std::byte> TensorBytes(int layer, int tensor, int local_slot) const;
  // Where the allocation of a tensor in device memory is mapped here. Requires: was_ready().
  void SetBase(int layer, int tensor, std::byte* base);

  // The engine has asked that nobody reads or writes its slots, and not resumed since.
  bool IsSuspended() const { return header().suspension.Load() % 2 != 0; }

  SlotContent ReadSlot(int layer, int local_slot) const;
  void WriteSlot(int layer, int local_slot, const SlotContent& content) const;
  // Requires: !on_device().
  uint64_t FingerprintSlot(int layer, int local_slot) const;
  // Of the tensors' names, types and sizes: equal on all ranks that may exchange weights.
  uint64_t DigestOfManifest() const;
  // Incarnation of `rank` in the view of that number, 0 where it is no member; false where that view is gone.
  bool FindMember(uint64_t view_number, int rank, uint64_t* incarnation) const;

  // What the templates of hand_over.h ask for.
  Word& newest() const { return header().newest; }
  Word& newest_view() const { return header().newest_view; }
  Word& bank_epoch(uint32_t bank_idx) const { return bank(bank_idx).epoch; }
  int num_banks() const { return sizes_.num_banks(); }
  int num_lanes() const { return sizes_.num_lanes; }
  LaneCell& lane(int lane_idx) const { return At<LaneCell>(offsets_.lanes)[lane_idx]; }
  int num_serving() const { return sizes_.num_counting_threads; }
  ServingCell& serving(int thread) const { return At<ServingCell>(offsets_.serving)[thread]; }

 private:
  explicit RegionView(SharedMemory memory);
  // Copies the tensors' places, if they fit the weights.
  Error TakeTensors();

  template <typename T>
  T* At(uint64_t offset) const {
    return reinterpret_cast<T*>(memory_.payload() + offset);
  }
  template <typename T>
  T* Row(uint64_t offset, uint64_t stride, int row) const {
    return At<T>(offset + stride * static_cast<uint64_t>(row));
  }

  SharedMemory memory_;
  RegionSizes sizes_;
  RegionOffsets offsets_;
  struct TensorPlace {
    std::byte* base = nullptr;
    uint64_t offset = 0, bytes_per_expert = 0, stride_bytes = 0;
  };
  bool on_device_ = false;
  std::vector<uint32_t> num_places_;  // [L]; empty unless opened ready
  std::vector<TensorPlace> places_;   // [L * kTensorsPerLayerMax]
};

}  // namespace evenkeel::engine
