// SPDX-License-Identifier: Apache-2.0
//
// Publisher: the maps in force, their epochs, and who was sent what.
//
// Each publish is one epoch for all layers that changed. An agent gets what differs from the last maps sent on its
// stream, or all layers where nothing was, or where it refused. Acknowledgements count only with the digest of the maps
// that were published at their epoch (rule 3).
//
// Threads:   none. Owned by Group.
// Limits:    digests of epochs older than the oldest still in use are forgotten, and all but kDigestsKeptMax.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/layer_map.h"
#include "algos/protocol/identity.h"
#include "algos/protocol/messages.h"
#include "controller/core/event.h"
#include "controller/core/ranks/membership.h"

namespace evenkeel::controller {

class Publisher {
 public:
  static constexpr size_t kDigestsKeptMax = 4096;
  static constexpr absl::Duration kRefusalBackOff = absl::Seconds(1);

  using LayerMaps = std::vector<std::pair<LayerId, algos::LayerMap>>;

  Publisher(int num_ranks, int num_layers);

  // The first epoch will follow `last`: (term, 0), or what the group before it had. Requires: nothing was published.
  void Begin(Epoch last) { epoch_ = last; }

  bool published() const { return published_; }
  Epoch epoch() const { return epoch_; }  // newest published
  Epoch next_epoch() const { return {epoch_.term, epoch_.number + 1}; }
  uint64_t digest() const { return digest_; }
  const View& view() const { return view_; }
  const algos::LayerMap& map(LayerId layer) const { return layers_[layer.idx()].map; }
  Epoch changed(LayerId layer) const { return layers_[layer.idx()].changed; }

  // Publishes the view to all that are attached, also to those that it leaves out, but for those that are held; before
  // any maps that presume it (rule 2).
  void PublishView(View view, const Membership& membership, Effects& effects);

  // Publishes `changed` as the next epoch, to members that are not held. The first must list all layers.
  void Publish(LayerMaps changed, const Membership& membership, Effects& effects);

  // A stream began, or its agent is held no longer: it is sent the view and, as a member, the maps, unless it has
  // them. `attach` says what it holds.
  void Greet(const MemberRecord& member, const Attach& attach, Effects& effects);
  // Likewise, where a publish follows at once: no maps yet.
  void GreetWithoutMaps(const MemberRecord& member, Effects& effects);

  // Full maps are sent, at once the first time, then after kRefusalBackOff (see Tick) and with every publish.
  void Refuse(const MemberRecord& member, const MapsRefused& refused, absl::Time now, Effects& effects);

  // It has quiesced at `epoch`, which Acknowledges: full maps sent by then were taken, so changes alone do from here on.
  void Accept(RankId rank, Epoch epoch);

  void Tick(absl::Time now, const Membership& membership, Effects& effects);
  absl::Time NextWakeup() const;

  // True where these maps were published at this epoch of this term, or the epoch is of an earlier one.
  bool Acknowledges(Epoch epoch, uint64_t digest) const;
  // Forgets digests that nobody can acknowledge any more.
  void Forget(Epoch oldest_quiesced);

  Epoch sent(RankId rank) const { return streams_[rank.idx()].sent; }

 private:
  struct Layer {
    algos::LayerMap map;
    uint64_t digest = 0;
    Epoch changed;
  };
  // What the present stream of a rank was sent.
  struct Stream {
    Epoch sent;                 // {0, 0}: no maps yet
    bool refused_full = false;  // full maps go out until it has quiesced at `full`
    Epoch full;
    absl::Time retry = absl::InfiniteFuture();
  };

  // All layers changed after `base`; all layers where it is {0, 0}.
  MapsUpdate UpdateFrom(Epoch base) const;
  void Send(const MemberRecord& member, SharedMessage update, Effects& effects);

  std::vector<Layer> layers_;
  std::vector<Stream> streams_;  // [num_ranks]
  Epoch epoch_;
  bool published_ = false;
  uint64_t digest_ = 0;
  View view_;
  absl::btree_map<Epoch, uint64_t> digests_;
};

}  // namespace evenkeel::controller
