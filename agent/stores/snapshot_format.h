// SPDX-License-Identifier: Apache-2.0
//
// SnapshotFormat: names and headers of the files in which a group's experts are kept on disk.
//
// A folder holds the experts of one group and weights version; a file holds some experts of one layer that follow each
// other. It begins with a header that says whose they are and ends in its own digest; then, at data_at, each expert
// takes ExpertRoom bytes, its tensors lying as store_identity.h says. Each expert's fingerprint is in the header.
//
// Errors:    kDataLoss: not such a file, cut short, or changed; kFailedPrecondition: of another version of the format, or
//            of other weights, both named.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "agent/stores/holdings.h"
#include "agent/stores/store_identity.h"
#include "algos/base/ids.h"

namespace evenkeel::agent {

// "GROUP.vVERSION", below the directory that is configured.
std::string SnapshotFolderName(const StoreIdentity& identity);

// "layer-00003.experts-00008-00015.snapshot": both ends included.
struct SnapshotName {
  LayerId layer;
  ExpertRange range;

  friend bool operator==(const SnapshotName&, const SnapshotName&) = default;
};
std::string Render(const SnapshotName& name);
// Empty where it is not one.
std::optional<SnapshotName> ParseSnapshotName(absl::string_view text);

struct SnapshotHeader {
  static constexpr uint64_t kMagic = 0x50414E534B4E5645u;  // "EVNKSNAP"
  static constexpr uint64_t kVersion = 1;
  static constexpr uint64_t kBytesMax = 1 << 20;
  // Its first words, which say how long the whole is.
  static constexpr uint64_t kPreambleBytes = 24;

  std::string model;
  uint64_t weights_version = 0;
  uint64_t manifest_digest = 0;
  int num_layers = 0;
  int num_experts = 0;  // of a layer, in all
  SnapshotName name;
  std::vector<uint64_t> tensor_bytes;  // of one expert of the layer
  std::vector<uint64_t> fingerprints;  // [name.range.count]

  uint64_t data_at() const;
  uint64_t total_bytes() const { return data_at() + fingerprints.size() * ExpertRoom(tensor_bytes); }
  // Where a tensor of an expert begins. Requires: the range contains the expert.
  uint64_t PlaceOf(ExpertId expert, size_t tensor) const;
  uint64_t FingerprintOf(ExpertId expert) const;

  friend bool operator==(const SnapshotHeader&, const SnapshotHeader&) = default;
};

SnapshotHeader HeaderOf(const StoreIdentity& identity, const SnapshotName& name, std::vector<uint64_t> fingerprints);
std::string Encode(const SnapshotHeader& header);
// How long the header is, of its first kPreambleBytes.
absl::StatusOr<uint64_t> HeaderBytes(absl::string_view preamble);
absl::StatusOr<SnapshotHeader> DecodeSnapshotHeader(absl::string_view bytes);

// Whether a file called `name`, which is `where` for people, may be used.
absl::Status CheckHeader(absl::string_view where, const SnapshotHeader& header, const SnapshotName& name,
                         uint64_t file_bytes, const StoreIdentity& wanted);

}  // namespace evenkeel::agent
