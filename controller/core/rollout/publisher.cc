// SPDX-License-Identifier: Apache-2.0
#include "controller/core/rollout/publisher.h"

#include <algorithm>

#include "algos/base/check.h"

namespace evenkeel::controller {

Publisher::Publisher(int num_ranks, int num_layers)
    : layers_(static_cast<size_t>(num_layers)), streams_(static_cast<size_t>(num_ranks)) {}

void Publisher::PublishView(View view, const Membership& membership, Effects& effects) {
  EVENKEEL_CHECK(view.number > view_.number);
  view_ = std::move(view);
  const SharedMessage update(ViewUpdate{view_});
  for (const MemberRecord& member : membership.members()) {
    if (member.attached() && !member.held) effects.push_back(SendToAgent{*member.session, update});
  }
}

void Publisher::Publish(LayerMaps changed, const Membership& membership, Effects& effects) {
  EVENKEEL_CHECK(published() || changed.size() == layers_.size());
  epoch_ = next_epoch();
  published_ = true;
  for (auto& [layer, map] : changed) {
    Layer& entry = layers_[layer.idx()];
    entry.map = std::move(map);
    entry.digest = algos::DigestOf(entry.map);
    entry.changed = epoch_;
  }
  std::vector<uint64_t> digests;
  digests.reserve(layers_.size());
  for (const Layer& layer : layers_) digests.push_back(layer.digest);
  digest_ = algos::DigestOf(digests);
  digests_.emplace(epoch_, digest_);
  if (digests_.size() > kDigestsKeptMax) digests_.erase(digests_.begin());
  absl::btree_map<Epoch, SharedMessage> updates;  // by base
  for (const MemberRecord& member : membership.members()) {
    if (!member.attached() || !member.counts()) continue;
    // One that refused full maps gets full ones again: these may suit it.
    const Stream& stream = streams_[member.member.rank.idx()];
    const Epoch base = stream.refused_full ? Epoch() : stream.sent;
    auto update = updates.find(base);
    if (update == updates.end()) update = updates.emplace(base, UpdateFrom(base)).first;
    Send(member, update->second, effects);
  }
}

MapsUpdate Publisher::UpdateFrom(Epoch base) const {
  const bool full = base == Epoch();
  MapsUpdate update;
  update.epoch = epoch_;
  update.view_number = view_.number;
  update.base_epoch = full ? epoch_ : base;
  update.maps_digest = digest_;
  for (size_t l = 0; l < layers_.size(); ++l) {
    if (full || layers_[l].changed > base) {
      update.layers.emplace_back(LayerId(static_cast<int32_t>(l)), layers_[l].map);
    }
  }
  return update;
}

void Publisher::Send(const MemberRecord& member, SharedMessage update, Effects& effects) {
  streams_[member.member.rank.idx()].sent = epoch_;
  effects.push_back(SendToAgent{*member.session, std::move(update)});
}

void Publisher::GreetWithoutMaps(const MemberRecord& member, Effects& effects) {
  streams_[member.member.rank.idx()] = Stream();
  if (view_.number > 0 && !member.held) effects.push_back(SendToAgent{*member.session, ViewUpdate{view_}});
}

void Publisher::Greet(const MemberRecord& member, const Attach& attach, Effects& effects) {
  GreetWithoutMaps(member, effects);
  if (!published() || !member.counts()) return;
  if (attach.epoch == epoch_ && attach.maps_digest == digest_) {
    streams_[member.member.rank.idx()].sent = epoch_;
  } else {
    Send(member, UpdateFrom(Epoch()), effects);
  }
}

void Publisher::Refuse(const MemberRecord& member, const MapsRefused& refused, absl::Time now, Effects& effects) {
  if (!published()) return;
  Stream& stream = streams_[member.member.rank.idx()];
  if (refused.held_epoch == epoch_ && refused.held_digest == digest_) {
    stream = Stream();
    stream.sent = epoch_;
    return;
  }
  if (stream.refused_full) {
    stream.retry = now + kRefusalBackOff;
    return;
  }
  stream.refused_full = true;
  stream.full = epoch_;
  Send(member, UpdateFrom(Epoch()), effects);
}

void Publisher::Accept(RankId rank, Epoch epoch) {
  Stream& stream = streams_[rank.idx()];
  if (stream.refused_full && epoch >= stream.full) stream.refused_full = false;
}

void Publisher::Tick(absl::Time now, const Membership& membership, Effects& effects) {
  for (const MemberRecord& member : membership.members()) {
    if (!member.known()) continue;
    Stream& stream = streams_[member.member.rank.idx()];
    if (stream.retry > now) continue;
    stream.retry = absl::InfiniteFuture();
    stream.refused_full = false;
    if (member.attached() && member.counts()) Send(member, UpdateFrom(Epoch()), effects);
  }
}

absl::Time Publisher::NextWakeup() const {
  absl::Time next = absl::InfiniteFuture();
  for (const Stream& stream : streams_) next = std::min(next, stream.retry);
  return next;
}

bool Publisher::Acknowledges(Epoch epoch, uint64_t digest) const {
  if (epoch.term < epoch_.term) return true;
  const auto found = digests_.find(epoch);
  return found != digests_.end() && found->second == digest;
}

void Publisher::Forget(Epoch oldest_quiesced) {
  digests_.erase(digests_.begin(), digests_.lower_bound(oldest_quiesced));
}

}  // namespace evenkeel::controller
