// SPDX-License-Identifier: Apache-2.0
#include "cli/files/file.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace evenkeel::cli {

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t bytes_max) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    return absl::NotFoundError(absl::StrCat("open ", path, ": it is a folder"));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("open ", path, ": no such file, or no permission"));
  std::string bytes;
  constexpr size_t kPiece = size_t{1} << 20;
  while (file) {
    const size_t had = bytes.size();
    bytes.resize(had + kPiece);
    file.read(bytes.data() + had, static_cast<std::streamsize>(kPiece));
    bytes.resize(had + static_cast<size_t>(file.gcount()));
    if (bytes.size() > bytes_max) {
      return absl::ResourceExhaustedError(absl::StrCat("read ", path, ": more than ", bytes_max, " bytes"));
    }
  }
  if (file.bad()) return absl::UnavailableError(absl::StrCat("read ", path, ": failed"));
  return bytes;
}

absl::Status WriteFile(const std::string& path, std::string_view bytes) {
  std::error_code error;
  if (std::filesystem::exists(path, error) && !std::filesystem::is_regular_file(path, error)) {
    std::ofstream device(path, std::ios::binary);  // a pipe or /dev/stdout: nothing to rename
    device << bytes << std::flush;
    return device ? absl::OkStatus() : absl::UnavailableError(absl::StrCat("write ", path, ": failed"));
  }
  const std::string beside = absl::StrCat(path, ".", getpid(), ".part");
  {
    std::ofstream file(beside, std::ios::binary | std::ios::trunc);
    file << bytes << std::flush;
    if (!file) {
      std::filesystem::remove(beside, error);
      return absl::UnavailableError(
          absl::StrCat("write ", path, ": failed; is there such a folder, room in it, and permission"));
    }
  }
  std::filesystem::rename(beside, path, error);
  if (error) {
    const std::string why = error.message();
    std::filesystem::remove(beside, error);
    return absl::UnavailableError(absl::StrCat("write ", path, ": ", why));
  }
  return absl::OkStatus();
}

}  // namespace evenkeel::cli
