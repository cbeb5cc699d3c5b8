// SPDX-License-Identifier: Apache-2.0
//
// DeviceStream: a CUDA stream that a test can hold up, and graphs captured on it, without CUDA headers.
//
// Failures of CUDA end the process with what failed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace evenkeel::gpu {

class DeviceStream {
 public:
  DeviceStream();  // of GPU 0, ordered with no other stream
  ~DeviceStream();

  void* get() const;
  // What is enqueued from now on waits for Release.
  void Hold();
  void Release();
  // A kernel that copies `bytes` of device memory when the stream gets to it.
  void Read(const void* from, void* to, uint64_t bytes);
  // What `enqueue` puts on the stream is captured, and run as often as Replay is called.
  void Capture(const std::function<void()>& enqueue);
  void Replay();
  bool IsDone() const;
  void Wait() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

void Fetch(void* to, const void* from, uint64_t bytes);

}  // namespace evenkeel::gpu
