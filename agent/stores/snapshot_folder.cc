// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/snapshot_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"

namespace evenkeel::agent {

namespace {

constexpr char kUnfinished[] = ".new";
constexpr mode_t kFileMode = 0640;
constexpr mode_t kFolderMode = 0750;

absl::Status FromErrno(int error, absl::string_view doing, absl::string_view path) {
  const std::string text = absl::StrCat(doing, " ", path);
  if (error == EFBIG) return absl::ResourceExhaustedError(absl::StrCat(text, ": the file may not get so large"));
  if (error == EROFS) return absl::PermissionDeniedError(absl::StrCat(text, ": the file system is read-only"));
  if (error == EIO) return absl::UnavailableError(absl::StrCat(text, ": the disk fails"));
  return absl::ErrnoToStatus(error, text);
}

int64_t Nanoseconds(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

std::string UnfinishedEnd(const std::string& writer) { return absl::StrCat(".", writer, kUnfinished); }

absl::Status ReadAll(int fd, uint64_t at, std::span<std::byte> to, const std::string& path) {
  while (!to.empty()) {
    const ssize_t got = ::pread(fd, to.data(), to.size(), static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FromErrno(errno, "read", path);
    if (got == 0) return absl::DataLossError(absl::StrCat("read ", path, ": it ends at ", at));
    at += static_cast<uint64_t>(got);
    to = to.subspan(static_cast<size_t>(got));
  }
  return absl::OkStatus();
}

absl::Status WriteAll(int fd, uint64_t at, std::span<const std::byte> from, const std::string& path) {
  while (!from.empty()) {
    const ssize_t put = ::pwrite(fd, from.data(), from.size(), static_cast<off_t>(at));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return FromErrno(errno, "write", path);
    at += static_cast<uint64_t>(put);
    from = from.subspan(static_cast<size_t>(put));
  }
  return absl::OkStatus();
}

absl::Status Synchronise(const std::string& folder) {
  const OpenFile file(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (file.fd() < 0 || ::fsync(file.fd()) != 0) return FromErrno(errno, "synchronise", folder);
  return absl::OkStatus();
}

absl::StatusOr<SnapshotHeader> ReadHeader(int fd, uint64_t file_bytes, const std::string& path) {
  std::string bytes(std::min(file_bytes, SnapshotHeader::kPreambleBytes), '\0');
  const auto room = [&bytes] { return std::as_writable_bytes(std::span(bytes)); };
  EVENKEEL_RETURN_IF_ERROR(ReadAll(fd, 0, room(), path));
  EVENKEEL_ASSIGN_OR_RETURN(const uint64_t header_bytes, HeaderBytes(bytes));
  bytes.resize(std::min(file_bytes, header_bytes));
  EVENKEEL_RETURN_IF_ERROR(ReadAll(fd, 0, room(), path));
  return DecodeSnapshotHeader(bytes);
}

}  // namespace

OpenFile::~OpenFile() {
  if (fd_ >= 0) ::close(fd_);
}

absl::Status SnapshotFile::Read(ExpertId expert, size_t tensor, uint64_t offset, std::span<std::byte> to) const {
  return ReadAll(file_.fd(), header_.PlaceOf(expert, tensor) + offset, to, path_);
}

SnapshotWriter::~SnapshotWriter() {
  if (!committed_) ::unlink(unfinished_.c_str());
}

absl::Status SnapshotWriter::Write(ExpertId expert, size_t tensor, uint64_t offset, std::span<const std::byte> from) {
  return WriteAll(file_.fd(), header_.PlaceOf(expert, tensor) + offset, from, path_);
}

absl::Status SnapshotWriter::Commit() {
  const std::string header = Encode(header_);
  EVENKEEL_RETURN_IF_ERROR(WriteAll(file_.fd(), 0, std::as_bytes(std::span(header)), path_));
  if (::fsync(file_.fd()) != 0) return FromErrno(errno, "synchronise", path_);
  if (::rename(unfinished_.c_str(), path_.c_str()) != 0) return FromErrno(errno, "rename to", path_);
  committed_ = true;
  return Synchronise(folder_);
}

SnapshotFolder::SnapshotFolder(const std::string& directory, StoreIdentity identity)
    : identity_(std::move(identity)), path_(absl::StrCat(directory, "/", SnapshotFolderName(identity_))) {}

absl::Status SnapshotFolder::Make() const {
  if (::mkdir(path_.c_str(), kFolderMode) == 0) return Synchronise(path_.substr(0, path_.rfind('/')));
  struct stat info = {};
  if (errno == EEXIST && ::stat(path_.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return absl::OkStatus();
  return FromErrno(errno, "make folder", path_);
}

absl::StatusOr<std::vector<SnapshotName>> SnapshotFolder::List() const {
  DIR* listing = ::opendir(path_.c_str());
  if (listing == nullptr) return FromErrno(errno, "list", path_);
  std::vector<std::pair<int64_t, SnapshotName>> found;
  while (const dirent* entry = ::readdir(listing)) {
    const std::optional<SnapshotName> name = ParseSnapshotName(entry->d_name);
    struct stat info = {};
    if (!name.has_value() || ::fstatat(::dirfd(listing), entry->d_name, &info, 0) != 0) continue;
    found.emplace_back(Nanoseconds(info.st_mtim), *name);
  }
  ::closedir(listing);
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    if (a.first != b.first) return a.first > b.first;
    return Render(a.second) < Render(b.second);
  });
  std::vector<SnapshotName> names;
  for (const auto& [written, name] : found) names.push_back(name);
  return names;
}

absl::StatusOr<std::unique_ptr<SnapshotFile>> SnapshotFolder::Open(const SnapshotName& name) const {
  const std::string path = absl::StrCat(path_, "/", Render(name));
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return FromErrno(errno, "open", path);
  struct stat info = {};
  const uint64_t bytes = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode) ? static_cast<uint64_t>(info.st_size) : 0;
  absl::StatusOr<SnapshotHeader> header = ReadHeader(fd, bytes, path);
  absl::Status status =
      header.ok() ? CheckHeader(absl::StrCat("open ", path), *header, name, bytes, identity_)
                  : absl::Status(header.status().code(), absl::StrCat("open ", path, ": ", header.status().message()));
  if (!status.ok()) {
    ::close(fd);
    return status;
  }
  return std::make_unique<SnapshotFile>(path, fd, Nanoseconds(info.st_mtim), *std::move(header));
}

absl::StatusOr<std::unique_ptr<SnapshotWriter>> SnapshotFolder::Create(const SnapshotName& name,
                                                                       const std::string& writer,
                                                                       std::vector<uint64_t> fingerprints) const {
  const std::string path = absl::StrCat(path_, "/", Render(name));
  // Foreign content is somebody's: it is left alone.
  if (const auto held = Open(name); absl::IsFailedPrecondition(held.status())) return held.status();
  const std::string unfinished = absl::StrCat(path, UnfinishedEnd(writer));
  const int fd = ::open(unfinished.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, kFileMode);
  if (fd < 0) return FromErrno(errno, "create", unfinished);
  auto file =
      std::make_unique<SnapshotWriter>(path_, path, unfinished, fd, HeaderOf(identity_, name, std::move(fingerprints)));
  const uint64_t total =
      HeaderOf(identity_, name, std::vector<uint64_t>(static_cast<size_t>(name.range.count))).total_bytes();
  if (::fallocate(fd, 0, 0, static_cast<off_t>(total)) != 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
    return FromErrno(errno, absl::StrCat("take ", total, " bytes for"), path);
  }
  if (::ftruncate(fd, static_cast<off_t>(total)) != 0) return FromErrno(errno, "size", path);
  return file;
}

void SnapshotFolder::RemoveUnfinished(const std::string& writer) const {
  DIR* listing = ::opendir(path_.c_str());
  if (listing == nullptr) return;
  while (const dirent* entry = ::readdir(listing)) {
    if (absl::EndsWith(entry->d_name, UnfinishedEnd(writer))) ::unlinkat(::dirfd(listing), entry->d_name, 0);
  }
  ::closedir(listing);
}

}  // namespace evenkeel::agent
