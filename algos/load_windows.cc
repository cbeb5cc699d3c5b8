// SPDX-License-Identifier: Apache-2.0
#include "algos/load_windows.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"
#include "algos/base/status_macros.h"

namespace evenkeel::algos {

namespace {

// Rounds towards minus infinity. Requires: b > 0.
int64_t FloorDivide(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

// The window that a moment belongs to as the end of a span, and as its beginning.
int64_t NumberOfEnd(int64_t nanos, int64_t window) { return FloorDivide(nanos - 1, window); }
int64_t NumberOfBegin(int64_t nanos, int64_t window) { return FloorDivide(nanos, window); }

// A part of a span, of 2^32.
constexpr int kPartBits = 32;
uint64_t TokensUntil(uint64_t tokens, uint64_t part) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(tokens) * part + (1u << (kPartBits - 1))) >> kPartBits);
}

void AddTo(std::vector<uint64_t>& sums, const std::vector<uint64_t>& values) {
  for (size_t i = 0; i < values.size(); ++i) sums[i] += values[i];
}

}  // namespace

LoadWindows::LoadWindows(const Options& options, absl::Time start)
    : options_(options),
      window_nanos_(absl::ToInt64Nanoseconds(options.window)),
      first_(-FloorDivide(-absl::ToUnixNanos(start), window_nanos_)),
      open_(FloorDivide(absl::ToUnixNanos(start - options.lag), window_nanos_)),
      newest_(open_),
      now_(start),
      reporters_(static_cast<size_t>(options.shape.num_ranks)) {
  EVENKEEL_CHECK(options.num_layers > 0 && options.num_windows_kept > 0 && options.shape.num_slots() > 0);
  EVENKEEL_CHECK(options.window > absl::ZeroDuration() && options.lag >= absl::ZeroDuration());
  const int64_t num_open_max = absl::ToInt64Nanoseconds(options.lag) / window_nanos_ + 3;
  ring_.resize(static_cast<size_t>(options.num_windows_kept + num_open_max));
  OpenAndClose(start);
}

absl::Status LoadWindows::Add(absl::Time now, const Report& report) {
  EVENKEEL_RETURN_IF_ERROR(Validate(report));
  OpenAndClose(now);
  int64_t from = absl::ToUnixNanos(report.from);
  int64_t to = std::max(absl::ToUnixNanos(report.to), std::numeric_limits<int64_t>::min() + 1);
  const uint64_t length = static_cast<uint64_t>(to) - static_cast<uint64_t>(std::min(from, to));
  const int64_t latest = absl::ToUnixNanos(now_);
  if (to > latest) {
    // As unsigned, since a span may be longer than half of all time.
    const uint64_t end = static_cast<uint64_t>(latest);
    const uint64_t earliest = static_cast<uint64_t>(std::numeric_limits<int64_t>::min() + 1);
    to = latest;
    from = static_cast<int64_t>(end - std::min(length, end - earliest));
  }
  const int64_t last = NumberOfEnd(to, window_nanos_);
  const int64_t first = std::min(NumberOfBegin(from, window_nanos_), last);
  if (last < OldestKept()) {
    for (const LoadReport::Entry& entry : report.entries) num_expired_tokens_ += entry.tokens;
  } else if (first == last) {
    AddWhole(last, report);
  } else {
    AddSplit(first, last, from, length, report);
  }
  NoteReached(report.rank, to);
  if (IsComplete()) OpenAndClose(now);
  return absl::OkStatus();
}

void LoadWindows::SetExpected(std::span<const RankId> ranks) {
  for (Reporter& reporter : reporters_) reporter.expected = false;
  for (RankId rank : ranks) reporters_[rank.idx()].expected = true;
  CountBehind();
}

int LoadWindows::Advance(absl::Time now) {
  OpenAndClose(now);
  return std::exchange(num_closed_unreported_, 0);
}

absl::Time LoadWindows::NextEdge() const { return EndOf(open_) + options_.lag; }

int LoadWindows::num_closed() const {
  return static_cast<int>(std::clamp<int64_t>(open_ - first_, 0, options_.num_windows_kept));
}

WindowSpan LoadWindows::SpanOf(int age) const {
  const Window& window = Closed(age);
  const absl::Time end = EndOf(open_ - 1 - age);
  return {.from = end - options_.window,
          .to = end,
          .first_step = window.first_step,
          .last_step = window.last_step,
          .num_tokens = window.num_tokens,
          .num_prefill_tokens = window.num_phase_tokens[0],
          .num_decode_tokens = window.num_phase_tokens[1]};
}

const std::vector<uint64_t>& LoadWindows::TokensOf(const Window& window, LoadPhase phase) const {
  if (phase == LoadPhase::kAll) return window.expert_tokens;
  return window.phase_tokens[phase == LoadPhase::kPrefill ? 0 : 1];
}

Load LoadWindows::Episode(int age, LoadPhase phase) const {
  Load load{.num_layers = options_.num_layers, .num_experts = options_.shape.num_experts};
  load.tokens = TokensOf(Closed(age), phase);
  load.tokens.resize(static_cast<size_t>(load.num_layers) * static_cast<size_t>(load.num_experts), 0);
  return load;
}

std::vector<uint64_t> LoadWindows::SlotTokens(int age) const {
  std::vector<uint64_t> tokens = Closed(age).slot_tokens;
  tokens.resize(static_cast<size_t>(options_.num_layers) * static_cast<size_t>(options_.shape.num_slots()), 0);
  return tokens;
}

std::vector<Load> LoadWindows::Episodes(int count) const {
  std::vector<Load> episodes;
  for (int age = std::min(count, num_closed()) - 1; age >= 0; --age) episodes.push_back(Episode(age));
  return episodes;
}

Load LoadWindows::Sum(int count, LoadPhase phase) const {
  Load load{.num_layers = options_.num_layers, .num_experts = options_.shape.num_experts};
  load.tokens.assign(static_cast<size_t>(load.num_layers) * static_cast<size_t>(load.num_experts), 0);
  for (int age = std::min(count, num_closed()) - 1; age >= 0; --age) {
    AddTo(load.tokens, TokensOf(Closed(age), phase));
  }
  return load;
}

std::vector<uint64_t> LoadWindows::SlotTokensSum(int count) const {
  std::vector<uint64_t> tokens(
      static_cast<size_t>(options_.num_layers) * static_cast<size_t>(options_.shape.num_slots()), 0);
  for (int age = std::min(count, num_closed()) - 1; age >= 0; --age) AddTo(tokens, Closed(age).slot_tokens);
  return tokens;
}

std::vector<uint64_t> LoadWindows::OpenSlotTokens() const {
  std::vector<uint64_t> tokens(
      static_cast<size_t>(options_.num_layers) * static_cast<size_t>(options_.shape.num_slots()), 0);
  for (int64_t number = open_; number <= newest_; ++number) AddTo(tokens, At(number).slot_tokens);
  return tokens;
}

absl::Status LoadWindows::Validate(const Report& report) const {
  if (report.rank.valid() && report.rank.value() >= options_.shape.num_ranks) {
    return absl::InvalidArgumentError(
        absl::StrCat("load report: rank ", report.rank.value(), " is none of ", options_.shape.num_ranks));
  }
  if (report.to < report.from) return absl::InvalidArgumentError("load report: its span ends before it begins");
  const uint32_t num_layers = static_cast<uint32_t>(options_.num_layers);
  const uint32_t num_slots = static_cast<uint32_t>(options_.shape.num_slots());
  const uint32_t num_experts = static_cast<uint32_t>(options_.shape.num_experts);
  for (const LoadReport::Entry& entry : report.entries) {
    if (entry.layer.idx() >= num_layers || entry.slot.idx() >= num_slots || entry.expert.idx() >= num_experts) {
      return absl::InvalidArgumentError(absl::StrCat(
          "load report: layer ", entry.layer.value(), " slot ", entry.slot.value(), " expert ", entry.expert.value(),
          " is none of ", num_layers, " layers x ", num_slots, " slots and ", num_experts, " experts"));
    }
  }
  return absl::OkStatus();
}

absl::Time LoadWindows::EndOf(int64_t number) const { return absl::FromUnixNanos((number + 1) * window_nanos_); }

// The oldest window to whose end an expected rank has not reported. Requires: some rank is expected.
int64_t LoadWindows::OldestAwaited() const {
  int64_t reached = std::numeric_limits<int64_t>::max();
  for (const Reporter& reporter : reporters_) {
    if (reporter.expected) reached = std::min(reached, reporter.reached);
  }
  return reached + 1;
}

void LoadWindows::CountBehind() {
  num_expected_ = num_behind_ = 0;
  for (const Reporter& reporter : reporters_) {
    num_expected_ += reporter.expected;
    num_behind_ += reporter.expected && reporter.reached < open_;
  }
}

void LoadWindows::NoteReached(RankId rank, int64_t to) {
  if (!rank.valid()) return;
  Reporter& reporter = reporters_[rank.idx()];
  const int64_t reached = std::max(reporter.reached, FloorDivide(to, window_nanos_) - 1);
  const int64_t before = std::exchange(reporter.reached, reached);
  if (reporter.expected && before < open_ && reached >= open_) --num_behind_;
}

// Makes storage for the windows up to now and closes those that are complete or whose lag has passed.
void LoadWindows::OpenAndClose(absl::Time now) {
  now_ = std::max(now_, now);
  int64_t open = std::max(open_, FloorDivide(absl::ToUnixNanos(now_ - options_.lag), window_nanos_));
  if (IsComplete()) open = std::max(open, OldestAwaited());
  const int64_t newest = std::max({newest_, open, NumberOfEnd(absl::ToUnixNanos(now_), window_nanos_)});
  const int64_t num_stored = static_cast<int64_t>(ring_.size());
  for (int64_t number = std::max(newest_ + 1, newest - num_stored + 1); number <= newest; ++number) {
    Window& window = At(number);
    if (!window.touched) continue;
    window.first_step = window.last_step = window.num_tokens = 0;
    window.touched = false;
    std::fill(window.expert_tokens.begin(), window.expert_tokens.end(), 0);
    std::fill(window.slot_tokens.begin(), window.slot_tokens.end(), 0);
    for (size_t phase = 0; phase < 2; ++phase) {
      window.num_phase_tokens[phase] = 0;
      std::fill(window.phase_tokens[phase].begin(), window.phase_tokens[phase].end(), 0);
    }
  }
  const int64_t num_closed = open - std::max(open_, first_);
  if (num_closed > 0) {
    num_closed_unreported_ =
        static_cast<int>(std::min<int64_t>(num_closed_unreported_ + num_closed, std::numeric_limits<int>::max()));
  }
  newest_ = newest;
  if (std::exchange(open_, open) < open) CountBehind();
}

LoadWindows::Window& LoadWindows::At(int64_t number) {
  const int64_t size = static_cast<int64_t>(ring_.size());
  return ring_[static_cast<size_t>(number - FloorDivide(number, size) * size)];
}

const LoadWindows::Window& LoadWindows::At(int64_t number) const {
  const int64_t size = static_cast<int64_t>(ring_.size());
  return ring_[static_cast<size_t>(number - FloorDivide(number, size) * size)];
}

const LoadWindows::Window& LoadWindows::Closed(int age) const {
  EVENKEEL_CHECK(age >= 0 && age < num_closed());
  return At(open_ - 1 - age);
}

LoadWindows::Window& LoadWindows::Touch(int64_t number, const Report& report) {
  Window& window = At(number);
  const size_t num_layers = static_cast<size_t>(options_.num_layers);
  if (window.expert_tokens.empty()) {
    window.expert_tokens.assign(num_layers * static_cast<size_t>(options_.shape.num_experts), 0);
    window.slot_tokens.assign(num_layers * static_cast<size_t>(options_.shape.num_slots()), 0);
  }
  window.first_step = window.touched ? std::min(window.first_step, report.first_step) : report.first_step;
  window.last_step = std::max(window.last_step, report.last_step);
  window.touched = true;
  return window;
}

void LoadWindows::AddPhase(Window& window, size_t phase, const LoadReport::Entry& entry, uint64_t tokens) {
  if (tokens == 0) return;
  const size_t num_experts = static_cast<size_t>(options_.shape.num_experts);
  std::vector<uint64_t>& counters = window.phase_tokens[phase];
  if (counters.empty()) counters.assign(static_cast<size_t>(options_.num_layers) * num_experts, 0);
  counters[entry.layer.idx() * num_experts + entry.expert.idx()] += tokens;
  window.num_phase_tokens[phase] += tokens;
}

void LoadWindows::AddWhole(int64_t number, const Report& report) {
  Window& window = Touch(number, report);
  const size_t num_experts = static_cast<size_t>(options_.shape.num_experts);
  const size_t num_slots = static_cast<size_t>(options_.shape.num_slots());
  for (const LoadReport::Entry& entry : report.entries) {
    window.expert_tokens[entry.layer.idx() * num_experts + entry.expert.idx()] += entry.tokens;
    window.slot_tokens[entry.layer.idx() * num_slots + entry.slot.idx()] += entry.tokens;
    window.num_tokens += entry.tokens;
    AddPhase(window, 0, entry, entry.prefill_tokens);
    AddPhase(window, 1, entry, entry.decode_tokens);
  }
}

// The tokens up to an edge are the same rounding of the whole for both windows at it, so the parts add up.
void LoadWindows::AddSplit(int64_t first, int64_t last, int64_t from, uint64_t length, const Report& report) {
  const size_t num_experts = static_cast<size_t>(options_.shape.num_experts);
  const size_t num_slots = static_cast<size_t>(options_.shape.num_slots());
  const auto part_until = [&](int64_t edge) {
    const uint64_t passed = static_cast<uint64_t>(edge) - static_cast<uint64_t>(from);
    return static_cast<uint64_t>((static_cast<unsigned __int128>(passed) << kPartBits) / length);
  };
  uint64_t before = 0;
  if (first < OldestKept()) {
    first = OldestKept();
    before = part_until(first * window_nanos_);
    for (const LoadReport::Entry& entry : report.entries) {
      num_expired_tokens_ += TokensUntil(entry.tokens, before);
    }
  }
  for (int64_t number = first; number <= last; ++number) {
    const uint64_t until = number == last ? uint64_t{1} << kPartBits : part_until((number + 1) * window_nanos_);
    Window& window = Touch(number, report);
    for (const LoadReport::Entry& entry : report.entries) {
      const uint64_t tokens = TokensUntil(entry.tokens, until) - TokensUntil(entry.tokens, before);
      window.expert_tokens[entry.layer.idx() * num_experts + entry.expert.idx()] += tokens;
      window.slot_tokens[entry.layer.idx() * num_slots + entry.slot.idx()] += tokens;
      window.num_tokens += tokens;
      AddPhase(window, 0, entry, TokensUntil(entry.prefill_tokens, until) - TokensUntil(entry.prefill_tokens, before));
      AddPhase(window, 1, entry, TokensUntil(entry.decode_tokens, until) - TokensUntil(entry.decode_tokens, before));
    }
    before = until;
  }
}

}  // namespace evenkeel::algos
