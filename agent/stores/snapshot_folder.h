// SPDX-License-Identifier: Apache-2.0
//
// SnapshotFolder: the files of one group's experts on disk: listed, opened, written.
//
// A file appears under its name only when it is whole and on the disk: written under another name, synchronised,
// renamed, the folder synchronised. One that is there is never written to.
//
// Threads:   values; one thread at a time for each object.
// Errors:    kNotFound: no such folder or file; kResourceExhausted: the disk is full, or a limit was hit;
//            kPermissionDenied; kDataLoss, kFailedPrecondition: as snapshot_format.h says; kUnavailable: the disk fails.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "agent/stores/snapshot_format.h"
#include "agent/stores/store_identity.h"
#include "algos/base/ids.h"

namespace evenkeel::agent {

// Closes a descriptor.
class OpenFile {
 public:
  explicit OpenFile(int fd) : fd_(fd) {}
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile();
  int fd() const { return fd_; }

 private:
  const int fd_;
};

// A file to read.
class SnapshotFile {
 public:
  SnapshotFile(std::string path, int fd, int64_t written_at, SnapshotHeader header)
      : path_(std::move(path)), file_(fd), written_at_(written_at), header_(std::move(header)) {}

  const std::string& path() const { return path_; }
  // Tells apart files that had one name one after the other.
  int64_t written_at() const { return written_at_; }
  const SnapshotHeader& header() const { return header_; }
  absl::Status Read(ExpertId expert, size_t tensor, uint64_t offset, std::span<std::byte> to) const;

 private:
  const std::string path_;
  const OpenFile file_;
  const int64_t written_at_;
  const SnapshotHeader header_;
};

// A file being written; gone again unless it is committed.
class SnapshotWriter {
 public:
  SnapshotWriter(std::string folder, std::string path, std::string unfinished, int fd, SnapshotHeader header)
      : folder_(std::move(folder)),
        path_(std::move(path)),
        unfinished_(std::move(unfinished)),
        file_(fd),
        header_(std::move(header)) {}
  ~SnapshotWriter();

  absl::Status Write(ExpertId expert, size_t tensor, uint64_t offset, std::span<const std::byte> from);
  absl::Status Commit();

 private:
  const std::string folder_, path_, unfinished_;
  const OpenFile file_;
  const SnapshotHeader header_;
  bool committed_ = false;
};

class SnapshotFolder {
 public:
  // Of the files in `directory`/SnapshotFolderName(identity).
  SnapshotFolder(const std::string& directory, StoreIdentity identity);

  const std::string& path() const { return path_; }
  // OK where it is there, also if others made it just now.
  absl::Status Make() const;
  // Those last written come first.
  absl::StatusOr<std::vector<SnapshotName>> List() const;
  absl::StatusOr<std::unique_ptr<SnapshotFile>> Open(const SnapshotName& name) const;
  // `writer` tells apart who write at the same time. Takes the room on the disk, where the file system can.
  absl::StatusOr<std::unique_ptr<SnapshotWriter>> Create(const SnapshotName& name, const std::string& writer,
                                                         std::vector<uint64_t> fingerprints) const;
  // Removes what a writer of that name left unfinished when it was killed.
  void RemoveUnfinished(const std::string& writer) const;

 private:
  const StoreIdentity identity_;
  const std::string path_;
};

}  // namespace evenkeel::agent
