// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include <cstring>

#include "engine/reference/cuda_experts.h"

namespace evenkeel::engine {

namespace {

constexpr int kThreads = 128;
constexpr int kPanel = 16;  // kPanelOutputs of kernel.h
constexpr int kStampWords = 4;

struct Stamp {
  uint64_t words[kStampWords];
};

bool Ok(cudaError_t code, const char* what, std::string* error) {
  if (code == cudaSuccess) return true;
  *error = std::string(what) + ": " + cudaGetErrorString(code);
  return false;
}

// As ExpInPlace of kernel.cc.
__device__ float Exponential(float x) {
  x = x > 88.0f ? 88.0f : x;
  x = x < -87.0f ? -87.0f : x;
  const float shifter = 12582912.0f;
  const float n = __fsub_rn(__fadd_rn(__fmul_rn(x, 1.44269504f), shifter), shifter);
  const float r = __fsub_rn(__fsub_rn(x, __fmul_rn(n, 0.693359375f)), __fmul_rn(n, -2.12194440e-4f));
  float p = __fadd_rn(__fmul_rn(r, 1.9875691500e-4f), 1.3981999507e-3f);
  p = __fadd_rn(__fmul_rn(p, r), 8.3334519073e-3f);
  p = __fadd_rn(__fmul_rn(p, r), 4.1665795894e-2f);
  p = __fadd_rn(__fmul_rn(p, r), 1.6666665459e-1f);
  p = __fadd_rn(__fmul_rn(p, r), 5.0000001201e-1f);
  p = __fadd_rn(__fadd_rn(__fmul_rn(p, __fmul_rn(r, r)), r), 1.0f);
  return __fmul_rn(p, __int_as_float((static_cast<int>(n) + 127) << 23));
}

// Output `out` of a matrix in panels, summed from the first input to the last.
__device__ float Dot(const float* panels, int in, int out, const float* x) {
  const float* panel = panels + static_cast<ptrdiff_t>(out / kPanel) * in * kPanel + out % kPanel;
  float sum = 0;
  for (int i = 0; i < in; ++i) sum = __fadd_rn(sum, __fmul_rn(x[i], panel[static_cast<ptrdiff_t>(i) * kPanel]));
  return sum;
}

__device__ bool Fits(const uint64_t* held, const Stamp& stamp) {
  const volatile uint64_t* words = held;
  bool fits = true;
  for (int i = 0; i < kStampWords; ++i) fits = fits && words[i] == stamp.words[i];
  return fits;
}

// One block a row.
__global__ void ExpertRows(CudaSlot slot, Stamp stamp, const float* x, int hidden, int width, float* y,
                           uint32_t* stale) {
  extern __shared__ float shared[];
  float* row = shared;
  float* middle = shared + hidden;
  if (threadIdx.x == 0 && !(Fits(slot.head, stamp) && Fits(slot.tail, stamp))) *stale = 1;
  __threadfence();
  const ptrdiff_t at = static_cast<ptrdiff_t>(blockIdx.x) * hidden;
  for (int i = static_cast<int>(threadIdx.x); i < hidden; i += kThreads) row[i] = x[at + i];
  __syncthreads();
  for (int o = static_cast<int>(threadIdx.x); o < width; o += kThreads) {
    const float gate = Dot(slot.gate, hidden, o, row);
    const float up = Dot(slot.up, hidden, o, row);
    middle[o] = __fmul_rn(__fdiv_rn(gate, __fadd_rn(Exponential(-gate), 1.0f)), up);
  }
  __syncthreads();
  for (int o = static_cast<int>(threadIdx.x); o < hidden; o += kThreads) y[at + o] = Dot(slot.down, width, o, middle);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0 && !(Fits(slot.head, stamp) && Fits(slot.tail, stamp))) *stale = 1;
}

}  // namespace

std::unique_ptr<CudaMemory> CudaMemory::Open(int rank, std::string* error) {
  int count = 0;
  if (!Ok(cudaGetDeviceCount(&count), "--device=cuda needs an NVIDIA GPU and its driver", error)) return nullptr;
  std::unique_ptr<CudaMemory> memory(new CudaMemory);
  memory->ordinal_ = rank % count;
  // A thread that waits sleeps: many ranks share a host's cores.
  if (!Ok(cudaSetDevice(memory->ordinal_), "choose a GPU", error)) return nullptr;
  if (!Ok(cudaSetDeviceFlags(cudaDeviceScheduleBlockingSync), "set up the GPU", error)) return nullptr;
  return memory;
}

CudaMemory::~CudaMemory() {
  cudaSetDevice(ordinal_);
  for (void* allocation : allocations_) cudaFree(allocation);
}

void* CudaMemory::Allocate(uint64_t bytes, std::string* error) {
  void* allocation = nullptr;
  if (!Ok(cudaSetDevice(ordinal_), "choose the GPU", error)) return nullptr;
  if (!Ok(cudaMalloc(&allocation, bytes), "take device memory", error)) return nullptr;
  allocations_.push_back(allocation);
  if (!Ok(cudaMemset(allocation, 0, bytes), "clear device memory", error)) return nullptr;
  return allocation;
}

bool CudaMemory::Fill(void* to, const void* from, uint64_t bytes, std::string* error) {
  return Ok(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "fill device memory", error);
}

std::unique_ptr<CudaRows> CudaRows::Create(int ordinal, int hidden, int width, std::string* error) {
  std::unique_ptr<CudaRows> rows(new CudaRows);
  rows->ordinal_ = ordinal;
  rows->hidden_ = hidden;
  rows->width_ = width;
  cudaStream_t stream = nullptr;
  void* stale = nullptr;
  if (!Ok(cudaSetDevice(ordinal), "choose the GPU", error)) return nullptr;
  if (!Ok(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "make a stream", error)) return nullptr;
  rows->stream_ = stream;
  if (!Ok(cudaMallocHost(&stale, sizeof(uint32_t)), "take pinned memory", error)) return nullptr;
  rows->stale_ = static_cast<uint32_t*>(stale);
  return rows->Reserve(256, error) ? std::move(rows) : nullptr;
}

CudaRows::~CudaRows() {
  cudaSetDevice(ordinal_);
  if (x_ != nullptr) cudaFreeHost(x_);
  if (y_ != nullptr) cudaFreeHost(y_);
  if (stale_ != nullptr) cudaFreeHost(stale_);
  if (stream_ != nullptr) cudaStreamDestroy(static_cast<cudaStream_t>(stream_));
}

bool CudaRows::Reserve(int num_rows, std::string* error) {
  if (num_rows <= rows_max_) return true;
  if (x_ != nullptr) cudaFreeHost(x_);
  if (y_ != nullptr) cudaFreeHost(y_);
  x_ = y_ = nullptr;
  rows_max_ = 0;
  const size_t bytes = static_cast<size_t>(num_rows) * static_cast<size_t>(hidden_) * sizeof(float);
  void *x = nullptr, *y = nullptr;
  if (!Ok(cudaMallocHost(&x, bytes), "take pinned memory", error)) return false;
  x_ = static_cast<float*>(x);
  if (!Ok(cudaMallocHost(&y, bytes), "take pinned memory", error)) return false;
  y_ = static_cast<float*>(y);
  rows_max_ = num_rows;
  return true;
}

bool CudaRows::Compute(const CudaSlot& slot, const uint64_t stamp[4], const float* x, int num_rows, int stride,
                       float* y, bool* fits, std::string* error) {
  if (!Ok(cudaSetDevice(ordinal_), "choose the GPU", error) || !Reserve(num_rows, error)) return false;
  Stamp expected;
  std::memcpy(expected.words, stamp, sizeof(expected.words));
  const size_t row_floats = static_cast<size_t>(hidden_);
  for (int row = 0; row < num_rows; ++row) {
    std::memcpy(x_ + static_cast<size_t>(row) * row_floats, x + static_cast<ptrdiff_t>(row) * stride,
                row_floats * sizeof(float));
  }
  *stale_ = 0;
  const auto stream = static_cast<cudaStream_t>(stream_);
  const size_t shared = static_cast<size_t>(hidden_ + width_) * sizeof(float);
  ExpertRows<<<static_cast<unsigned>(num_rows), kThreads, shared, stream>>>(slot, expected, x_, hidden_, width_, y_,
                                                                            stale_);
  if (!Ok(cudaGetLastError(), "compute an expert", error)) return false;
  if (!Ok(cudaStreamSynchronize(stream), "compute an expert", error)) return false;
  std::memcpy(y, y_, static_cast<size_t>(num_rows) * row_floats * sizeof(float));
  *fits = *stale_ == 0;
  return true;
}

}  // namespace evenkeel::engine
