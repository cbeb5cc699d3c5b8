// SPDX-License-Identifier: Apache-2.0
#include "cli/files/file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/memory/memory.h"

#include "algos/base/status_macros.h"

namespace evenkeel::cli {

namespace {

namespace fs = std::filesystem;

absl::Status CannotWrite(const std::string& path, std::string_view why) {
  return absl::UnavailableError(absl::StrCat("write ", path, ": ", std::string(why)));
}

// Whether `path` could be created, or replaced; nothing is.
absl::Status CheckWritable(const std::string& path) {
  const auto wrong = [&](const char* why) {
    return absl::InvalidArgumentError(absl::StrCat("write ", path, ": ", why));
  };
  std::error_code error;
  if (path.empty()) return absl::InvalidArgumentError("write a file: its name is empty");
  if (fs::is_directory(path, error)) return wrong("it is a folder");
  fs::path folder = fs::path(path).parent_path();
  if (folder.empty()) folder = ".";
  if (!fs::is_directory(folder, error)) return wrong("there is no such folder");
  const bool special = fs::exists(path, error) && !fs::is_regular_file(path, error);
  if (access(special ? path.c_str() : folder.c_str(), W_OK) != 0) {
    return wrong(special ? "no permission to write to it" : "no permission to write into its folder");
  }
  return absl::OkStatus();
}

bool IsSameFile(const std::string& a, const std::string& b) {
  std::error_code error;
  if (fs::equivalent(a, b, error)) return true;
  return fs::weakly_canonical(a, error) == fs::weakly_canonical(b, error);
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t bytes_max) {
  std::error_code error;
  if (fs::is_directory(path, error)) {
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

absl::StatusOr<std::unique_ptr<OutFile>> OutFile::Create(const std::string& path) {
  EVENKEEL_RETURN_IF_ERROR(CheckWritable(path));
  std::error_code error;
  const bool special = fs::exists(path, error) && !fs::is_regular_file(path, error);
  auto file = absl::WrapUnique(new OutFile(path, special ? "" : absl::StrCat(path, ".", getpid(), ".part")));
  if (!file->file_) return CannotWrite(path, std::strerror(errno));
  return file;
}

OutFile::OutFile(std::string path, std::string beside)
    : path_(std::move(path)),
      beside_(std::move(beside)),
      file_(beside_.empty() ? path_ : beside_, std::ios::binary | std::ios::trunc) {}

OutFile::~OutFile() {
  std::error_code error;
  if (file_.is_open() && !beside_.empty()) fs::remove(beside_, error);
}

absl::Status OutFile::Commit() {
  file_ << std::flush;
  if (!file_) return CannotWrite(path_, "failed; is there room in its folder?");
  std::error_code error;
  if (!beside_.empty()) fs::rename(beside_, path_, error);
  if (error) return CannotWrite(path_, error.message());
  file_.close();
  return absl::OkStatus();
}

absl::Status WriteFile(const std::string& path, std::string_view bytes) {
  EVENKEEL_ASSIGN_OR_RETURN(const std::unique_ptr<OutFile> file, OutFile::Create(path));
  file->Write(bytes);
  return file->Commit();
}

absl::Status CheckOutputs(const std::vector<NamedPath>& outputs, const std::vector<NamedPath>& inputs) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto& [option, path] = outputs[i];
    if (const absl::Status writable = CheckWritable(path); !writable.ok()) {
      return absl::Status(writable.code(), absl::StrCat(option, ": ", writable.message()));
    }
    for (size_t j = 0; j < i; ++j) {
      if (IsSameFile(path, outputs[j].path)) {
        return absl::InvalidArgumentError(absl::StrCat(outputs[j].option, " and ", option, " are one file: ", path));
      }
    }
    for (const NamedPath& input : inputs) {
      if (IsSameFile(path, input.path)) {
        return absl::InvalidArgumentError(
            absl::StrCat(option, "=", path, " would replace what is read: ", input.option, " is that file"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace evenkeel::cli
