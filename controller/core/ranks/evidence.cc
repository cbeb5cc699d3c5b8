// SPDX-License-Identifier: Apache-2.0
#include "controller/core/ranks/evidence.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace evenkeel::controller {

namespace {

std::string Listed(const std::vector<RankId>& ranks) {
  return absl::StrCat(
      ranks.size() == 1 ? "rank " : "ranks ",
      absl::StrJoin(ranks, ", ", [](std::string* out, RankId rank) { absl::StrAppend(out, rank.value()); }));
}

// Those that join and have no maps yet begin no step: they can wait for nobody.
bool HasMaps(const MemberRecord& record) { return !record.held && (!record.fresh || record.quiesced_epoch > Epoch()); }

}  // namespace

void Evidence::Look(absl::Time now, const EvidenceRules& rules) {
  const bool was_away = now - looked_ > LookInterval(rules) + rules.agent_lease / 4;
  looked_ = now;
  if (!was_away) return;
  quiet_until_ = now + rules.agent_reconnect_max + rules.agent_lease;
  for (Of& rank : ranks_) {
    rank.heard = std::max(rank.heard, now);
    rank.progressed = std::max(rank.progressed, now);
  }
}

void Evidence::HearStatus(RankId rank, const EngineStatus& status, absl::Time now) {
  Of& of = At(rank);
  of.heard = now;
  of.given_up = false;
  of.busy_until = status.busy_lease > absl::ZeroDuration() ? now + status.busy_lease : absl::InfinitePast();
  of.suspended |= status.suspended;
  // What an engine waits for is not its own fault.
  of.in_step = status.oldest_open_step > absl::ZeroDuration() && status.waiting_for.empty();
  if (!of.in_step || status.num_steps != of.num_steps) of.progressed = now;
  of.num_steps = status.num_steps;
  absl::erase_if(waits_, [&](const auto& entry) { return entry.first.first == rank; });
  if (status.oldest_open_step <= absl::ZeroDuration() || !status.alive || status.leaving) return;
  for (RankId accused : status.waiting_for) {
    if (!accused.valid() || accused.idx() >= ranks_.size() || accused == rank) continue;
    waits_[{rank, accused}] = {now};
  }
}

void Evidence::NoteEnded(RankId reporter, RankId accused, absl::Time) {
  if (!At(accused).ended_by.has_value()) At(accused).ended_by = reporter;
}

void Evidence::NoteLeaving(RankId rank, absl::Time) { At(rank).leaving = true; }

void Evidence::Forget(RankId rank, absl::Time now) {
  At(rank) = Of();
  At(rank).heard = At(rank).progressed = now;
  absl::erase_if(waits_, [&](const auto& entry) { return entry.first.first == rank || entry.first.second == rank; });
}

absl::Time Evidence::SilentSince(RankId rank, const EvidenceRules& rules, absl::Time now) const {
  const Of& of = At(rank);
  if (of.busy_until > now) return absl::InfiniteFuture();
  const absl::Duration lease = of.suspended ? std::max(rules.agent_lease, rules.engine_lease) : rules.agent_lease;
  if (now - of.heard >= lease) return of.heard;
  if (of.in_step && now - of.progressed >= rules.engine_lease) return of.progressed;
  return absl::InfiniteFuture();
}

bool Evidence::IsSilent(RankId rank, const EvidenceRules& rules, absl::Time now) const {
  return SilentSince(rank, rules, now) < absl::InfiniteFuture();
}

std::vector<RankId> Evidence::Witnesses(RankId accused, const Membership& members, const EvidenceRules& rules,
                                        absl::Time now) const {
  const absl::Time silent_since = SilentSince(accused, rules, now);
  std::vector<RankId> witnesses;
  for (const auto& [pair, wait] : waits_) {
    if (pair.second != accused || wait.last <= silent_since) continue;
    const MemberRecord& record = members.at(pair.first);
    const Of& of = At(pair.first);
    const bool dying = of.ended_by.has_value() || of.leaving || !record.engine.alive || !record.attached();
    if (!record.in_view() || dying || !HasMaps(record) || IsSilent(pair.first, rules, now)) continue;
    witnesses.push_back(pair.first);
  }
  return witnesses;
}

Verdict Evidence::Judge(const Membership& members, int ranks_min, const EvidenceRules& rules, absl::Time now) const {
  Verdict verdict;
  std::vector<Loss> silent;
  int num_in_view = 0, num_in_group = 0, num_ended = 0, num_with_maps = 0;
  for (size_t r = 0; r < ranks_.size(); ++r) {
    const RankId rank(static_cast<int32_t>(r));
    const MemberRecord& record = members.at(rank);
    num_in_group += record.in_view() || ranks_[r].expelled_silent;
    if (!record.in_view()) continue;
    ++num_in_view;
    num_with_maps += HasMaps(record);
    if (!ranks_[r].ended_by.has_value() && !ranks_[r].leaving) continue;
    ++num_ended;
    if (ranks_[r].ended_by.has_value()) {
      const RankId by = *ranks_[r].ended_by;
      verdict.lost.push_back({rank,
                              Loss::Kind::kEnded,
                              {by},
                              absl::StrCat("its engine has ended, as the agent of rank ", by.value(), " saw")});
    } else {
      verdict.lost.push_back({rank, Loss::Kind::kLeft, {rank}, "its engine said that it leaves"});
    }
  }
  if (num_ended == num_in_view) verdict.lost.clear();  // nobody would be left: the group has ended
  if (now < quiet_until_) return verdict;
  const size_t needed = num_with_maps <= 2 ? 1 : static_cast<size_t>(rules.num_witnesses);
  for (size_t r = 0; r < ranks_.size(); ++r) {
    const RankId rank(static_cast<int32_t>(r));
    // For one that was never told that it is in the view nobody waits; an operator may let go of it.
    const MemberRecord& member = members.at(rank);
    const bool may_be_judged = member.counts() || (ranks_[r].given_up && member.in_view());
    const bool judged = may_be_judged && !ranks_[r].ended_by.has_value() && !ranks_[r].leaving;
    if (!judged || !IsSilent(rank, rules, now)) continue;
    std::vector<RankId> witnesses = Witnesses(rank, members, rules, now);
    const absl::Duration silence = now - SilentSince(rank, rules, now);
    if (ranks_[r].given_up) {
      if (num_ended + 1 == num_in_view) continue;  // nobody would be left
      verdict.lost.push_back({rank, Loss::Kind::kSilent, std::move(witnesses),
                              absl::StrCat("nothing was heard of it for ",
                                           absl::FormatDuration(absl::Trunc(silence, absl::Milliseconds(1))),
                                           ", and an operator lets go of it")});
      ++num_ended;
      continue;
    }
    if (witnesses.size() < needed) continue;
    std::string why = absl::StrCat(now - ranks_[r].heard >= rules.agent_lease ? "nothing was heard of it for "
                                                                              : "its engine got nowhere in a step for ",
                                   absl::FormatDuration(absl::Trunc(silence, absl::Milliseconds(1))), ", and ",
                                   Listed(witnesses), witnesses.size() == 1 ? " waits for it" : " wait for it");
    silent.push_back({rank, Loss::Kind::kSilent, std::move(witnesses), std::move(why)});
  }
  std::ranges::sort(verdict.lost, {}, &Loss::rank);
  if (silent.empty()) return verdict;
  const int num_left = num_in_view - num_ended - static_cast<int>(silent.size());
  std::vector<RankId> ranks;
  for (const Loss& loss : silent) ranks.push_back(loss.rank);
  // All or none: without one of them only, the others' steps would go on waiting.
  if (num_left < ranks_min) {
    verdict.held_back = absl::StrCat(Listed(ranks), " would be expelled for silence, but ", num_left,
                                     " ranks could not hold every expert: ", ranks_min, " are needed");
  } else if (2 * num_left < num_in_group) {
    verdict.held_back = absl::StrCat(Listed(ranks), " would be expelled for silence, but ", num_left, " of ",
                                     num_in_group, " ranks are less than half of the group");
  } else {
    verdict.lost.insert(verdict.lost.end(), silent.begin(), silent.end());
    std::ranges::sort(verdict.lost, {}, &Loss::rank);
  }
  return verdict;
}

int Evidence::NumSuspecting(RankId rank, absl::Time since) const {
  return static_cast<int>(std::ranges::count_if(
      waits_, [&](const auto& entry) { return entry.first.second == rank && entry.second.last >= since; }));
}

}  // namespace evenkeel::controller
