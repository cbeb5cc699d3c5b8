// SPDX-License-Identifier: Apache-2.0
//
// File: bytes from and to files that people name.
//
// Errors:    kNotFound for a file that cannot be opened, kResourceExhausted for one beyond the limit,
//            kInvalidArgument for a name that cannot be written to, kUnavailable for one that cannot be read or
//            written; each names the file.
#pragma once

#include <cstddef>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace evenkeel::cli {

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t bytes_max);

// A file written piece by piece. It has its name once it is committed, whole; until then, and for ever if it is not, the
// name stands for what it stood for before. What is no regular file (a pipe, /dev/stdout) is written to at once.
class OutFile {
 public:
  static absl::StatusOr<std::unique_ptr<OutFile>> Create(const std::string& path);
  ~OutFile();
  OutFile(const OutFile&) = delete;
  OutFile& operator=(const OutFile&) = delete;

  void Write(std::string_view bytes) { file_ << bytes; }  // errors are told by Commit
  absl::Status Commit();

 private:
  OutFile(std::string path, std::string beside);

  const std::string path_;
  const std::string beside_;  // empty: `path_` is written to at once
  std::ofstream file_;
};

// All of a file at once.
absl::Status WriteFile(const std::string& path, std::string_view bytes);

struct NamedPath {
  std::string option;  // as people give it: "--out"
  std::string path;
};

// For before long work: each output can be created or replaced, no two are one file, and none is one of the inputs.
absl::Status CheckOutputs(const std::vector<NamedPath>& outputs, const std::vector<NamedPath>& inputs = {});

// `result` as it is, its error with the file's name before it.
template <typename T>
absl::StatusOr<T> InFile(const std::string& path, absl::StatusOr<T> result) {
  if (result.ok()) return result;
  return absl::Status(result.status().code(), absl::StrCat(path, ": ", result.status().message()));
}

}  // namespace evenkeel::cli
