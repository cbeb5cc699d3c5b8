// SPDX-License-Identifier: Apache-2.0
//
// CudaExperts: TinyMoE's experts computed where their weights are, in device memory.
//
// The results have the same bits as ComputeExpert's (expert.h): every output is summed in the same order, no product is
// fused with a sum. Each row looks at the slot's stamps before and after it has used the slot.
//
// Threads:   CudaMemory's Allocate and Fill: one. A CudaRows: one thread at a time; several compute side by side.
// Waiting:   Fill and Compute wait for the GPU.
// Errors:    sentences in `error`, false returned.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace evenkeel::engine {

// Of one engine, freed with the object.
class CudaMemory {
 public:
  // On GPU number `rank` modulo their number, so that a host's ranks spread.
  static std::unique_ptr<CudaMemory> Open(int rank, std::string* error);
  ~CudaMemory();

  int ordinal() const { return ordinal_; }
  void* Allocate(uint64_t bytes, std::string* error);
  bool Fill(void* to, const void* from, uint64_t bytes, std::string* error);

 private:
  CudaMemory() = default;

  int ordinal_ = 0;
  std::vector<void*> allocations_;
};

// A slot's tensors, in device memory.
struct CudaSlot {
  const uint64_t* head = nullptr;  // stamps, four words each
  const float* gate = nullptr;
  const float* up = nullptr;
  const float* down = nullptr;
  const uint64_t* tail = nullptr;
};

class CudaRows {
 public:
  static std::unique_ptr<CudaRows> Create(int ordinal, int hidden, int width, std::string* error);
  ~CudaRows();

  // y[row] for rows `stride` floats apart; `fits` tells whether both stamps were `stamp` all the time.
  bool Compute(const CudaSlot& slot, const uint64_t stamp[4], const float* x, int num_rows, int stride, float* y,
               bool* fits, std::string* error);

 private:
  CudaRows() = default;
  bool Reserve(int num_rows, std::string* error);

  int ordinal_ = 0, hidden_ = 0, width_ = 0;
  int rows_max_ = 0;
  void* stream_ = nullptr;
  float* x_ = nullptr;  // pinned, read and written by the GPU where it is
  float* y_ = nullptr;
  uint32_t* stale_ = nullptr;
};

}  // namespace evenkeel::engine
