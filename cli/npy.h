// SPDX-License-Identifier: Apache-2.0
//
// Npy: token counts from NumPy files, as people record and exchange them.
//
// Reads versions 1 to 3, C order, little-endian integers of 1 to 8 bytes, and float32 or float64 whose values
// are rounded to the nearest integer. Everything else is refused by name.
//
// Errors:    kInvalidArgument for what is no such array, with the reason; kNotFound for a file that cannot be
//            opened, kUnavailable for one that cannot be read.
// Limits:    values are not negative and below 2^64; a file is read whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "algos/problem.h"

namespace evenkeel::cli {

struct NpyArray {
  std::vector<size_t> shape;
  std::vector<uint64_t> values;  // row-major
};

absl::StatusOr<NpyArray> ParseNpy(std::string_view bytes);
absl::StatusOr<NpyArray> ReadNpy(const std::string& path);

// [layers, experts] is one load, [windows, layers, experts] one for each window, in order.
absl::StatusOr<std::vector<algos::Load>> LoadsOf(const NpyArray& array);

}  // namespace evenkeel::cli
