// SPDX-License-Identifier: Apache-2.0
//
// LocalTransport: reads experts out of another rank's region on the same host, by mapping it.
//
// An endpoint's address is the path of the region's file, its host what HostIdentity says. One thread copies, in
// pieces, taking turns among the transfers under way; between pieces it looks whether the source's engine still lives.
//
// Given a GPU it is the transport `ipc`: regions whose tensors lie in device memory are read by copies that this GPU
// makes, out of mappings that it opens through CUDA IPC. Many tensors are enqueued at once, then waited for.
//
// Threads:   as Transport says; completions arrive on the copying thread.
// Owns:      mappings of the sources that are read from, and of those read within kKeepOpen before. All of an engine
//            that has ended are closed within kLookAround (protocol, rule 20).
// Errors:    besides those of Transport: kAborted where the source's slot was given other content during the copy
//            (protocol, rule 9), kFailedPrecondition where it did not hold what was asked for before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "agent/throttle.h"
#include "agent/transport.h"
#include "engine/region/agent_region.h"
#include "kernels/cuda_memory.h"

namespace evenkeel::agent {

// Equal for processes that see the same shared memory: same boot of the same machine, same /dev/shm.
std::string HostIdentity();

class LocalTransport : public Transport {
 public:
  static constexpr absl::Duration kKeepOpen = absl::Seconds(1);
  static constexpr absl::Duration kLookAround = absl::Milliseconds(50);

  struct Options {
    std::string host;         // HostIdentity(), but for tests
    std::string region_path;  // this rank's
    std::shared_ptr<Throttle> throttle;
    std::shared_ptr<kernels::CudaDevice> device = nullptr;  // this transport's alone; null: host memory
  };

  // Starts the thread.
  explicit LocalTransport(Options options);
  ~LocalTransport() override;

  std::string_view name() const override { return options_.device == nullptr ? "local" : "ipc"; }
  Endpoint endpoint() const override;
  int CostFrom(const Endpoint& source) const override;
  absl::Status Start(TransferRequest request, TransferDone done) override;
  void Cancel(uint64_t transfer_id) override;
  void Forget(const Member& source) override;
  void Close() override;

 private:
  struct Copy {
    TransferRequest request;
    TransferDone done;
    engine::PeerRegion* source = nullptr;  // in sources_
    std::vector<std::span<const std::byte>> from;
    size_t range = 0;     // being copied
    size_t offset = 0;    // within it
    uint64_t copied = 0;  // bytes in all
    // Of this turn.
    uint64_t enqueued = 0;  // bytes that the GPU has still to copy
    absl::Status trouble;
  };
  struct Source {
    std::unique_ptr<engine::PeerRegion> region;
    absl::Time last_used;
  };
  // What other threads ask of the copying one.
  struct Inbox {
    std::vector<Copy> started;
    std::vector<uint64_t> cancelled;
    std::vector<Member> forgotten;
    bool closing = false;
  };

  void Run();
  Inbox Take(absl::Time until);
  bool HasNews() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Below: on the copying thread.
  void EndAll(const absl::Status& status, const std::vector<uint64_t>& ids);
  void ForgetSource(const Member& member, const absl::Status& status);
  // One turn of every copy: pieces of all of them are begun before any is waited for. Whether anything moved.
  bool AdvanceAll(absl::Time now);
  // Begins or goes on with a copy: as much as may be copied now, which may be nothing.
  absl::Status Advance(Copy& copy, absl::Time now);
  void CopySome(Copy& copy, absl::Time now);
  void AwaitDevice();
  // True when the transfer has ended, with its status.
  bool HasEnded(const Copy& copy, absl::Status& ended) const;
  absl::Status Begin(Copy& copy, absl::Time now);
  absl::Status CheckWhole(const Copy& copy) const;
  void CloseUnused(absl::Time now);
  absl::Time NextLook(absl::Time now, bool any_moved) const;
  static void End(Copy& copy, absl::Status status);

  // Constant after construction.
  const Options options_;
  // Used by the copying thread alone.
  std::vector<Copy> copies_;
  uint64_t enqueued_ = 0;  // of all copies, this turn
  absl::btree_map<Member, Source> sources_;

  absl::Mutex mutex_;
  Inbox inbox_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: Run uses all of the above
};

}  // namespace evenkeel::agent
