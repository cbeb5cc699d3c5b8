// SPDX-License-Identifier: Apache-2.0
//
// File: bytes from and to files that people name.
//
// Errors:    kNotFound for a file that cannot be opened, kResourceExhausted for one beyond the limit,
//            kUnavailable for one that cannot be read or written; each names the file.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace evenkeel::cli {

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t bytes_max);

// The file is whole or as it was before: written beside itself, then renamed.
absl::Status WriteFile(const std::string& path, std::string_view bytes);

// `result` as it is, its error with the file's name before it.
template <typename T>
absl::StatusOr<T> InFile(const std::string& path, absl::StatusOr<T> result) {
  if (result.ok()) return result;
  return absl::Status(result.status().code(), absl::StrCat(path, ": ", result.status().message()));
}

}  // namespace evenkeel::cli
