// SPDX-License-Identifier: Apache-2.0
//
// HandOver: how maps pass from agent to engine without either waiting for the other (protocol, rules 11 and 16).
//
// The agent fills a bank that is neither newest nor announced by any lane, stores `newest`, fences, and only then
// reads the lanes again. A lane that begins a step announces that it is choosing, which the agent takes for all banks
// and for an unknown epoch, fences, reads `newest` once, records its ticket and announces that bank alone. Either the
// lane sees the new maps or the agent sees the lane choosing; so one reading is enough, with no loop on the engine's
// side. A lane's bank stays announced between steps; quiescence goes by tickets, and since a step never begins with
// maps older than the newest, a lane without tickets is quiescent at maps it has not taken.
//
// A step on a stream (BeginStreamStep) is begun on the host before the GPU gets there. Its maps are copied off the bank in
// the stream's order, and until the GPU has said so the bank is taken, whatever the lane has announced since; its ticket
// is open until the GPU, behind the step's last kernel, has written the ticket's number.
//
// The functions are templates over the words so that the model check runs this very code.
//
// Threads:   BeginStep, BeginStreamStep, TakeNewest, EndStep: the lane's. BeginServing, EndServing: the counting thread's. The rest: the agent's.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/region/layout.h"

namespace evenkeel::engine {

struct TakenMaps {
  uint64_t newest = 0;  // its bank stays untouched until the lane's next BeginStep
  uint64_t epoch = 0;   // packed
  uint64_t view = 0;
};

// Whether a ticket's step may still use slots.
template <typename Ticket>
bool IsOpen(Ticket& cell) {
  const uint64_t ticket = cell.ticket.Load();
  return ticket != 0 && cell.done.Load() != ticket;
}

// Words: newest(), newest_view(), bank_epoch(bank), num_lanes(), lane(l), num_serving(), serving(t), num_banks().
// `before_announcing` is given the maps while nothing of the agent's can take their bank.
template <typename Words, typename Lane, typename BeforeAnnouncing>
TakenMaps BeginStepAnd(Words& words, Lane& lane, int ring, uint64_t ticket, uint64_t now_ns,
                       BeforeAnnouncing before_announcing) {
  lane.announced.StoreAndFence(LaneCell::kChoosing);
  TakenMaps taken;
  taken.newest = words.newest().Load();
  taken.epoch = words.bank_epoch(BankOf(taken.newest)).Load();
  taken.view = words.newest_view().Load();
  lane.tickets[ring].epoch.Store(taken.epoch);
  lane.tickets[ring].view.Store(taken.view);
  lane.tickets[ring].begun_ns.Store(now_ns);
  lane.tickets[ring].ticket.Store(ticket);
  before_announcing(taken);
  lane.announced.Store(taken.newest);
  return taken;
}

template <typename Words, typename Lane>
TakenMaps BeginStep(Words& words, Lane& lane, int ring, uint64_t ticket, uint64_t now_ns) {
  return BeginStepAnd(words, lane, ring, ticket, now_ns, [](const TakenMaps&) {});
}

// Where the maps taken are not those `held`, which the lane's tables have when the stream gets to this step, the caller
// enqueues their copy and behind it the store of `copy` into copies_done. Copies are numbered in the stream's order.
template <typename Words, typename Lane>
TakenMaps BeginStreamStep(Words& words, Lane& lane, int ring, uint64_t ticket, uint64_t now_ns, uint64_t held,
                          uint64_t copy) {
  return BeginStepAnd(words, lane, ring, ticket, now_ns, [&](const TakenMaps& taken) {
    if (taken.newest != held) lane.copy_of_bank[BankOf(taken.newest)].Store(copy);
  });
}

// In mid-step: the lane goes over to the newest maps. What the step began with stays as its ticket says.
template <typename Words, typename Lane>
TakenMaps TakeNewest(Words& words, Lane& lane) {
  lane.announced.StoreAndFence(LaneCell::kChoosing);
  TakenMaps taken;
  taken.newest = words.newest().Load();
  taken.epoch = words.bank_epoch(BankOf(taken.newest)).Load();
  taken.view = words.newest_view().Load();
  lane.announced.Store(taken.newest);
  return taken;
}

template <typename Lane>
void EndStep(Lane& lane, int ring) {
  lane.tickets[ring].ticket.Store(0);
}

// `accepts(view number)`: whether the peer is a member of the newest view.
template <typename Words, typename Serving, typename Accepts>
bool BeginServing(Words& words, Serving& serving, Accepts accepts) {
  serving.accepted.StoreAndFence(ServingCell::kChoosing);
  const uint64_t view = words.newest_view().Load();
  const bool accepted = accepts(view);
  serving.accepted.Store(accepted ? view + 1 : 0);
  return accepted;
}

template <typename Serving>
void EndServing(Serving& serving) {
  serving.accepted.Store(0);
}

// A bank that may be written, none while all are taken or a lane is choosing.
// Order: what a lane announced is read before its copies, which are then at least as new.
template <typename Words>
std::optional<uint32_t> FindFreeBank(Words& words) {
  const uint32_t newest = BankOf(words.newest().Load());
  uint32_t taken = uint32_t{1} << newest;
  for (int l = 0; l < words.num_lanes(); ++l) {
    auto& lane = words.lane(l);
    const uint64_t announced = lane.announced.Load();
    if (announced == LaneCell::kChoosing) return std::nullopt;
    taken |= uint32_t{1} << BankOf(announced);
    const uint64_t copies_done = lane.copies_done.Load();
    for (uint32_t bank = 0; bank < static_cast<uint32_t>(words.num_banks()); ++bank) {
      if (lane.copy_of_bank[bank].Load() > copies_done) taken |= uint32_t{1} << bank;
    }
  }
  for (uint32_t bank = 0; bank < static_cast<uint32_t>(words.num_banks()); ++bank) {
    if ((taken >> bank & 1) == 0) return bank;
  }
  return std::nullopt;
}

// Makes the maps written into `bank` the newest.
template <typename Words>
void PublishBank(Words& words, uint32_t bank) {
  words.newest().StoreAndFence(NextNewest(words.newest().Load(), bank));
}

struct QuiescedAt {
  uint64_t epoch = 0;  // packed
  uint64_t view = 0;
};

// The newest epoch and view that nothing open is older than; none while anything is choosing.
// Requires: the caller's last stores of newest and newest_view were fenced.
template <typename Words>
std::optional<QuiescedAt> FindQuiesced(Words& words) {
  QuiescedAt at{words.bank_epoch(BankOf(words.newest().Load())).Load(), words.newest_view().Load()};
  for (int l = 0; l < words.num_lanes(); ++l) {
    auto& lane = words.lane(l);
    if (lane.announced.Load() == LaneCell::kChoosing) return std::nullopt;
    for (auto& open : lane.tickets) {
      if (!IsOpen(open)) continue;
      if (const uint64_t epoch = open.epoch.Load(); epoch < at.epoch) at.epoch = epoch;
      if (const uint64_t view = open.view.Load(); view < at.view) at.view = view;
    }
  }
  for (int t = 0; t < words.num_serving(); ++t) {
    const uint64_t accepted = words.serving(t).accepted.Load();
    if (accepted == ServingCell::kChoosing) return std::nullopt;
    if (accepted != 0 && accepted - 1 < at.view) at.view = accepted - 1;
  }
  return at;
}

}  // namespace evenkeel::engine
