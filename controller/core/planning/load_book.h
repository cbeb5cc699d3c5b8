// SPDX-License-Identifier: Apache-2.0
//
// LoadBook: what a group's agents counted, in windows, and how well balanced it was.
//
// Spans of a rank's reports follow one another without gaps; where an agent's clock is further than kClockSkewMax from
// ours, the time of receipt stands in for its own.
//
// Threads:   none. Owned by Group.
// Limits:    GroupSettings::num_windows_kept windows, and as many of an earlier controller until they are replaced.
// Errors:    Add names the entry that does not fit; nothing is added then.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/load_windows.h"
#include "algos/placement.h"
#include "algos/problem.h"
#include "controller/core/event.h"
#include "controller/core/planning/load_history.h"
#include "controller/core/status.h"

namespace evenkeel::controller {

class LoadBook {
 public:
  static constexpr absl::Duration kClockSkewMax = absl::Seconds(1);

  LoadBook(const GroupInfo& info, const GroupSettings& settings, absl::Time now);

  // A new incarnation of `rank`: what it reports first began about a report interval before.
  void Restart(RankId rank) { last_report_[rank.idx()] = absl::InfinitePast(); }
  absl::Status Add(RankId rank, const LoadReport& report, absl::Time now);

  // The ranks whose reports windows wait for; one that stays silent is waited for a few report intervals.
  void SetExpected(std::span<const RankId> ranks) { windows_.SetExpected(ranks); }
  // Ranks that take no part: balance is among the others. [num_ranks], or empty: all take part.
  void SetAbsent(std::vector<bool> absent) { absent_ = std::move(absent); }
  // Whether a report has completed a window that Advance has not told of yet.
  bool HasClosed() const { return windows_.HasClosed(); }
  // Closes windows that are complete; returns how many. `predicted` [num_layers]: of the shares in force, 0 unknown.
  int Advance(absl::Time now, std::span<const double> predicted);
  absl::Time NextEdge() const { return windows_.NextEdge(); }
  // Of the newest closed window; InfinitePast: none has closed.
  absl::Time newest_end() const { return windows_.num_closed() == 0 ? absl::InfinitePast() : windows_.SpanOf(0).to; }

  // What placements are planned on: the windows among the last `num_windows` in which anything of `phase` was counted.
  // `steps` 0: each is an episode. Else an episode is the fewest whole windows, counted back from the newest, that
  // hold so many engine steps; what is left at the beginning is one only where there is no other.
  struct History {
    std::vector<algos::Load> episodes;  // oldest first
    int num_windows = 0;                // that they cover
  };
  // Windows of an earlier controller stand before the own ones.
  History HistoryOf(int num_windows, int steps, algos::LoadPhase phase = algos::LoadPhase::kAll) const;
  algos::Load Sum(int count) const { return windows_.Sum(count); }
  // Likewise, with those of an earlier controller.
  algos::Load SumOfHistory(int count) const;
  // Of one closed window, 0 being the newest; none where it is not kept or nothing was counted in it.
  std::optional<algos::Load> Window(int age) const;
  // The largest engine step of the newest closed window; 0 where no report touched it.
  uint64_t newest_step() const { return windows_.num_closed() > 0 ? windows_.SpanOf(0).last_step : 0; }
  // The newest closed window in which anything was counted; none where none is kept.
  std::optional<algos::Load> Newest() const;

  // The newest `count` closed windows, those without tokens left out, oldest first.
  std::vector<KeptWindow> ClosedWindows(int count) const;
  // What an earlier controller counted: of the same layers and experts, oldest first; all older than the own.
  void Restore(std::vector<KeptWindow> windows);

  GroupStats Stats(const StatsQuery& query, std::span<const double> predicted, absl::Time now) const;
  // Per layer, over the last `count` windows; 0 where nothing was counted.
  struct Balance {
    std::vector<double> realised, initial;
  };
  Balance BalanceOf(int count) const;

  uint64_t num_tokens() const { return num_tokens_; }
  uint64_t num_unrouted_tokens() const { return num_unrouted_tokens_; }
  uint64_t num_reports() const { return num_reports_; }

 private:
  // Of windows by age, those of an earlier controller after the own ones.
  int num_known() const { return windows_.num_closed() + static_cast<int>(restored_.size()); }
  const KeptWindow* RestoredAt(int age) const;  // null: an own one
  algos::WindowSpan SpanAt(int age) const;
  algos::Load LoadAt(int age, algos::LoadPhase phase) const;
  // Tokens and balance of each layer over the last `count` windows.
  void AddLayers(int count, std::span<const double> predicted, GroupStats& stats) const;
  // Fills `tokens` of each of `stats`' layers with those of the last `count` windows.
  void AddPhase(algos::LoadPhase phase, int count, std::vector<uint64_t> LayerStats::*tokens, GroupStats& stats) const;
  Balance BalanceOf(const algos::Load& load, std::span<const uint64_t> slot_tokens) const;
  std::span<const uint64_t> LayerOf(std::span<const uint64_t> slot_tokens, int layer) const;

  const algos::Shape shape_;
  const int num_layers_;
  const CountPlace count_place_;
  const absl::Duration report_interval_;
  const int num_windows_kept_;
  const algos::Placement initial_;
  const std::vector<bool> absent_at_first_;
  std::vector<bool> absent_;
  algos::LoadWindows windows_;
  std::vector<KeptWindow> restored_;     // oldest first
  std::vector<absl::Time> last_report_;  // [num_ranks] end of the newest span
  std::deque<WindowStats> series_;       // of closed windows, oldest first
  uint64_t num_tokens_ = 0;
  uint64_t num_unrouted_tokens_ = 0;
  uint64_t num_reports_ = 0;
};

// The mean of what is known: entries of 0 are left out; 0 if none is left.
double MeanOfKnown(std::span<const double> values);

}  // namespace evenkeel::controller
