// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "kernels/cuda_steps.h"

namespace evenkeel::kernels {

namespace {

CudaFailure Absent() {
  CudaFailure failure;
  failure.failed = true;
  std::snprintf(failure.text, sizeof(failure.text), "this build has no CUDA: no nvcc was installed where it was made");
  return failure;
}

}  // namespace

uint64_t CudaSteps::bytes_of(const Sizes&) { return 0; }
CudaFailure CudaSteps::Open(int, const Sizes&, void*, uint64_t, const MaskAt&, CudaUuid*, std::unique_ptr<CudaSteps>*) {
  return Absent();
}
CudaSteps::~CudaSteps() = default;
CudaFailure CudaSteps::BeginStep(int, const Begin&, void*) { return Absent(); }
CudaFailure CudaSteps::EndStep(int, const End&, void*) { return Absent(); }
CudaFailure CudaSteps::PushMask() { return Absent(); }
CudaFailure CudaSteps::AddCounts(int, int, const LocalCounts&, void*) { return Absent(); }
CudaFailure CudaSteps::Route(int, int, const RouteBatch&, int32_t*, void*) { return Absent(); }

}  // namespace evenkeel::kernels
