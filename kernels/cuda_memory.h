// SPDX-License-Identifier: Apache-2.0
//
// CudaMemory: device memory that processes share through CUDA IPC handles, and one GPU as a process copies and
// fingerprints on it.
//
// The CUDA runtime is linked in; it opens the driver when it is first asked. Where there is none, and in a build without
// nvcc, every call fails with a sentence that says so.
//
// Threads:   ExportCudaMemory: any. A CudaDevice: one thread at a time; several may be made for one GPU.
// Memory:    of the GPU a CudaDevice takes scratch_bytes() when it is opened, none later. A process's first use of a GPU
//            costs a context besides.
// Errors:    are sentences, without the final stop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace evenkeel::kernels {

struct [[nodiscard]] CudaFailure {
  bool failed = false;
  char text[224] = "";

  bool ok() const { return !failed; }
};

struct CudaUuid {
  unsigned char bytes[16] = {};
};

struct CudaIpcHandle {
  unsigned char bytes[64] = {};
};

// An allocation as other processes can map it.
struct ExportedMemory {
  CudaUuid device;
  CudaIpcHandle handle;
  uint64_t base = 0;  // here
  uint64_t bytes = 0;
};

// The allocation that `data` lies in. What CUDA IPC cannot export is refused by name.
CudaFailure ExportCudaMemory(const void* data, ExportedMemory* exported);

// A run of bytes of tensor `tensor` of the expert `sum_idx`.
struct DeviceBytes {
  const void* data = nullptr;
  uint64_t bytes = 0;
  uint32_t tensor = 0;
  uint32_t sum_idx = 0;
};

class CudaDevice {
 public:
  static CudaFailure Open(const CudaUuid& uuid, std::unique_ptr<CudaDevice>* device);
  ~CudaDevice();

  // Maps an allocation of another process, on this GPU or on one that it can read.
  CudaFailure Map(const CudaIpcHandle& handle, void** base);
  // Requires: nothing enqueued uses it.
  void Unmap(void* base);

  // One of the copies that the next Submit or Wait enqueues together: in no order among themselves, at the lowest
  // priority. Requires: bytes > 0.
  void Copy(void* to, const void* from, uint64_t bytes);
  // Enqueues them, as one batch where CUDA has batches: a copy alone costs its 3 to 9 us, in a batch a fraction.
  CudaFailure Submit();
  // Until all of them are done. Sleeps in short pieces: to be woken by the driver costs 60 us more.
  CudaFailure Wait();

  // sums[i] of all parts with sum_idx i (kernels/host/fingerprint.h): few launches, waits for them.
  CudaFailure FingerprintSums(const DeviceBytes* parts, int num_parts, uint64_t* sums, int num_sums);

  static uint64_t scratch_bytes();

 private:
  CudaDevice() = default;

  int ordinal_ = 0;
  CudaFailure EnqueueBatch();
  CudaFailure EnqueueEach();

  void* stream_ = nullptr;
  void* event_ = nullptr;
  void* scratch_ = nullptr;
  // To be enqueued; parallel.
  std::vector<void*> to_;
  std::vector<const void*> from_;
  std::vector<size_t> bytes_;
};

}  // namespace evenkeel::kernels
