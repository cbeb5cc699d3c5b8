// SPDX-License-Identifier: Apache-2.0
#include <cuda.h>
#include <cuda_runtime.h>
#include <sys/prctl.h>
#include <time.h>

#include <cstring>
#include <vector>

#include "kernels/cuda_failure.h"
#include "kernels/cuda_memory.h"
#include "kernels/fingerprint_cuda.h"

namespace evenkeel::kernels {

namespace {

// Of one launch.
constexpr int kPartsMax = 4096;
constexpr int kSumsMax = 1024;
constexpr char kCopying[] = "copy on the GPU";
constexpr uint64_t kScratchBytes = kPartsMax * sizeof(FingerprintPart) + kSumsMax * sizeof(uint64_t);

// For as long as it lives the thread's sleeps end when they are to, not up to 50 us later.
class ShortSleeps {
 public:
  ShortSleeps() : before_(::prctl(PR_GET_TIMERSLACK)) { ::prctl(PR_SET_TIMERSLACK, 1000ul); }
  ShortSleeps(const ShortSleeps&) = delete;
  ShortSleeps& operator=(const ShortSleeps&) = delete;
  ~ShortSleeps() {
    if (before_ > 0) ::prctl(PR_SET_TIMERSLACK, static_cast<unsigned long>(before_));
  }

  void Sleep() const {
    const timespec pause = {0, 10'000};
    ::nanosleep(&pause, nullptr);
  }

 private:
  const int before_;
};

using PointerGetAttribute = CUresult (*)(void*, CUpointer_attribute, CUdeviceptr);

template <typename T>
bool Ask(PointerGetAttribute ask, CUpointer_attribute attribute, const void* data, T* value) {
  return ask(value, attribute, reinterpret_cast<CUdeviceptr>(data)) == CUDA_SUCCESS;
}

}  // namespace

CudaFailure ExportCudaMemory(const void* data, ExportedMemory* exported) {
  constexpr char kWhat[] = "CUDA IPC cannot export it";
  cudaPointerAttributes attributes = {};
  CudaFailure failure = Check(kWhat, cudaPointerGetAttributes(&attributes, data));
  if (!failure.ok()) return failure;
  if (attributes.type == cudaMemoryTypeManaged) return Fail(kWhat, "managed memory; take it by cudaMalloc");
  if (attributes.type != cudaMemoryTypeDevice) return Fail(kWhat, "no device memory is at this address");
  const auto ask = DriverFunction<PointerGetAttribute>("cuPointerGetAttribute");
  CUdeviceptr base = 0;
  size_t bytes = 0;
  if (ask == nullptr || !Ask(ask, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, data, &base) ||
      !Ask(ask, CU_POINTER_ATTRIBUTE_RANGE_SIZE, data, &bytes)) {
    return Fail(kWhat, "the driver does not say which allocation it belongs to");
  }
  CUmemoryPool pool = nullptr;
  if (Ask(ask, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, data, &pool) && pool != nullptr) {
    return Fail(kWhat, "of a stream-ordered pool (cudaMallocAsync); set PYTORCH_CUDA_ALLOC_CONF=backend:native");
  }
  int capable = 1;
  if (Ask(ask, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, data, &capable) && capable == 0) {
    return Fail(kWhat,
                "mapped by cuMemMap (expandable segments); set "
                "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:False");
  }
  cudaIpcMemHandle_t handle;
  failure = Check(kWhat, cudaIpcGetMemHandle(&handle, reinterpret_cast<void*>(base)));
  if (!failure.ok()) return failure;
  cudaDeviceProp properties;
  failure = Check(kWhat, cudaGetDeviceProperties(&properties, attributes.device));
  if (!failure.ok()) return failure;
  static_assert(sizeof(handle) == sizeof(exported->handle), "the region keeps whole handles");
  static_assert(sizeof(properties.uuid) == sizeof(exported->device), "the region keeps whole identities");
  std::memcpy(exported->device.bytes, &properties.uuid, sizeof(exported->device));
  std::memcpy(exported->handle.bytes, &handle, sizeof(handle));
  exported->base = base;
  exported->bytes = bytes;
  return {};
}

CudaFailure CudaDevice::Open(const CudaUuid& uuid, std::unique_ptr<CudaDevice>* device) {
  constexpr char kWhat[] = "open the engine's GPU";
  int count = 0;
  CudaFailure failure = Check(kWhat, cudaGetDeviceCount(&count));
  if (!failure.ok()) return failure;
  int ordinal = -1;
  for (int i = 0; i < count && ordinal < 0; ++i) {
    cudaDeviceProp properties;
    failure = Check(kWhat, cudaGetDeviceProperties(&properties, i));
    if (!failure.ok()) return failure;
    if (std::memcmp(&properties.uuid, uuid.bytes, sizeof(uuid.bytes)) == 0) ordinal = i;
  }
  if (ordinal < 0) return Fail(kWhat, "this process does not see it (CUDA_VISIBLE_DEVICES, container)");
  std::unique_ptr<CudaDevice> made(new CudaDevice);
  made->ordinal_ = ordinal;
  int lowest = 0, highest = 0;
  if (!(failure = Check(kWhat, cudaSetDevice(ordinal))).ok()) return failure;
  if (!(failure = Check(kWhat, cudaDeviceGetStreamPriorityRange(&lowest, &highest))).ok()) return failure;
  cudaStream_t stream = nullptr;
  failure = Check(kWhat, cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, lowest));
  if (!failure.ok()) return failure;
  made->stream_ = stream;
  cudaEvent_t event = nullptr;
  if (!(failure = Check(kWhat, cudaEventCreateWithFlags(&event, cudaEventDisableTiming))).ok()) return failure;
  made->event_ = event;
  if (!(failure = Check(kWhat, cudaMalloc(&made->scratch_, kScratchBytes))).ok()) return failure;
  *device = std::move(made);
  return {};
}

CudaDevice::~CudaDevice() {
  cudaSetDevice(ordinal_);
  if (stream_ != nullptr) cudaStreamSynchronize(static_cast<cudaStream_t>(stream_));
  if (scratch_ != nullptr) cudaFree(scratch_);
  if (event_ != nullptr) cudaEventDestroy(static_cast<cudaEvent_t>(event_));
  if (stream_ != nullptr) cudaStreamDestroy(static_cast<cudaStream_t>(stream_));
}

CudaFailure CudaDevice::Map(const CudaIpcHandle& handle, void** base) {
  CudaFailure failure = Check("map device memory", cudaSetDevice(ordinal_));
  if (!failure.ok()) return failure;
  cudaIpcMemHandle_t native;
  std::memcpy(&native, handle.bytes, sizeof(native));
  return Check("map device memory of another process",
               cudaIpcOpenMemHandle(base, native, cudaIpcMemLazyEnablePeerAccess));
}

void CudaDevice::Unmap(void* base) {
  cudaSetDevice(ordinal_);
  cudaIpcCloseMemHandle(base);
}

void CudaDevice::Copy(void* to, const void* from, uint64_t bytes) {
  to_.push_back(to);
  from_.push_back(from);
  bytes_.push_back(bytes);
}

CudaFailure CudaDevice::Submit() {
  if (to_.empty()) return {};
  CudaFailure failure = Check(kCopying, cudaSetDevice(ordinal_));
  if (failure.ok()) failure = CUDART_VERSION >= 13000 ? EnqueueBatch() : EnqueueEach();
  to_.clear();
  from_.clear();
  bytes_.clear();
  return failure;
}

CudaFailure CudaDevice::EnqueueBatch() {
#if CUDART_VERSION >= 13000
  cudaMemcpyAttributes attributes = {};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  size_t first = 0;  // copy that the attributes begin with
  return Check(kCopying, cudaMemcpyBatchAsync(to_.data(), from_.data(), bytes_.data(), to_.size(), &attributes, &first,
                                              1, static_cast<cudaStream_t>(stream_)));
#else
  return EnqueueEach();
#endif
}

CudaFailure CudaDevice::EnqueueEach() {
  CudaFailure failure;
  for (size_t i = 0; i < to_.size() && failure.ok(); ++i) {
    failure = Check(kCopying, cudaMemcpyAsync(to_[i], from_[i], bytes_[i], cudaMemcpyDeviceToDevice,
                                              static_cast<cudaStream_t>(stream_)));
  }
  return failure;
}

CudaFailure CudaDevice::Wait() {
  constexpr char kWhat[] = "wait for the GPU";
  const CudaFailure submitted = Submit();
  CudaFailure failure = Check(kWhat, cudaSetDevice(ordinal_));
  const auto event = static_cast<cudaEvent_t>(event_);
  // Also where not all could be enqueued: some may be under way.
  if (failure.ok()) failure = Check(kWhat, cudaEventRecord(event, static_cast<cudaStream_t>(stream_)));
  if (failure.ok()) {
    const ShortSleeps sleeps;
    cudaError_t code = cudaEventQuery(event);
    for (; code == cudaErrorNotReady; code = cudaEventQuery(event)) sleeps.Sleep();
    failure = Check(kWhat, code);
  }
  return submitted.ok() ? failure : submitted;
}

CudaFailure CudaDevice::FingerprintSums(const DeviceBytes* parts, int num_parts, uint64_t* sums, int num_sums) {
  constexpr char kWhat[] = "fingerprint on the GPU";
  CudaFailure failure = Check(kWhat, cudaSetDevice(ordinal_));
  if (!failure.ok()) return failure;
  const auto stream = static_cast<cudaStream_t>(stream_);
  auto* device_parts = static_cast<FingerprintPart*>(scratch_);
  auto* device_sums = reinterpret_cast<uint64_t*>(device_parts + kPartsMax);
  std::memset(sums, 0, static_cast<size_t>(num_sums) * sizeof(uint64_t));
  std::vector<FingerprintPart> batch;
  std::vector<uint64_t> partial(kSumsMax);
  for (int next = 0; next < num_parts;) {
    // Of one launch: parts whose sums lie within kSumsMax of the first one's.
    const uint32_t first_sum = parts[next].sum_idx;
    batch.clear();
    for (; next < num_parts && batch.size() < kPartsMax; ++next) {
      const DeviceBytes& part = parts[next];
      if (part.sum_idx < first_sum || part.sum_idx - first_sum >= kSumsMax) break;
      batch.push_back({part.data, part.bytes, 0, part.tensor, part.sum_idx - first_sum});
    }
    const size_t bytes = batch.size() * sizeof(FingerprintPart);
    failure = Check(kWhat, cudaMemcpyAsync(device_parts, batch.data(), bytes, cudaMemcpyHostToDevice, stream));
    if (!failure.ok()) return failure;
    const int launched =
        LaunchFingerprintSums(device_parts, static_cast<int>(batch.size()), device_sums, kSumsMax, stream);
    failure = Check(kWhat, static_cast<cudaError_t>(launched));
    if (!failure.ok()) return failure;
    failure = Check(kWhat, cudaMemcpyAsync(partial.data(), device_sums, kSumsMax * sizeof(uint64_t),
                                           cudaMemcpyDeviceToHost, stream));
    if (!failure.ok()) return failure;
    if (!(failure = Wait()).ok()) return failure;
    for (int i = 0; i < kSumsMax && first_sum + static_cast<uint32_t>(i) < static_cast<uint32_t>(num_sums); ++i) {
      sums[first_sum + static_cast<uint32_t>(i)] += partial[static_cast<size_t>(i)];
    }
  }
  return {};
}

uint64_t CudaDevice::scratch_bytes() { return kScratchBytes; }

}  // namespace evenkeel::kernels
