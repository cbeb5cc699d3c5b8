// SPDX-License-Identifier: Apache-2.0
//
// CudaExperts of builds without nvcc: says so.
#include "engine/reference/cuda_experts.h"

namespace evenkeel::engine {

namespace {

constexpr char kAbsent[] = "--device=cuda: this build has no CUDA: no nvcc was installed where it was made";

}  // namespace

std::unique_ptr<CudaMemory> CudaMemory::Open(int, std::string* error) {
  *error = kAbsent;
  return nullptr;
}
CudaMemory::~CudaMemory() = default;
void* CudaMemory::Allocate(uint64_t, std::string* error) {
  *error = kAbsent;
  return nullptr;
}
bool CudaMemory::Fill(void*, const void*, uint64_t, std::string* error) {
  *error = kAbsent;
  return false;
}
std::unique_ptr<CudaRows> CudaRows::Create(int, int, int, std::string* error) {
  *error = kAbsent;
  return nullptr;
}
CudaRows::~CudaRows() = default;
bool CudaRows::Compute(const CudaSlot&, const uint64_t[4], const float*, int, int, float*, bool*, std::string* error) {
  *error = kAbsent;
  return false;
}

}  // namespace evenkeel::engine
