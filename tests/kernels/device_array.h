// SPDX-License-Identifier: Apache-2.0
//
// DeviceArray: device memory of a test that ends with the object.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <vector>

namespace evenkeel::kernels {

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t size) : size_(size), error_(cudaMalloc(&data_, size * sizeof(T) + sizeof(T))) {
    if (error_ == cudaSuccess) error_ = cudaMemset(data_, 0, size * sizeof(T));
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) { Write(values); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }

  void Write(const std::vector<T>& values) {
    if (error_ != cudaSuccess || values.empty()) return;
    error_ = cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice);
  }
  std::vector<T> Read() const {
    std::vector<T> values(size_);
    if (error_ == cudaSuccess && size_ > 0) {
      error_ = cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost);
    }
    return values;
  }
  T* data() const { return static_cast<T*>(data_); }
  // The first failure.
  cudaError_t error() const { return error_; }

 private:
  void* data_ = nullptr;
  size_t size_;
  mutable cudaError_t error_;
};

}  // namespace evenkeel::kernels
