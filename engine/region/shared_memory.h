// SPDX-License-Identifier: Apache-2.0
//
// SharedMemory: the one owner of every shared-memory object: regions, and whatever else processes share.
//
// An object is a file, normally in /dev/shm, that begins with a 64-byte header (magic, type, version, size) and is
// mapped whole. It is made either from a typed layout, which names its tag and version, or from a plain byte size.
// Its path appears only when it is complete: all its pages are taken at creation, so a full file system is an error
// there and never a SIGBUS later, and the creator holds its liveness lock before anybody can see the name.
//
// Locks:     on single bytes of the file, of the open file description (F_OFD_SETLK): released by the kernel when the
//            last process that inherited it has ended, close-on-exec, never mistaken for a pid.
// Access:    mode 0600 whatever the umask.
// Threads:   values; the calls on an object are safe from any thread, moving and destroying it is not.
// Errors:    kAlreadyExists, kNotFound, kPermissionDenied, kResourceExhausted (no room), kFailedPrecondition (another
//            version), kDataLoss (not such an object, or cut short).
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/region/error.h"

namespace evenkeel::engine {

// First bytes of every object.
struct ObjectHeader {
  static constexpr uint64_t kMagic = 0x4C45454B4E455645u;  // "EVENKEEL"

  uint64_t magic;
  uint32_t tag;
  uint32_t version;
  uint64_t total_bytes;  // of the file, this header included
  uint64_t unused[5];
};
static_assert(sizeof(ObjectHeader) == 64);

class SharedMemory {
 public:
  struct Type {
    uint32_t tag = 0;  // what the bytes mean
    uint32_t version = 0;
  };
  enum class Access { kReadOnly, kReadWrite };

  // As a lock byte where it is asked about locks: whichever there is.
  static constexpr int kAnyByte = -1;

  // Bytes of a path, its terminating zero included.
  static constexpr size_t kPathBytes = 512;

  SharedMemory() = default;
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  // Makes a new object with `bytes` zeroed bytes after the header, holding the lock on `lock_byte`.
  static Result<SharedMemory> Create(const char* path, Type type, uint64_t bytes, int lock_byte);
  // The same for a layout with kTag and kVersion, followed by `extra_bytes`.
  template <typename Layout>
  static Result<SharedMemory> Create(const char* path, int lock_byte, uint64_t extra_bytes = 0) {
    return Create(path, Type{Layout::kTag, Layout::kVersion}, sizeof(Layout) + extra_bytes, lock_byte);
  }

  // Maps an existing object of the type, at least `bytes_min` after the header, the file being of the size it says.
  static Result<SharedMemory> Open(const char* path, Type type, uint64_t bytes_min, Access access);
  template <typename Layout>
  static Result<SharedMemory> Open(const char* path, Access access) {
    return Open(path, Type{Layout::kTag, Layout::kVersion}, sizeof(Layout), access);
  }

  // Removes the objects in `directory` whose names begin with `prefix` and whose lock on `lock_byte` (kAnyByte: any at
  // all) nobody holds: what killed processes left behind. Returns how many.
  static int RemoveAbandoned(const char* directory, const char* prefix, int lock_byte);

  // Takes the lock on a byte; false where another open of the file holds it. Never waits.
  Result<bool> TryLock(int lock_byte);
  // Gives it back before the object is closed.
  void Unlock(int lock_byte);
  // Whether another open of the file holds the lock (kAnyByte: any at all).
  bool IsLockedElsewhere(int lock_byte) const;

  // Removes the name; mappings stay until they are closed.
  void Unlink();
  // Whether the path still leads to this object.
  bool IsNamed() const;

  explicit operator bool() const { return base_ != nullptr; }
  const char* path() const { return path_; }
  std::byte* payload() const { return base_ + sizeof(ObjectHeader); }
  uint64_t payload_bytes() const { return total_bytes_ - sizeof(ObjectHeader); }
  template <typename Layout>
  Layout* as() const {
    return reinterpret_cast<Layout*>(payload());
  }

 private:
  void Close();

  int fd_ = -1;
  std::byte* base_ = nullptr;
  uint64_t total_bytes_ = 0;
  char path_[kPathBytes] = "";
};

// Only the locks of an object: nothing is mapped, but the file's memory stays taken as long as this is open.
class ObjectLocks {
 public:
  ObjectLocks() = default;
  ObjectLocks(ObjectLocks&& other) noexcept;
  ObjectLocks& operator=(ObjectLocks&& other) noexcept;
  ~ObjectLocks();

  static Result<ObjectLocks> Open(const char* path);

  bool IsHeld(int lock_byte) const;

 private:
  int fd_ = -1;
};

}  // namespace evenkeel::engine
