// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/load_book.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "algos/imbalance.h"

namespace evenkeel::controller {

namespace {

// A report of a span that crosses an edge comes up to one interval after it. A rank that has missed its next one too
// is silent: windows wait for it no longer.
absl::Duration LagOf(const GroupSettings& settings) {
  return std::clamp(settings.agent.report_interval * 5 / 2, absl::Milliseconds(1), absl::Milliseconds(250));
}

uint64_t SumOf(std::span<const uint64_t> values) {
  uint64_t sum = 0;
  for (uint64_t value : values) sum += value;
  return sum;
}

// Ranks that were no part of the group when it began.
std::vector<bool> BeyondFirst(const GroupInfo& info) {
  std::vector<bool> beyond(static_cast<size_t>(info.shape.num_ranks), false);
  for (size_t r = static_cast<size_t>(info.num_first_ranks()); r < beyond.size(); ++r) beyond[r] = true;
  return beyond;
}

void AddTo(algos::Load& sum, const algos::Load& load) {
  for (size_t i = 0; i < sum.tokens.size(); ++i) {
    const uint64_t left = UINT64_MAX - sum.tokens[i];
    sum.tokens[i] += std::min(load.tokens[i], left);
  }
}

}  // namespace

double MeanOfKnown(std::span<const double> values) {
  double sum = 0;
  int count = 0;
  for (double value : values) {
    if (value <= 0) continue;
    sum += value;
    ++count;
  }
  return count == 0 ? 0.0 : sum / count;
}

LoadBook::LoadBook(const GroupInfo& info, const GroupSettings& settings, absl::Time now)
    : shape_(info.shape),
      num_layers_(info.num_layers),
      count_place_(info.count_place),
      report_interval_(settings.agent.report_interval),
      num_windows_kept_(settings.num_windows_kept),
      initial_(algos::DefaultPlacement(info.shape, info.world)),
      absent_at_first_(BeyondFirst(info)),
      windows_({.shape = info.shape,
                .num_layers = info.num_layers,
                .window = settings.window,
                .lag = LagOf(settings),
                .num_windows_kept = settings.num_windows_kept},
               now),
      last_report_(static_cast<size_t>(info.shape.num_ranks), absl::InfinitePast()) {}

absl::Status LoadBook::Add(RankId rank, const LoadReport& report, absl::Time now) {
  if (count_place_ == CountPlace::kAfterDispatch) {
    for (const LoadReport::Entry& entry : report.entries) {
      if (entry.slot.valid() && shape_.RankOf(entry.slot) == rank) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("load report of rank ", rank.value(), ": slot ", entry.slot.value(), " is not its own"));
    }
  }
  absl::Time& last = last_report_[rank.idx()];
  const bool skewed = report.time > now + kClockSkewMax || report.time < now - kClockSkewMax;
  const absl::Time to = std::max(skewed ? now : std::min(report.time, now), last);
  EVENKEEL_RETURN_IF_ERROR(windows_.Add(now, {.rank = rank,
                                              .from = last == absl::InfinitePast() ? to - report_interval_ : last,
                                              .to = to,
                                              .first_step = report.first_step,
                                              .last_step = report.last_step,
                                              .entries = report.entries}));
  last = to;
  ++num_reports_;
  num_unrouted_tokens_ += report.num_unrouted_tokens;
  for (const LoadReport::Entry& entry : report.entries) num_tokens_ += entry.tokens;
  return absl::OkStatus();
}

std::span<const uint64_t> LoadBook::LayerOf(std::span<const uint64_t> slot_tokens, int layer) const {
  const size_t num_slots = static_cast<size_t>(shape_.num_slots());
  return slot_tokens.subspan(static_cast<size_t>(layer) * num_slots, num_slots);
}

LoadBook::Balance LoadBook::BalanceOf(const algos::Load& load, std::span<const uint64_t> slot_tokens) const {
  Balance balance;
  for (int l = 0; l < num_layers_; ++l) {
    const auto tokens = load.layer(LayerId(l));
    const bool counted = SumOf(tokens) > 0;
    balance.realised.push_back(counted ? algos::LayerImbalance(algos::Attending(
                                             algos::RealisedRankLoads(shape_, LayerOf(slot_tokens, l)), absent_))
                                       : 0.0);
    balance.initial.push_back(counted ? algos::LayerImbalance(algos::Attending(
                                            algos::EvenRankLoads(initial_, shape_, tokens), absent_at_first_))
                                      : 0.0);
  }
  return balance;
}

LoadBook::Balance LoadBook::BalanceOf(int count) const {
  return BalanceOf(windows_.Sum(count), windows_.SlotTokensSum(count));
}

int LoadBook::Advance(absl::Time now, std::span<const double> predicted) {
  const int closed = windows_.Advance(now);
  if (windows_.num_closed() >= num_windows_kept_) restored_.clear();
  for (int age = std::min(closed, windows_.num_closed()) - 1; age >= 0; --age) {
    const algos::WindowSpan span = windows_.SpanOf(age);
    WindowStats stats;
    stats.begin = span.from;
    stats.tokens = span.num_tokens;
    stats.prefill_tokens = span.num_prefill_tokens;
    stats.decode_tokens = span.num_decode_tokens;
    if (span.num_tokens > 0) {
      const Balance balance = BalanceOf(windows_.Episode(age), windows_.SlotTokens(age));
      stats.imbalance_realised = MeanOfKnown(balance.realised);
      stats.imbalance_initial = MeanOfKnown(balance.initial);
      stats.imbalance_predicted = MeanOfKnown(predicted);
    }
    series_.push_back(stats);
  }
  while (series_.size() > static_cast<size_t>(num_windows_kept_)) series_.pop_front();
  return closed;
}

std::optional<algos::Load> LoadBook::Window(int age) const {
  if (age >= windows_.num_closed() || windows_.SpanOf(age).num_tokens == 0) return std::nullopt;
  return windows_.Episode(age);
}

std::optional<algos::Load> LoadBook::Newest() const {
  for (int age = 0; age < windows_.num_closed(); ++age) {
    if (std::optional<algos::Load> window = Window(age)) return window;
  }
  return std::nullopt;
}

const KeptWindow* LoadBook::RestoredAt(int age) const {
  const int older = age - windows_.num_closed();
  return older < 0 ? nullptr : &restored_[restored_.size() - 1 - static_cast<size_t>(older)];
}

algos::WindowSpan LoadBook::SpanAt(int age) const {
  const KeptWindow* restored = RestoredAt(age);
  return restored == nullptr ? windows_.SpanOf(age) : restored->span;
}

algos::Load LoadBook::LoadAt(int age, algos::LoadPhase phase) const {
  const KeptWindow* restored = RestoredAt(age);
  if (restored == nullptr) return windows_.Episode(age, phase);
  return phase == algos::LoadPhase::kAll       ? restored->tokens
         : phase == algos::LoadPhase::kPrefill ? restored->prefill
                                               : restored->decode;
}

algos::Load LoadBook::SumOfHistory(int count) const {
  algos::Load sum = windows_.Sum(count);
  for (int age = windows_.num_closed(); age < std::min(count, num_known()); ++age) AddTo(sum, RestoredAt(age)->tokens);
  return sum;
}

std::vector<KeptWindow> LoadBook::ClosedWindows(int count) const {
  std::vector<KeptWindow> kept;
  for (int age = std::min(count, windows_.num_closed()) - 1; age >= 0; --age) {
    const algos::WindowSpan span = windows_.SpanOf(age);
    if (span.num_tokens == 0) continue;
    KeptWindow window{.span = span, .tokens = windows_.Episode(age), .prefill = {}, .decode = {}};
    if (span.num_prefill_tokens > 0) window.prefill = windows_.Episode(age, algos::LoadPhase::kPrefill);
    if (span.num_decode_tokens > 0) window.decode = windows_.Episode(age, algos::LoadPhase::kDecode);
    kept.push_back(std::move(window));
  }
  return kept;
}

void LoadBook::Restore(std::vector<KeptWindow> windows) {
  const size_t surplus = windows.size() - std::min(windows.size(), static_cast<size_t>(num_windows_kept_));
  windows.erase(windows.begin(), windows.begin() + static_cast<std::ptrdiff_t>(surplus));
  restored_ = std::move(windows);
}

LoadBook::History LoadBook::HistoryOf(int num_windows, int steps, algos::LoadPhase phase) const {
  History history;
  algos::Load episode;
  int num_in_episode = 0;
  uint64_t steps_in_episode = 0;
  uint64_t next_first = UINT64_MAX;  // of the next newer window: steps that two windows share count once
  const auto end_episode = [&] {
    history.episodes.push_back(std::move(episode));
    history.num_windows += std::exchange(num_in_episode, 0);
    steps_in_episode = 0;
  };
  for (int age = 0; age < std::min(num_windows, num_known()); ++age) {
    const algos::WindowSpan span = SpanAt(age);
    if (span.NumTokens(phase) == 0) continue;
    const uint64_t last = next_first > span.first_step ? std::min(span.last_step, next_first - 1) : span.last_step;
    steps_in_episode += last >= span.first_step ? last - span.first_step + 1 : 0;
    next_first = span.first_step;
    if (num_in_episode++ == 0) {
      episode = LoadAt(age, phase);
    } else {
      AddTo(episode, LoadAt(age, phase));
    }
    if (steps == 0 || steps_in_episode >= static_cast<uint64_t>(steps)) end_episode();
  }
  if (num_in_episode > 0 && history.episodes.empty()) end_episode();
  std::ranges::reverse(history.episodes);
  return history;
}

void LoadBook::AddPhase(algos::LoadPhase phase, int count, std::vector<uint64_t> LayerStats::*tokens,
                        GroupStats& stats) const {
  const algos::Load load = windows_.Sum(count, phase);
  for (LayerStats& layer : stats.layers) {
    const auto of_layer = load.layer(layer.layer);
    (layer.*tokens).assign(of_layer.begin(), of_layer.end());
  }
}

void LoadBook::AddLayers(int count, std::span<const double> predicted, GroupStats& stats) const {
  const algos::Load load = windows_.Sum(count);
  const std::vector<uint64_t> slot_tokens = windows_.SlotTokensSum(count);
  const Balance balance = BalanceOf(load, slot_tokens);
  for (int l = 0; l < num_layers_; ++l) {
    const auto tokens = load.layer(LayerId(l));
    LayerStats layer;
    layer.layer = LayerId(l);
    layer.tokens_of_expert.assign(tokens.begin(), tokens.end());
    layer.tokens_of_rank = algos::RealisedRankLoads(shape_, LayerOf(slot_tokens, l));
    layer.imbalance_realised = balance.realised[static_cast<size_t>(l)];
    layer.imbalance_initial = balance.initial[static_cast<size_t>(l)];
    layer.imbalance_predicted = predicted[static_cast<size_t>(l)];
    stats.layers.push_back(std::move(layer));
  }
}

GroupStats LoadBook::Stats(const StatsQuery& query, std::span<const double> predicted, absl::Time now) const {
  int count = std::min(windows_.num_closed(), static_cast<int>(series_.size()));
  if (query.num_windows > 0) {
    count = std::min(count, query.num_windows);
  } else if (query.span > absl::ZeroDuration()) {
    int within = 0;
    while (within < count && windows_.SpanOf(within).to > now - query.span) ++within;
    count = within;
  }
  GroupStats stats;
  stats.windows.assign(series_.end() - count, series_.end());
  if (count > 0) {
    stats.begin = windows_.SpanOf(count - 1).from;
    stats.end = windows_.SpanOf(0).to;
  }
  if (!query.brief) AddLayers(count, predicted, stats);
  std::vector<double> realised, initial, foretold;
  for (const WindowStats& window : stats.windows) {
    stats.tokens += window.tokens;
    stats.prefill_tokens += window.prefill_tokens;
    stats.decode_tokens += window.decode_tokens;
    realised.push_back(window.imbalance_realised);
    initial.push_back(window.imbalance_initial);
    foretold.push_back(window.imbalance_predicted);
  }
  stats.imbalance_realised = MeanOfKnown(realised);
  stats.imbalance_initial = MeanOfKnown(initial);
  stats.imbalance_predicted = MeanOfKnown(foretold);
  if (query.brief) return stats;
  if (stats.prefill_tokens > 0)
    AddPhase(algos::LoadPhase::kPrefill, count, &LayerStats::prefill_tokens_of_expert, stats);
  if (stats.decode_tokens > 0) AddPhase(algos::LoadPhase::kDecode, count, &LayerStats::decode_tokens_of_expert, stats);
  return stats;
}

}  // namespace evenkeel::controller
