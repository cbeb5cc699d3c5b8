// SPDX-License-Identifier: Apache-2.0
//
// Npy: arrays of counts in NumPy's files, as people record and exchange them.
//
// Reads versions 1 to 3, C order, little-endian integers of 1 to 8 bytes, and float32 or float64 whose values
// are rounded to the nearest integer. Everything else is refused by name; NaN, negative and oversized values
// also by their place in the array.
//
// Errors:    kInvalidArgument for what is no such array, with the reason; those of file.h for files.
// Limits:    values are not negative and below 2^64; 8 dimensions; a file is read whole (kNpyBytesMax).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace evenkeel::cli {

inline constexpr size_t kNpyBytesMax = size_t{4} << 30;

struct NpyArray {
  std::vector<size_t> shape;
  std::vector<uint64_t> values;  // row-major
};

absl::StatusOr<NpyArray> ParseNpy(std::string_view bytes);
absl::StatusOr<NpyArray> ReadNpy(const std::string& path);

// A file of version 1 with values of 4 bytes where all fit, else of 8. Requires: as many values as `shape` says.
std::string RenderNpy(const NpyArray& array);

// Where value number `flat` of an array of this shape stands: "[2, 0, 17]". Requires: the shape holds it.
std::string PlaceText(const std::vector<size_t>& shape, size_t flat);

}  // namespace evenkeel::cli
