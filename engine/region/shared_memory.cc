// SPDX-License-Identifier: Apache-2.0
#include "engine/region/shared_memory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <utility>

namespace evenkeel::engine {

namespace {

// Where an object is made before its name appears.
constexpr char kUnfinished[] = ".new";

// Closes a descriptor unless it is taken.
class ScopedFd {
 public:
  explicit ScopedFd(int fd) : fd_(fd) {}
  ScopedFd(const ScopedFd&) = delete;
  ScopedFd& operator=(const ScopedFd&) = delete;
  ~ScopedFd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  int Take() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

// Removes a file unless it is kept.
class ScopedFile {
 public:
  explicit ScopedFile(const char* path) : path_(path) {}
  ScopedFile(const ScopedFile&) = delete;
  ScopedFile& operator=(const ScopedFile&) = delete;
  ~ScopedFile() {
    if (path_ != nullptr) ::unlink(path_);
  }
  void Keep() { path_ = nullptr; }

 private:
  const char* path_;
};

Error FromErrno(int error, const char* doing, const char* path) {
  ErrorCode code = ErrorCode::kInternal;
  if (error == EEXIST) code = ErrorCode::kAlreadyExists;
  if (error == ENOENT || error == ENOTDIR) code = ErrorCode::kNotFound;
  if (error == EACCES || error == EPERM || error == EROFS) code = ErrorCode::kPermissionDenied;
  if (error == ENOSPC || error == EFBIG || error == EDQUOT || error == ENOMEM || error == EMFILE || error == ENFILE) {
    code = ErrorCode::kResourceExhausted;
  }
  return MakeError(code, "%s %s: %s", doing, path, std::strerror(error));
}

struct flock LockOf(int lock_byte) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = lock_byte == SharedMemory::kAnyByte ? 0 : lock_byte;
  lock.l_len = lock_byte == SharedMemory::kAnyByte ? 0 : 1;  // 0: to the end
  return lock;
}

bool HeldElsewhere(int fd, int lock_byte) {
  struct flock lock = LockOf(lock_byte);
  return ::fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

// Copies `path` with `suffix` into `out`; false where it is too long.
bool CopyPath(const char* path, const char* suffix, char (&out)[SharedMemory::kPathBytes]) {
  const int length = std::snprintf(out, sizeof(out), "%s%s", path, suffix);
  return length >= 0 && static_cast<size_t>(length) < sizeof(out);
}

}  // namespace

SharedMemory::SharedMemory(SharedMemory&& other) noexcept { *this = std::move(other); }

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  if (this == &other) return *this;
  Close();
  fd_ = std::exchange(other.fd_, -1);
  base_ = std::exchange(other.base_, nullptr);
  total_bytes_ = std::exchange(other.total_bytes_, 0);
  std::memcpy(path_, other.path_, sizeof(path_));
  return *this;
}

SharedMemory::~SharedMemory() { Close(); }

void SharedMemory::Close() {
  if (base_ != nullptr) ::munmap(base_, total_bytes_);
  if (fd_ >= 0) ::close(fd_);
  base_ = nullptr;
  fd_ = -1;
}

Result<SharedMemory> SharedMemory::Create(const char* path, Type type, uint64_t bytes, int lock_byte) {
  char unfinished[kPathBytes];
  SharedMemory object;
  if (!CopyPath(path, kUnfinished, unfinished) || !CopyPath(path, "", object.path_)) {
    return MakeError(ErrorCode::kInvalidArgument, "create %.200s: the path is too long", path);
  }
  if (bytes > uint64_t{INT64_MAX} - sizeof(ObjectHeader)) {
    return MakeError(ErrorCode::kResourceExhausted, "create %s with %" PRIu64 " bytes: too large", path, bytes);
  }
  ScopedFd fd(::open(unfinished, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (fd.get() < 0) return FromErrno(errno, "create", path);
  ScopedFile unfinished_file(unfinished);
  struct flock lock = LockOf(lock_byte);
  if (::fchmod(fd.get(), 0600) != 0 || ::fcntl(fd.get(), F_OFD_SETLK, &lock) != 0) {
    return FromErrno(errno, "create and lock", path);
  }
  object.total_bytes_ = bytes + sizeof(ObjectHeader);
  if (const int error = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(object.total_bytes_))) {
    char doing[64];
    std::snprintf(doing, sizeof(doing), "take %" PRIu64 " bytes of memory for", object.total_bytes_);
    return FromErrno(error, doing, path);
  }
  void* base = ::mmap(nullptr, object.total_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (base == MAP_FAILED) return FromErrno(errno, "map", path);
  object.base_ = static_cast<std::byte*>(base);
  object.fd_ = fd.Take();
  const ObjectHeader header = {ObjectHeader::kMagic, type.tag, type.version, object.total_bytes_, {}};
  std::memcpy(object.base_, &header, sizeof(header));
  if (::renameat2(AT_FDCWD, unfinished, AT_FDCWD, path, RENAME_NOREPLACE) != 0) {
    return FromErrno(errno, "create", path);
  }
  unfinished_file.Keep();
  return object;
}

Result<SharedMemory> SharedMemory::Open(const char* path, Type type, uint64_t bytes_min, Access access) {
  SharedMemory object;
  if (!CopyPath(path, "", object.path_)) {
    return MakeError(ErrorCode::kInvalidArgument, "open %.200s: the path is too long", path);
  }
  const bool writable = access == Access::kReadWrite;
  ScopedFd fd(::open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (fd.get() < 0) return FromErrno(errno, "open", path);
  struct stat info = {};
  if (::fstat(fd.get(), &info) != 0) return FromErrno(errno, "open", path);
  const uint64_t file_bytes = S_ISREG(info.st_mode) ? static_cast<uint64_t>(info.st_size) : 0;
  ObjectHeader header = {};
  if (file_bytes < sizeof(header) ||
      ::pread(fd.get(), &header, sizeof(header), 0) != static_cast<ssize_t>(sizeof(header)) ||
      header.magic != ObjectHeader::kMagic || header.tag != type.tag) {
    return MakeError(ErrorCode::kDataLoss, "open %s: not such an object (%" PRIu64 " bytes)", path, file_bytes);
  }
  if (header.version != type.version) {
    return MakeError(ErrorCode::kFailedPrecondition, "open %s: it is of version %u; this program is of version %u",
                     path, header.version, type.version);
  }
  if (header.total_bytes != file_bytes || file_bytes - sizeof(header) < bytes_min) {
    return MakeError(ErrorCode::kDataLoss,
                     "open %s: the file has %" PRIu64 " bytes, its header says %" PRIu64 ", at least %" PRIu64
                     " are needed",
                     path, file_bytes, header.total_bytes, bytes_min + sizeof(header));
  }
  void* base = ::mmap(nullptr, file_bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd.get(), 0);
  if (base == MAP_FAILED) return FromErrno(errno, "map", path);
  object.base_ = static_cast<std::byte*>(base);
  object.total_bytes_ = file_bytes;
  object.fd_ = fd.Take();
  return object;
}

int SharedMemory::RemoveAbandoned(const char* directory, const char* prefix, int lock_byte) {
  DIR* listing = ::opendir(directory);
  if (listing == nullptr) return 0;
  int num_removed = 0;
  while (const dirent* entry = ::readdir(listing)) {
    if (std::strncmp(entry->d_name, prefix, std::strlen(prefix)) != 0) continue;
    const ScopedFd fd(::openat(::dirfd(listing), entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (fd.get() < 0 || HeldElsewhere(fd.get(), lock_byte)) continue;
    if (::unlinkat(::dirfd(listing), entry->d_name, 0) == 0) ++num_removed;
  }
  ::closedir(listing);
  return num_removed;
}

Result<bool> SharedMemory::TryLock(int lock_byte) {
  struct flock lock = LockOf(lock_byte);
  if (::fcntl(fd_, F_OFD_SETLK, &lock) == 0) return true;
  if (errno == EAGAIN || errno == EACCES) return false;
  return FromErrno(errno, "lock", path_);
}

void SharedMemory::Unlock(int lock_byte) {
  struct flock lock = LockOf(lock_byte);
  lock.l_type = F_UNLCK;
  ::fcntl(fd_, F_OFD_SETLK, &lock);
}

bool SharedMemory::IsLockedElsewhere(int lock_byte) const { return HeldElsewhere(fd_, lock_byte); }

void SharedMemory::Unlink() { ::unlink(path_); }

ObjectLocks::ObjectLocks(ObjectLocks&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

ObjectLocks& ObjectLocks::operator=(ObjectLocks&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

ObjectLocks::~ObjectLocks() {
  if (fd_ >= 0) ::close(fd_);
}

Result<ObjectLocks> ObjectLocks::Open(const char* path) {
  ObjectLocks locks;
  locks.fd_ = ::open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (locks.fd_ < 0) return FromErrno(errno, "open", path);
  return locks;
}

bool ObjectLocks::IsHeld(int lock_byte) const { return HeldElsewhere(fd_, lock_byte); }

bool SharedMemory::IsNamed() const {
  struct stat own = {}, named = {};
  return ::fstat(fd_, &own) == 0 && ::stat(path_, &named) == 0 && own.st_dev == named.st_dev &&
         own.st_ino == named.st_ino;
}

}  // namespace evenkeel::engine
