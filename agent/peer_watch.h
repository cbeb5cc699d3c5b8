// SPDX-License-Identifier: Apache-2.0
//
// PeerWatch: which engines of the group's other ranks on this host have ended.
//
// An engine lives as long as the lock on its region file is held (docs/protocol.md, rule 19), which any process of the
// host sees. So every agent looks at the files beside its own region, and a killed engine is known without its own
// agent, which may have died with it. Nothing of the files is mapped; they are closed when their engine's end was seen
// (rule 20).
//
// Threads:   the agent's strand.
// Limits:    files that appear and go between two scans are not seen: their engines lived for kScan at most.
// Errors:    what cannot be listed or opened is looked at again at the next scan.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/time/time.h"

#include "algos/protocol/identity.h"
#include "engine/region/shared_memory.h"

namespace evenkeel::agent {

class PeerWatch {
 public:
  static constexpr absl::Duration kPoll = absl::Milliseconds(20);
  static constexpr absl::Duration kScan = absl::Milliseconds(100);

  // Region files of `group` in `directory`, but for those of `own_rank`.
  PeerWatch(std::string directory, const std::string& group, RankId own_rank);

  absl::Time NextPoll() const { return next_poll_; }
  // Members whose engines were seen to have ended, also before their file was first seen; each once.
  std::vector<Member> Poll(absl::Time now);

 private:
  void Scan();
  // Of a file's name; none where it is not of a peer.
  std::optional<Member> MemberOf(const std::string& name) const;

  const std::string directory_;
  const std::string prefix_;
  const RankId own_rank_;
  struct Peer {
    std::optional<engine::ObjectLocks> locks;  // none: its end was seen
    bool is_listed = false;
  };
  absl::btree_map<Member, Peer> peers_;
  absl::Time next_poll_ = absl::InfinitePast();
  absl::Time next_scan_ = absl::InfinitePast();
};

}  // namespace evenkeel::agent
