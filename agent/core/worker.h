// SPDX-License-Identifier: Apache-2.0
//
// Worker: the agent of one rank as a state machine (docs/protocol.md).
//
// It stands between the controller's stream and the engine's region: applies maps, carries out moves, folds
// counters into load reports, fingerprints live slots again, and says when the engine has quiesced. It obeys
// one controller at a time, that of the highest term it ever heard, and refuses whatever does not fit what it
// holds. While no controller is there, moves already begun go on and load is kept.
//
// Threads:   none. Runs on the agent's strand, or in the simulator's loop.
// Owns:      copies of the region's slot records and newest maps; the region itself belongs to the shell.
// Limits:    one move per slot; kUpdatesWaitingMax updates wait for their view; kPeersEndedMax ended peers are known.
// Order:     the first Step after a takeover frees the slots found in `writing`, before anything else; the
//            shell waits out rule 19 before it. Every ReadCounters is answered once, in order.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

#include "agent/core/event.h"
#include "agent/core/load_fold.h"
#include "agent/core/move_table.h"
#include "algos/protocol/identity.h"
#include "algos/protocol/messages.h"

namespace evenkeel::agent {

class Worker {
 public:
  static constexpr int kUpdatesWaitingMax = 8;
  static constexpr int kDigestsKeptMax = 1024;
  static constexpr int kPeersEndedMax = 4096;
  static constexpr absl::Duration kWriteRetry = absl::Milliseconds(2);
  // Those who read another rank's slots look every half of this whether its engine is suspended.
  static constexpr absl::Duration kReadersLook = absl::Milliseconds(100);
  // Without a controller: how long after the engine's word its slots count as read by nobody.
  static constexpr absl::Duration kReadersGone = absl::Seconds(1);

  // Requires: `region` is consistent (a shape that validates, as many slots and layers as it says).
  explicit Worker(RegionState region);

  // Requires: `now` not before any earlier `now`.
  Effects Step(absl::Time now, const Event& event);

  // When to give Tick, at the latest; InfiniteFuture if there is nothing to wait for.
  absl::Time NextWakeup() const;

  // ---- For shells, checkers and tests
  bool attached() const { return welcomed_; }  // a controller was heard and is obeyed
  uint32_t term_obeyed() const { return term_obeyed_; }
  const View& view() const { return view_; }
  const AgentSettings& settings() const { return settings_; }
  // Newest accepted maps, and the epoch of the newest ones known to be in the region.
  const std::shared_ptr<const Maps>& newest_maps() const { return newest_; }
  Epoch written_epoch() const { return written_epoch_; }
  bool write_pending() const { return written_epoch_ != newest_->epoch; }
  Epoch quiesced_epoch() const { return quiesced_epoch_; }
  const MoveTable& moves() const { return moves_; }

 private:
  void On(absl::Time now, const StreamOpened& event, Effects& effects);
  void On(absl::Time now, const StreamClosed& event, Effects& effects);
  void On(absl::Time now, const MessageReceived& event, Effects& effects);
  void On(absl::Time now, const EngineObserved& event, Effects& effects);
  void On(absl::Time now, const CountersRead& event, Effects& effects);
  void On(absl::Time now, const MapsWritten& event, Effects& effects);
  void On(absl::Time now, const TransferEnded& event, Effects& effects);
  void On(absl::Time now, const PostMoveAcknowledged& event, Effects& effects);
  void On(absl::Time now, const SlotFingerprinted& event, Effects& effects);
  void On(absl::Time now, const OffersChanged& event, Effects& effects);
  void On(absl::Time now, const PeerEngineEnded& event, Effects& effects);
  void On(absl::Time now, const Tick& event, Effects& effects);

  void Obey(absl::Time now, const Welcome& message, Effects& effects);
  void Obey(absl::Time now, const ViewUpdate& message, Effects& effects);
  void Obey(absl::Time now, const MapsUpdate& message, Effects& effects);
  void Obey(absl::Time now, const MoveOrder& message, Effects& effects);
  void Obey(absl::Time now, const CancelMove& message, Effects& effects);
  void Obey(absl::Time now, const Refused& message, Effects& effects);
  void Obey(absl::Time now, const SlotsReleased& message, Effects& effects);
  // What is reported of the engine; the next one is of the steps from here on.
  EngineStatus StatusWithSteps();

  void LeaveStream(Effects& effects);
  void HangUp(absl::Status why, Effects& effects);
  // Accepts or refuses maps whose view is known.
  void TakeMaps(const MapsUpdate& update, Effects& effects);
  absl::Status Accept(const MapsUpdate& update, Effects& effects);
  bool ChangesCountedExperts(const Maps& maps) const;
  void WriteNewest(Effects& effects);
  void ReportQuiesced(Effects& effects);
  void ReportPeersEnded(Effects& effects);
  void Suspend(absl::Time now, Effects& effects);
  absl::Time NextGrant() const;
  void GrantIfQuiet(absl::Time now, Effects& effects);
  void RunTimers(absl::Time now, Effects& effects);
  uint64_t RequestReading(Effects& effects);
  Attach Inventory() const;
  // Drops messages that nobody could hear and credits load to what the slots now hold.
  void Settle(Effects& effects);

  // Constant after construction.
  const GroupInfo group_;
  const Member member_;
  const bool joining_;

  // What is offered, and whether the stream was told.
  std::vector<Endpoint> endpoints_;
  bool endpoints_told_ = false;

  // The controller.
  uint32_t term_obeyed_;
  AgentSettings settings_;
  uint64_t stream_ = 0;
  bool open_ = false;      // the stream is up
  bool welcomed_ = false;  // and its controller is obeyed

  // Maps and view. Invariant: written_epoch_ <= newest_->epoch.
  View view_;
  std::shared_ptr<const Maps> newest_;
  std::vector<MapsUpdate> updates_waiting_;  // for their view, in order of arrival
  Epoch written_epoch_;
  absl::Time write_retry_ = absl::InfiniteFuture();
  uint64_t write_reading_ = 0;  // newest_ is written once this reading is folded
  bool write_held_ = false;
  absl::btree_map<Epoch, uint64_t> digests_;  // of accepted maps not older than the quiesced epoch

  // The engine.
  Epoch quiesced_epoch_;
  uint64_t quiesced_view_ = 0;
  Quiesced reported_;
  bool reported_any_ = false;  // on this stream
  EngineStatus engine_;
  // As last seen, and as last reported.
  struct StepsSeen {
    uint64_t num = 0;
    absl::Duration total = absl::ZeroDuration();
    absl::Time at;
  };
  StepsSeen steps_, steps_reported_;
  bool engine_seen_ = false;
  // Of a suspended engine. This worker sees no other one, nor its end: the next one takes over what the engine made.
  uint64_t suspension_;    // 0: not suspended
  bool released_ = false;  // the controller says that nobody reads the slots
  bool granted_ = false;
  absl::Time suspended_since_ = absl::InfiniteFuture();
  absl::Time welcomed_until_ = absl::InfinitePast();
  // Engines of other ranks that have ended; kept while a view may still have them, true: reported on this stream.
  absl::btree_map<Member, bool> peers_ended_;

  // Slots, moves, load.
  MoveTable moves_;
  LoadFold load_;
  bool leftovers_freed_ = false;
  uint64_t readings_requested_ = 0;
  uint64_t readings_answered_ = 0;
  uint64_t report_reading_ = 0;  // the reading that the next report waits for; 0: none asked
  absl::Time next_report_ = absl::InfiniteFuture();
  absl::Time next_scrub_ = absl::InfiniteFuture();
};

}  // namespace evenkeel::agent
