// SPDX-License-Identifier: Apache-2.0
#include "controller/core/rollout/move_orders.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include "absl/container/btree_map.h"
#include "absl/strings/str_cat.h"

namespace evenkeel::controller {

namespace {

const Endpoint* FindTransport(const std::vector<Endpoint>& endpoints, const std::string& transport) {
  for (const Endpoint& endpoint : endpoints) {
    if (endpoint.transport == transport) return &endpoint;
  }
  return nullptr;
}

// Whether a rank that offers `own` can read from `source`: both speak the transport, and "local" and "ipc" only on one host.
bool CanRead(const std::vector<Endpoint>& own, const Endpoint& source, const std::string& forced) {
  if (!forced.empty() && source.transport != forced) return false;
  const Endpoint* mine = FindTransport(own, source.transport);
  if (mine == nullptr) return false;
  const bool on_one_host = source.transport == "local" || source.transport == "ipc";
  return !on_one_host || mine->host == source.host;
}

void AddSources(const MemberRecord& to, const MemberRecord& from, SlotIdx slot, uint64_t generation,
                const std::string& forced, std::vector<MoveSource>& sources) {
  if (from.endpoints.empty()) {
    sources.push_back({from.member, slot, generation, Endpoint()});
    return;
  }
  for (const Endpoint& endpoint : from.endpoints) {
    if (endpoint.is_store() || !CanRead(to.endpoints, endpoint, forced)) continue;
    sources.push_back({from.member, slot, generation, endpoint});
  }
}

// One endpoint for each host that offers a store of that transport, by host. Which of a host's agents is asked goes
// round with `turn`: one that does not answer is not asked again at once.
std::vector<Endpoint> StoresByHost(const Membership& members, const std::string& transport, uint64_t turn) {
  absl::btree_map<std::string, std::vector<const Endpoint*>> offers;
  for (const MemberRecord& member : members.members()) {
    if (!member.attached()) continue;
    for (const Endpoint& endpoint : member.endpoints) {
      if (endpoint.transport == transport) offers[endpoint.host].push_back(&endpoint);
    }
  }
  std::vector<Endpoint> stores;
  for (const auto& [host, of_host] : offers) stores.push_back(*of_host[turn % of_host.size()]);
  return stores;
}

// Stores from which `to` may read what no rank's slot gave it: its host's pool, other hosts' pools, the snapshot that
// its own host sees.
void AddStores(const MemberRecord& to, const Membership& members, uint64_t turn, std::vector<MoveSource>& sources) {
  if (to.endpoints.empty()) return;
  const std::string& host = to.endpoints.front().host;
  const auto add = [&sources](const Endpoint& store) { sources.push_back({Member(), SlotIdx(), 0, store}); };
  std::vector<Endpoint> pools = StoresByHost(members, "pool", turn);
  const auto others =
      std::stable_partition(pools.begin(), pools.end(), [&](const Endpoint& pool) { return pool.host == host; });
  for (auto pool = pools.begin(); pool != others; ++pool) add(*pool);
  if (FindTransport(to.endpoints, "ucx") != nullptr && others != pools.end()) {
    const auto num_others = static_cast<uint64_t>(pools.end() - others);
    std::rotate(others, others + static_cast<ptrdiff_t>(turn % num_others), pools.end());
    for (auto pool = others; pool != pools.end() && pool - others < MoveOrders::kOtherPoolsMax; ++pool) add(*pool);
  }
  for (const Endpoint& snapshot : StoresByHost(members, "snapshot", turn)) {
    if (snapshot.host == host) add(snapshot);
  }
}

}  // namespace

absl::Status MoveOrders::Send(const Request& request, const GroupSettings& settings, const Membership& members,
                              SlotTable& slots, absl::Time now, Effects& effects) {
  const algos::Shape& shape = slots.shape();
  const MemberRecord& to = members.at(shape.RankOf(request.slot));
  const std::optional<uint64_t> fingerprint = slots.Expected(request.layer, request.expert);
  OpenOrder open;
  std::vector<SlotIdx> candidates = request.sources;
  std::stable_partition(candidates.begin(), candidates.end(),
                        [&](SlotIdx slot) { return shape.RankOf(slot) != request.avoid_source; });
  MoveOrder order;
  for (SlotIdx slot : candidates) {
    const Slot& source = slots.at(request.layer, slot);
    const MemberRecord& from = members.at(shape.RankOf(slot));
    if (source.use != SlotUse::kLive || source.expert != request.expert || !from.attached()) continue;
    const size_t before = order.sources.size();
    AddSources(to, from, slot, source.generation, settings.agent.transport, order.sources);
    if (order.sources.size() > before) open.sources.push_back(slot);
  }
  AddStores(to, members, slots.at(request.layer, request.slot).generation, order.sources);
  if (order.sources.empty() || !fingerprint.has_value()) {
    return absl::UnavailableError(absl::StrCat("move expert ", request.expert.value(), " of layer ",
                                               request.layer.value(), " to slot ", request.slot.value(), ": none of ",
                                               candidates.size(), " replicas can be read from there, and no store"));
  }
  order.retired_since = slots.at(request.layer, request.slot).since;
  order.move_id = open.move_id = next_id_++;
  order.layer = open.layer = request.layer;
  order.slot = open.slot = request.slot;
  order.expert = open.expert = request.expert;
  order.generation = open.generation = slots.Order(request.layer, request.slot, request.expert, order.move_id);
  order.fingerprint = *fingerprint;
  order.deadline = settings.move_deadline;
  open.readable_until = now + settings.move_deadline + kAnswerSlack;
  open.next_cancel = open.readable_until;
  open_.emplace(open.move_id, std::move(open));
  SetWakeup();
  effects.push_back(SendToAgent{*to.session, std::move(order)});
  return absl::OkStatus();
}

std::optional<OpenOrder> MoveOrders::End(LayerId layer, SlotIdx slot) {
  for (auto order = open_.begin(); order != open_.end(); ++order) {
    if (order->second.layer != layer || order->second.slot != slot) continue;
    OpenOrder ended = std::move(order->second);
    open_.erase(order);
    SetWakeup();
    return ended;
  }
  return std::nullopt;
}

void MoveOrders::Cancel(LayerId layer, SlotIdx slot, const Membership& members, const SlotTable& slots, absl::Time now,
                        Effects& effects) {
  for (auto& [id, order] : open_) {
    if (order.layer != layer || order.slot != slot) continue;
    order.cancelled = true;
    order.next_cancel = now + kCancelInterval;
    const MemberRecord& member = members.at(slots.shape().RankOf(slot));
    if (member.attached()) {
      effects.push_back(SendToAgent{*member.session, CancelMove{id, layer, slot, order.generation}});
    }
  }
  SetWakeup();
}

void MoveOrders::Tick(const Membership& members, const SlotTable& slots, absl::Time now, Effects& effects) {
  if (next_wakeup_ > now) return;
  for (auto& [id, order] : open_) {
    if (order.next_cancel <= now) Cancel(order.layer, order.slot, members, slots, now, effects);
  }
}

const OpenOrder* MoveOrders::Find(LayerId layer, SlotIdx slot) const {
  for (const auto& [id, order] : open_) {
    if (order.layer == layer && order.slot == slot) return &order;
  }
  return nullptr;
}

std::vector<int> MoveOrders::Readers(LayerId layer, int num_slots, absl::Time now) const {
  std::vector<int> readers(static_cast<size_t>(num_slots), 0);
  for (const auto& [id, order] : open_) {
    if (order.layer != layer || order.readable_until <= now) continue;
    for (SlotIdx source : order.sources) ++readers[source.idx()];
  }
  return readers;
}

bool MoveOrders::IsRead(LayerId layer, SlotIdx slot, absl::Time now) const {
  return std::ranges::any_of(open_, [&](const auto& entry) {
    const OpenOrder& order = entry.second;
    return order.layer == layer && order.readable_until > now && std::ranges::count(order.sources, slot) > 0;
  });
}

void MoveOrders::SetWakeup() {
  next_wakeup_ = absl::InfiniteFuture();
  for (const auto& [id, order] : open_) next_wakeup_ = std::min(next_wakeup_, order.next_cancel);
}

}  // namespace evenkeel::controller
