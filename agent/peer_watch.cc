// SPDX-License-Identifier: Apache-2.0
#include "agent/peer_watch.h"

#include <dirent.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "engine/region/layout.h"

namespace evenkeel::agent {

PeerWatch::PeerWatch(std::string directory, const std::string& group, RankId own_rank)
    : directory_(std::move(directory)), prefix_(absl::StrCat("evenkeel.", group, ".")), own_rank_(own_rank) {}

std::optional<Member> PeerWatch::MemberOf(const std::string& name) const {
  if (!absl::StartsWith(name, prefix_)) return std::nullopt;
  const absl::string_view rest = absl::string_view(name).substr(prefix_.size());
  const size_t dot = rest.find('.');
  int rank = -1;
  Member member;
  if (dot == absl::string_view::npos || !absl::SimpleAtoi(rest.substr(0, dot), &rank) || rank < 0 ||
      !absl::SimpleHexAtoi(rest.substr(dot + 1), &member.incarnation) || rank == own_rank_.value()) {
    return std::nullopt;
  }
  member.rank = RankId(rank);
  return member;
}

void PeerWatch::Scan() {
  DIR* listing = ::opendir(directory_.c_str());
  if (listing == nullptr) return;
  for (auto& [member, peer] : peers_) peer.is_listed = false;
  while (const dirent* entry = ::readdir(listing)) {
    const std::optional<Member> member = MemberOf(entry->d_name);
    if (!member.has_value()) continue;
    const auto known = peers_.find(*member);
    if (known != peers_.end()) {
      known->second.is_listed = true;
      continue;
    }
    auto locks = engine::ObjectLocks::Open(absl::StrCat(directory_, "/", entry->d_name).c_str());
    if (locks.ok()) peers_.emplace(*member, Peer{.locks = std::move(locks.value), .is_listed = true});
  }
  ::closedir(listing);
  // An end is remembered as long as the file is there to be found again.
  absl::erase_if(peers_, [](const auto& peer) { return !peer.second.is_listed && !peer.second.locks.has_value(); });
}

std::vector<Member> PeerWatch::Poll(absl::Time now) {
  if (next_scan_ <= now) {
    next_scan_ = now + kScan;
    Scan();
  }
  next_poll_ = now + kPoll;
  std::vector<Member> ended;
  for (auto& [member, peer] : peers_) {
    if (!peer.locks.has_value() || peer.locks->IsHeld(engine::kEngineLockByte)) continue;
    peer.locks.reset();
    ended.push_back(member);
  }
  return ended;
}

}  // namespace evenkeel::agent
