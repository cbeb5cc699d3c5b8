// SPDX-License-Identifier: Apache-2.0
//
// LoadWindows: a group's load over time, cut into windows at edges that are common to all its ranks.
//
// Agents report what they counted since their last report, each over a span of its own. Time is divided into
// windows of one length, counted from the Unix epoch; window i covers (i * length, (i + 1) * length]. A span
// that crosses edges is split in proportion to time, in integers, so that no token is lost or invented. A window
// closes once every expected rank has reported up to its end or past it, and `lag` after its end at the latest: ranks
// that are silent hold it up no longer. Later reports still go to the window they belong to as long as it is kept. A
// closed window is an episode.
//
// Time:      passed to each call; may not go back (if it does, the latest one counts).
// Limits:    num_windows_kept closed windows and those still open, each of layers x (experts + slots) counters, and
//            layers x experts more for each phase that is counted apart, made when first used and used again. Adding
//            is O(entries) and allocates nothing in steady state; closing is O(ranks), so amortised a constant for
//            each report.
//            Tokens that belong to no kept window any more are dropped and counted.
// Errors:    Add answers kInvalidArgument, naming the entry, and then has added nothing.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "algos/problem.h"
#include "algos/protocol/messages.h"
#include "algos/window_span.h"

namespace evenkeel::algos {

class LoadWindows {
 public:
  struct Options {
    Shape shape;
    int num_layers = 0;                            // > 0
    absl::Duration window = absl::Seconds(1);      // > 0
    absl::Duration lag = absl::Milliseconds(250);  // >= 0
    int num_windows_kept = 600;                    // > 0
  };

  // One report: tokens counted after `from` and until `to`, in engine steps first_step to last_step. `rank` has then
  // reported up to `to`; where it is not valid, nobody has.
  struct Report {
    RankId rank{};
    absl::Time from;
    absl::Time to;
    uint64_t first_step = 0;
    uint64_t last_step = 0;
    std::span<const LoadReport::Entry> entries;
  };

  // The first window that counts as closed is the first that begins at or after `start`.
  LoadWindows(const Options& options, absl::Time start);

  // Adds what a rank counted. A span that ends after `now` (a clock ahead of ours) is taken to end at `now`, as
  // long as it is; one that ends before it begins is an error.
  absl::Status Add(absl::Time now, const Report& report);

  // The ranks whose reports windows wait for; none at first, when lag alone closes them. Requires: within the shape.
  void SetExpected(std::span<const RankId> ranks);

  // Closes the windows that are complete or whose lag has passed. Returns how many were closed since the last call,
  // also by Add.
  int Advance(absl::Time now);
  // Advance would return more than 0 at once.
  bool HasClosed() const { return num_closed_unreported_ > 0; }

  // When Advance would next close a window that no report completes before.
  absl::Time NextEdge() const;

  // Closed windows at hand, at most num_windows_kept. `age` below is from 0, the newest, to num_closed() - 1.
  int num_closed() const;
  WindowSpan SpanOf(int age) const;
  Load Episode(int age, LoadPhase phase = LoadPhase::kAll) const;
  // Tokens per slot over all ranks: [num_layers * num_slots].
  std::vector<uint64_t> SlotTokens(int age) const;

  // The last `count` closed windows, or as many as there are: oldest first, or added up.
  std::vector<Load> Episodes(int count) const;
  Load Sum(int count, LoadPhase phase = LoadPhase::kAll) const;
  std::vector<uint64_t> SlotTokensSum(int count) const;

  // Tokens per slot of the windows not closed yet.
  std::vector<uint64_t> OpenSlotTokens() const;

  // Tokens that came too late for any window kept.
  uint64_t num_expired_tokens() const { return num_expired_tokens_; }

 private:
  struct Window {
    uint64_t first_step = 0, last_step = 0, num_tokens = 0;
    bool touched = false;
    uint64_t num_phase_tokens[2] = {0, 0};       // prefill, decode
    std::vector<uint64_t> expert_tokens;         // [num_layers * num_experts], empty where never touched
    std::vector<uint64_t> phase_tokens[2] = {};  // likewise, empty where the phase never had any
    std::vector<uint64_t> slot_tokens;           // [num_layers * num_slots], likewise
  };

  struct Reporter {
    int64_t reached = std::numeric_limits<int64_t>::min();  // newest window that it has reported to the end of
    bool expected = false;
  };

  absl::Status Validate(const Report& report) const;
  absl::Time EndOf(int64_t number) const;
  int64_t OldestKept() const { return open_ - options_.num_windows_kept; }
  void OpenAndClose(absl::Time now);
  bool IsComplete() const { return num_expected_ > 0 && num_behind_ == 0; }  // the oldest open window
  int64_t OldestAwaited() const;
  void CountBehind();
  void NoteReached(RankId rank, int64_t to);
  Window& At(int64_t number);
  const Window& At(int64_t number) const;
  const Window& Closed(int age) const;
  Window& Touch(int64_t number, const Report& report);
  void AddPhase(Window& window, size_t phase, const LoadReport::Entry& entry, uint64_t tokens);
  const std::vector<uint64_t>& TokensOf(const Window& window, LoadPhase phase) const;
  void AddWhole(int64_t number, const Report& report);
  void AddSplit(int64_t first, int64_t last, int64_t from, uint64_t length, const Report& report);

  const Options options_;
  const int64_t window_nanos_;
  const int64_t first_;  // the first window that may count as closed
  int64_t open_;         // oldest window not closed yet
  int64_t newest_;       // newest window with storage; older ones down to OldestKept() have it too
  absl::Time now_;
  std::vector<Reporter> reporters_;  // [num_ranks]
  int num_expected_ = 0;
  int num_behind_ = 0;  // of the expected: have not reported to the end of window open_
  int num_closed_unreported_ = 0;
  uint64_t num_expired_tokens_ = 0;
  std::vector<Window> ring_;  // by window number modulo its size
};

}  // namespace evenkeel::algos
