// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/serving.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "algos/base/hash.h"
#include "algos/base/status_macros.h"

namespace evenkeel::engine {
namespace {

constexpr absl::Duration kRetryAfter = absl::Milliseconds(20);
constexpr absl::Duration kIdlePeriod = absl::Milliseconds(100);

std::span<const float> RowOf(const std::vector<float>& logits, size_t row, size_t width) {
  return std::span(logits).subspan(row * width, width);
}

}  // namespace

Serving::Serving(const Options& options, const Parts& parts)
    : options_(options),
      parts_(parts),
      num_positions_max_(options.prompt_bytes + options.decode_bytes - 1),
      started_(absl::Now()),
      rng_(MixBits(options.seed)),
      sequences_(static_cast<size_t>(options.batch)),
      paced_at_(started_) {}

absl::Status Serving::Run() {
  WaitWitness& witness = parts_.counters->library_calls;
  // A rank that no view has any more begins nothing new.
  while (!parts_.stop->HasBeenNotified() && evenkeel_is_member(parts_.region) == 1) {
    if (!Fill()) {
      witness.Watch([&] { return evenkeel_set_idle(parts_.region, options_.lane); });
      parts_.requests->Await(kIdlePeriod);
      continue;
    }
    const absl::Time now = absl::Now();
    EVENKEEL_ASSIGN_OR_RETURN(const bool done, Step());
    if (!done) {
      parts_.stop->WaitForNotificationWithTimeout(kRetryAfter);
      continue;
    }
    parts_.counters->step_time.Add(absl::Now() - now);
    Commit();
    parts_.failure->StepsDone(++parts_.counters->steps);
    Pace(now);
  }
  witness.Watch([&] { return evenkeel_set_idle(parts_.region, options_.lane); });
  for (Sequence& sequence : sequences_) {
    if (sequence.request != nullptr) sequence.request->Finish(absl::UnavailableError("the rank ends"));
  }
  return absl::OkStatus();
}

bool Serving::Fill() {
  bool any = false;
  for (Sequence& sequence : sequences_) {
    if (sequence.num_positions == 0) Start(sequence);
    any |= sequence.num_positions > 0;
  }
  return any;
}

void Serving::Start(Sequence& sequence) {
  sequence.num_positions = 0;
  sequence.request = parts_.requests != nullptr ? parts_.requests->Take() : nullptr;
  int64_t decode_bytes = 0;
  if (sequence.request != nullptr) {
    sequence.bytes.assign(sequence.request->prompt().begin(), sequence.request->prompt().end());
    decode_bytes = sequence.request->num_bytes();
  } else if (options_.background) {
    const size_t domain = parts_.mix->Draw(absl::Now() - started_, rng_);
    sequence.bytes = parts_.corpus->Window(domain, options_.prompt_bytes, rng_);
    // Lengths differ, so that sequences do not all begin together.
    decode_bytes = rng_.Between((options_.decode_bytes + 1) / 2, options_.decode_bytes);
  } else {
    return;
  }
  sequence.num_prompt = static_cast<int>(sequence.bytes.size());
  sequence.num_positions = sequence.num_prompt + static_cast<int>(decode_bytes) - 1;
  sequence.num_read = 0;
  sequence.checked = parts_.plain != nullptr && rng_.Chance(options_.check_fraction);
  if (sequence.cache == nullptr) sequence.cache = std::make_unique<KvCache>(parts_.model->config(), num_positions_max_);
  sequence.logits.clear();
}

bool Serving::Choose() {
  rows_.clear();
  sequence_of_row_.clear();
  const auto add = [&](size_t s, int offset) {
    Sequence& sequence = sequences_[s];
    const int position = sequence.num_read + offset;
    rows_.push_back({sequence.cache.get(), position, sequence.bytes[static_cast<size_t>(position)]});
    sequence_of_row_.push_back(s);
  };
  for (size_t s = 0; s < sequences_.size(); ++s) {
    if (sequences_[s].num_positions == 0) continue;
    const int left = std::min(sequences_[s].num_prompt - sequences_[s].num_read,
                              options_.rows_per_step_max - static_cast<int>(rows_.size()));
    for (int i = 0; i < left; ++i) add(s, i);
  }
  if (!rows_.empty()) return true;
  for (size_t s = 0; s < sequences_.size(); ++s) {
    if (sequences_[s].num_positions > 0) add(s, 0);
  }
  return false;
}

absl::StatusOr<bool> Serving::Step() {
  const bool is_prompt = Choose();
  const evenkeel_phase phase = is_prompt ? EVENKEEL_PREFILL : EVENKEEL_DECODE;
  WaitWitness& witness = parts_.counters->library_calls;
  const int64_t ticket =
      witness.Watch([&] { return evenkeel_begin_step(parts_.region, options_.lane, phase, EVENKEEL_REAL); });
  if (ticket == EVENKEEL_FAILED_PRECONDITION) return false;  // suspended
  if (ticket <= 0) return absl::InternalError(absl::StrCat("begin_step: status ", ticket));
  const uint64_t epoch = evenkeel_epoch(parts_.region, options_.lane);
  parts_.counters->epoch = epoch;
  const absl::Time now = absl::Now();
  parts_.experts->Begin({.ticket = ticket,
                         .epoch = epoch,
                         .phase = phase,
                         .may_drop = !options_.may_wait || now - without_replica_since_ > options_.drop_after});
  logits_.resize(rows_.size() * static_cast<size_t>(parts_.model->config().vocab_size));
  const absl::Status status = parts_.model->Forward(rows_, *parts_.experts, workspace_, logits_.data());
  if (status.ok()) {
    const int code = witness.Watch([&] { return evenkeel_end_step(parts_.region, options_.lane, ticket); });
    if (code != EVENKEEL_OK) return absl::InternalError(absl::StrCat("end_step: status ", code));
    if (parts_.experts->dropped_tokens().empty()) without_replica_since_ = absl::InfiniteFuture();
    return true;
  }
  witness.Watch([&] { return evenkeel_abort_step(parts_.region, options_.lane, ticket); });
  ++parts_.counters->aborted_steps;
  if (absl::IsUnavailable(status)) {
    without_replica_since_ = std::min(without_replica_since_, now);
    return false;
  }
  if (absl::IsAborted(status)) return false;
  return status;
}

void Serving::Commit() {
  const size_t vocab = static_cast<size_t>(parts_.model->config().vocab_size);
  for (const int row : parts_.experts->dropped_tokens()) {
    // What follows from a dropped token is not the plain copy's and not to be compared with it.
    sequences_[sequence_of_row_[static_cast<size_t>(row)]].checked = false;
    ++parts_.counters->dropped_tokens;
  }
  parts_.counters->dropped_copies += parts_.experts->num_dropped_copies();
  for (size_t row = 0; row < rows_.size(); ++row) {
    Sequence& sequence = sequences_[sequence_of_row_[row]];
    const std::span<const float> logits = RowOf(logits_, row, vocab);
    ++sequence.num_read;
    if (sequence.checked) sequence.logits.insert(sequence.logits.end(), logits.begin(), logits.end());
    if (sequence.num_read == static_cast<int>(sequence.bytes.size())) sequence.bytes.push_back(Greedy(logits));
  }
  parts_.counters->tokens += rows_.size();
  for (Sequence& sequence : sequences_) {
    if (sequence.num_positions == 0 || sequence.num_read < sequence.num_positions) continue;
    if (sequence.checked) Check(sequence);
    ++parts_.counters->sequences;
    if (sequence.request != nullptr) {
      sequence.request->Finish(std::string(sequence.bytes.begin() + sequence.num_prompt, sequence.bytes.end()));
      ++parts_.counters->requests;
    }
    Start(sequence);
  }
}

void Serving::Check(Sequence& sequence) {
  const size_t vocab = static_cast<size_t>(parts_.model->config().vocab_size);
  const size_t positions = static_cast<size_t>(sequence.num_positions);
  if (plain_cache_ == nullptr) plain_cache_ = std::make_unique<KvCache>(parts_.model->config(), num_positions_max_);
  std::vector<Model::Row> rows;
  for (int i = 0; i < sequence.num_positions; ++i) {
    rows.push_back({plain_cache_.get(), i, sequence.bytes[static_cast<size_t>(i)]});
  }
  plain_logits_.resize(positions * vocab);
  const absl::Status status = parts_.model->Forward(rows, *parts_.plain, workspace_, plain_logits_.data());
  uint64_t mismatched = status.ok() ? 0 : positions;
  for (size_t i = 0; i < positions && status.ok(); ++i) {
    const std::span<const float> served = RowOf(sequence.logits, i, vocab), plain = RowOf(plain_logits_, i, vocab);
    const bool is_written = i + 1 >= static_cast<size_t>(sequence.num_prompt);
    const bool same = std::memcmp(served.data(), plain.data(), vocab * sizeof(float)) == 0 &&
                      (!is_written || sequence.bytes[i + 1] == Greedy(plain));
    mismatched += same ? 0 : 1;
  }
  parts_.counters->checked_tokens += positions;
  parts_.counters->mismatched_tokens += mismatched;
}

void Serving::Pace(absl::Time now) {
  if (options_.tokens_per_second_max <= 0) return;
  tokens_ahead_ += static_cast<double>(rows_.size());
  tokens_ahead_ -= options_.tokens_per_second_max * absl::ToDoubleSeconds(now - paced_at_);
  paced_at_ = now;
  // A quarter of a second of silence is made up for, no more.
  tokens_ahead_ = std::max(tokens_ahead_, -options_.tokens_per_second_max / 4);
  if (tokens_ahead_ > 0) {
    parts_.stop->WaitForNotificationWithTimeout(absl::Seconds(tokens_ahead_ / options_.tokens_per_second_max));
  }
}

}  // namespace evenkeel::engine
