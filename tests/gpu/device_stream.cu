// SPDX-License-Identifier: Apache-2.0
#include "tests/gpu/device_stream.h"

#include <cuda_runtime.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace evenkeel::gpu {

namespace {

void Must(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(code));
  std::abort();
}

__global__ void Copy(const unsigned char* from, unsigned char* to, uint64_t bytes) {
  const uint64_t step = uint64_t{gridDim.x} * blockDim.x;
  for (uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < bytes; i += step) to[i] = from[i];
}

}  // namespace

struct DeviceStream::State {
  cudaStream_t stream = nullptr;
  cudaGraphExec_t graph = nullptr;
  int releases[2] = {};  // a pipe: a byte ends a hold, as does its end
};

DeviceStream::DeviceStream() : state_(std::make_unique<State>()) {
  Must(cudaSetDevice(0), "use GPU 0");
  Must(cudaStreamCreateWithFlags(&state_->stream, cudaStreamNonBlocking), "make a stream");
  if (::pipe(state_->releases) != 0) std::abort();
}

DeviceStream::~DeviceStream() {
  ::close(state_->releases[1]);
  cudaStreamSynchronize(state_->stream);
  ::close(state_->releases[0]);
  if (state_->graph != nullptr) cudaGraphExecDestroy(state_->graph);
  cudaStreamDestroy(state_->stream);
}

void* DeviceStream::get() const { return state_->stream; }

void DeviceStream::Hold() {
  const cudaHostFn_t wait = [](void* context) {
    char byte = 0;
    if (::read(static_cast<State*>(context)->releases[0], &byte, 1) < 0) std::abort();
  };
  Must(cudaLaunchHostFunc(state_->stream, wait, state_.get()), "hold a stream");
}

void DeviceStream::Release() {
  if (::write(state_->releases[1], "", 1) != 1) std::abort();
}

void DeviceStream::Read(const void* from, void* to, uint64_t bytes) {
  Copy<<<64, 256, 0, state_->stream>>>(static_cast<const unsigned char*>(from), static_cast<unsigned char*>(to), bytes);
  Must(cudaGetLastError(), "read in the order of a stream");
}

void DeviceStream::Capture(const std::function<void()>& enqueue) {
  cudaGraph_t graph = nullptr;
  Must(cudaStreamBeginCapture(state_->stream, cudaStreamCaptureModeGlobal), "begin a capture");
  enqueue();
  Must(cudaStreamEndCapture(state_->stream, &graph), "end a capture");
  Must(cudaGraphInstantiate(&state_->graph, graph, 0), "make a graph");
  cudaGraphDestroy(graph);
}

void DeviceStream::Replay() { Must(cudaGraphLaunch(state_->graph, state_->stream), "replay a graph"); }
bool DeviceStream::IsDone() const { return cudaStreamQuery(state_->stream) == cudaSuccess; }
void DeviceStream::Wait() const { Must(cudaStreamSynchronize(state_->stream), "wait for a stream"); }

void Fetch(void* to, const void* from, uint64_t bytes) {
  Must(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "fetch");
}

}  // namespace evenkeel::gpu
