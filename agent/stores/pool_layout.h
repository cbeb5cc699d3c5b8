// SPDX-License-Identifier: Apache-2.0
//
// PoolLayout: what stands where in a host's pool of experts, shared by all agents of the host and read by those of
// others: a change of anything here is a new PoolHeader::kVersion.
//
// A pool is one SharedMemory object: the header below, which entry each frame is given to, the directory with a cell
// for each entry, then the frames, each with room for one expert (store_identity.h says how it lies there). An entry
// is a (layer, expert): layer * num_experts + expert. Cells are grouped into num_frames rows of equal length, so that
// a remote reader may ask for a row as it does for a frame.
//
// Writing an entry: its cell says `writing`, then come the bytes, then the fingerprint, then `verified`. Who writes
// holds the lock on the entry's byte of the file from before to after: a cell that says `writing` without a lock is
// what a dead agent left, and free.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"

#include "agent/stores/store_identity.h"
#include "engine/region/word.h"

namespace evenkeel::agent {

// Bytes of the file that carry locks.
inline constexpr int kPoolMakerLock = 0;        // held by who made it, as long as it lives
inline constexpr int kPoolFramesLock = 1;       // while frames are given out, or the pool is entered or removed
inline constexpr int kPoolRankLock = 64;        // + rank: its agent uses the pool
inline constexpr int kPoolEntryLock = 1 << 24;  // + entry: it is being written

enum class PoolState : uint64_t { kFree = 0, kWriting = 1, kVerified = 2 };

struct alignas(32) PoolCell {
  engine::Word state;  // PoolState
  engine::Word frame;
  engine::Word fingerprint;
  engine::Word generation;  // changes with every write of the entry
};
static_assert(sizeof(PoolCell) == 32);

// Sizes and places, all counted from the header.
struct PoolPlan {
  uint64_t num_entries = 0;
  uint64_t num_frames = 0;
  uint64_t cells_per_row = 0;
  uint64_t frame_bytes = 0;
  uint64_t given_at = 0;      // Word [num_frames]: entry + 1; 0: none
  uint64_t directory_at = 0;  // PoolCell [num_frames * cells_per_row], the first num_entries used
  uint64_t frames_at = 0;     // [num_frames * frame_bytes], page aligned
  uint64_t total_bytes = 0;

  friend bool operator==(const PoolPlan&, const PoolPlan&) = default;
};

struct alignas(64) PoolHeader {
  static constexpr uint32_t kTag = 0x4C4F4F50u;  // "POOL"
  static constexpr uint32_t kVersion = 1;

  // Constant after creation.
  char group[64];
  char model[128];
  uint64_t identity_digest;  // DigestOf(StoreIdentity)
  uint64_t num_frames;
};

inline constexpr uint64_t kPoolFramesMax = 65536;
inline constexpr uint64_t kPoolEntriesMax = uint64_t{1} << 26;

// As many frames as go into `bytes_max`, at most one for each entry and kPoolFramesMax. kInvalidArgument where not one
// does, or there are more than kPoolEntriesMax entries.
absl::StatusOr<PoolPlan> PlanPool(const StoreIdentity& identity, uint64_t bytes_max);
// That of a pool with that many frames. Requires: num_frames from 1 to num_entries.
PoolPlan PlanOfFrames(const StoreIdentity& identity, uint64_t num_frames);

// The file's name: of the same group on the same host they begin alike.
std::string PoolPrefix(const StoreIdentity& identity, const std::string& host);
std::string PoolName(const StoreIdentity& identity, const std::string& host);

}  // namespace evenkeel::agent
