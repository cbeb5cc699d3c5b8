// SPDX-License-Identifier: Apache-2.0
//
// Safetensors: a strict reader of model files whose tensors are all fp16.
//
// A file is a 64-bit header length, a JSON header and the tensors' bytes. Anything out of order is refused: lengths
// beyond the file, other dtypes, shapes that do not match their bytes, overlaps, holes, names given twice.
//
// Threads:   none; constant after Parse.
// Owns:      the file's bytes.
// Limits:    a header of 64 MiB, tensors of 8 dimensions.
// Errors:    kNotFound (no such file), kInvalidArgument (bad content, with the tensor's name).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace evenkeel::engine {

// IEEE 754 half precision to single; exact.
float HalfToFloat(uint16_t half);

class Safetensors {
 public:
  struct Tensor {
    std::vector<int64_t> shape;
    uint64_t begin = 0;  // bytes, from the end of the header
    uint64_t end = 0;
  };

  static absl::StatusOr<Safetensors> Parse(std::string bytes);
  static absl::StatusOr<Safetensors> ReadFile(const std::string& path);

  const absl::btree_map<std::string, Tensor>& tensors() const { return tensors_; }

  // The values of `name`, row-major, as fp32. Fails unless the tensor has exactly `shape`.
  absl::StatusOr<std::vector<float>> Read(absl::string_view name, const std::vector<int64_t>& shape) const;

  // Digest of the whole file: equal for equal weights.
  uint64_t digest() const;

 private:
  Safetensors() = default;

  std::string bytes_;
  uint64_t data_offset_ = 0;
  absl::btree_map<std::string, Tensor> tensors_;
};

}  // namespace evenkeel::engine
