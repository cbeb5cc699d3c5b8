// SPDX-License-Identifier: Apache-2.0
#include "tests/gpu/busy_steps.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace evenkeel::gpu {

namespace {

constexpr int kKernels = 16;  // of a step
constexpr size_t kReadBytes = size_t{2} << 30;

void Must(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(code));
  std::abort();
}

__global__ void Compute(float* out, int rounds) {
  float a = static_cast<float>(threadIdx.x), b = 0.5f, c = 0.25f, d = 0.125f;
  for (int i = 0; i < rounds; ++i) {
    a = fmaf(a, 0.999f, b);
    b = fmaf(b, 0.999f, c);
    c = fmaf(c, 0.999f, d);
    d = fmaf(d, 0.999f, a);
  }
  if (a + b + c + d == 12345.0f) *out = a;
}

__global__ void Read(const int4* from, size_t count, float* out) {
  int sum = 0;
  const size_t step = size_t{gridDim.x} * blockDim.x;
  for (size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    const int4 read = from[i];
    sum += read.x ^ read.y ^ read.z ^ read.w;
  }
  if (sum == 12345) *out = 1;
}

}  // namespace

struct BusySteps::State {
  cudaStream_t stream = nullptr;
  cudaGraphExec_t graph = nullptr;
  int num_processors = 0;
  float* out = nullptr;
  int4* data = nullptr;

  // One kernel of the step: `amount` rounds, or vectors read.
  void Capture(bool computes, size_t amount) {
    cudaGraph_t captured = nullptr;
    const auto blocks = static_cast<unsigned>(4 * num_processors);
    Must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "begin a capture");
    for (int i = 0; i < kKernels; ++i) {
      if (computes) {
        Compute<<<blocks, 512, 0, stream>>>(out, static_cast<int>(amount));
      } else {
        Read<<<blocks, 512, 0, stream>>>(data, amount, out);
      }
    }
    Must(cudaStreamEndCapture(stream, &captured), "end a capture");
    if (graph != nullptr) cudaGraphExecDestroy(graph);
    Must(cudaGraphInstantiate(&graph, captured, 0), "make a graph");
    cudaGraphDestroy(captured);
  }
};

BusySteps::BusySteps(const std::string& kind, double milliseconds) : state_(std::make_unique<State>()) {
  Must(cudaSetDevice(0), "use GPU 0");
  Must(cudaDeviceGetAttribute(&state_->num_processors, cudaDevAttrMultiProcessorCount, 0), "ask GPU 0");
  Must(cudaStreamCreateWithFlags(&state_->stream, cudaStreamNonBlocking), "make a stream");
  Must(cudaMalloc(&state_->out, sizeof(float)), "take memory");
  Must(cudaMalloc(&state_->data, kReadBytes), "take memory");
  Must(cudaMemset(state_->data, 1, kReadBytes), "fill memory");
  const bool computes = kind == "compute";
  const size_t most = kReadBytes / sizeof(int4);
  size_t amount = computes ? 10'000 : most / 16;
  for (int i = 0; i < 3; ++i) {
    state_->Capture(computes, amount);
    std::vector<double> times = Run(20);
    std::sort(times.begin(), times.end());
    amount = static_cast<size_t>(static_cast<double>(amount) * milliseconds / times[times.size() / 2]);
    if (!computes) amount = std::min(amount, most);
  }
  state_->Capture(computes, amount);
}

BusySteps::~BusySteps() {
  cudaStreamSynchronize(state_->stream);
  cudaGraphExecDestroy(state_->graph);
  cudaStreamDestroy(state_->stream);
  cudaFree(state_->out);
  cudaFree(state_->data);
}

std::vector<double> BusySteps::Run(int count) {
  std::vector<double> times;
  for (int i = 0; i < count; ++i) {
    const auto begun = std::chrono::steady_clock::now();
    Must(cudaGraphLaunch(state_->graph, state_->stream), "replay a graph");
    Must(cudaStreamSynchronize(state_->stream), "wait for a stream");
    times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun).count());
  }
  return times;
}

}  // namespace evenkeel::gpu
