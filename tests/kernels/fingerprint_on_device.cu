// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include "kernels/fingerprint_cuda.h"
#include "tests/kernels/fingerprint_on_device.h"

namespace evenkeel::kernels {

namespace {

// Device memory that ends with the object.
class DeviceBytes {
 public:
  explicit DeviceBytes(size_t bytes) : error_(cudaMalloc(&data_, bytes + 1)) {}
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  ~DeviceBytes() { cudaFree(data_); }
  cudaError_t error() const { return error_; }
  unsigned char* data() const { return static_cast<unsigned char*>(data_); }

 private:
  void* data_ = nullptr;
  cudaError_t error_;
};

}  // namespace

bool HasDevice() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

DeviceSums FingerprintOnDevice(const std::vector<HostPart>& parts, int num_sums) {
  constexpr size_t kAlignment = 256;
  size_t total = 0;
  uint64_t num_bytes = 0;
  std::vector<size_t> offsets;
  for (const HostPart& part : parts) {
    offsets.push_back(total + part.misalignment);
    total = (offsets.back() + part.bytes.size() + kAlignment - 1) / kAlignment * kAlignment;
    num_bytes += part.bytes.size();
  }
  const DeviceBytes bytes(total), descriptions(parts.size() * sizeof(FingerprintPart)),
      sums(static_cast<size_t>(num_sums) * sizeof(uint64_t));
  std::vector<FingerprintPart> on_device;
  cudaError_t error = bytes.error();
  for (size_t i = 0; i < parts.size() && error == cudaSuccess; ++i) {
    const HostPart& part = parts[i];
    unsigned char* at = bytes.data() + offsets[i];
    error = cudaMemcpy(at, part.bytes.data(), part.bytes.size(), cudaMemcpyHostToDevice);
    on_device.push_back({at, part.bytes.size(), part.first_word, part.tensor, part.sum_idx});
  }
  const auto* list = reinterpret_cast<const FingerprintPart*>(descriptions.data());
  auto* results = reinterpret_cast<uint64_t*>(sums.data());
  if (error == cudaSuccess) {
    error = cudaMemcpy(descriptions.data(), on_device.data(), on_device.size() * sizeof(FingerprintPart),
                       cudaMemcpyHostToDevice);
  }
  cudaEvent_t begin = nullptr, end = nullptr;
  cudaEventCreate(&begin);
  cudaEventCreate(&end);
  DeviceSums answer;
  for (int launch = 0; launch < 2 && error == cudaSuccess; ++launch) {
    cudaEventRecord(begin);
    error = static_cast<cudaError_t>(
        LaunchFingerprintSums(list, static_cast<int>(parts.size()), results, num_sums, nullptr));
    cudaEventRecord(end);
  }
  answer.sums.resize(static_cast<size_t>(num_sums));
  if (error == cudaSuccess) {
    error = cudaMemcpy(answer.sums.data(), results, answer.sums.size() * sizeof(uint64_t), cudaMemcpyDeviceToHost);
  }
  float milliseconds = 0;
  if (error == cudaSuccess && cudaEventElapsedTime(&milliseconds, begin, end) == cudaSuccess && milliseconds > 0) {
    answer.gigabytes_per_second = static_cast<double>(num_bytes) / milliseconds / 1e6;
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  answer.error = error;
  return answer;
}

}  // namespace evenkeel::kernels
