// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/parallel_experts.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "algos/base/status_macros.h"

namespace evenkeel::engine {
namespace {

constexpr absl::Duration kPollAtMost = absl::Milliseconds(5);  // lost ranks are seen in between

}  // namespace

ParallelExperts::ParallelExperts(const Options& options, const Parts& parts, const ModelConfig& config)
    : options_(options), parts_(parts), config_(config), parts_of_rank_(static_cast<size_t>(options.num_ranks)) {}

void ParallelExperts::Begin(const Step& step) {
  step_ = step;
  dropped_.clear();
  num_dropped_copies_ = 0;
}

bool ParallelExperts::IsLost(int rank) const { return evenkeel_lost_ranks(parts_.region)[rank] != 0; }

void ParallelExperts::Report(int rank) {
  if (rank == reported_) return;
  reported_ = rank;
  evenkeel_report_waiting(parts_.region, options_.lane, rank);
  parts_.counters->waiting_for = rank;
}

absl::Status ParallelExperts::Run(const MoeBatch& batch, float* outputs) {
  copies_.resize(static_cast<size_t>(batch.num_tokens * config_.top_k));
  std::iota(copies_.begin(), copies_.end(), 0);
  while (!copies_.empty()) {
    EVENKEEL_RETURN_IF_ERROR(Route(batch, outputs));
    Divide(batch);
    copies_.clear();
    Ask(batch.layer, outputs);
    if (parts_.failure->Take() == Failure::Kind::kCut) parts_.client->Cut();
    ComputeLocal(batch.layer, outputs);
    const absl::Status status = Collect(outputs);
    Report(-1);
    for (int rank = 0; rank < options_.num_ranks; ++rank) parts_.client->Finish(rank);
    EVENKEEL_RETURN_IF_ERROR(status);
    if (!copies_.empty()) TakeNewestMaps();
  }
  return absl::OkStatus();
}

void ParallelExperts::TakeNewestMaps() {
  parts_.counters->library_calls.Watch([&] { return evenkeel_reroute(parts_.region, options_.lane, step_.ticket); });
  step_.epoch = evenkeel_epoch(parts_.region, options_.lane);
}

// The copies that were for a lost rank.
void ParallelExperts::Lose(int rank, float* outputs) {
  const Part& part = parts_of_rank_[static_cast<size_t>(rank)];
  if (options_.on_loss == OnLoss::kDrop) {
    for (const int copy : part.copies) Drop(copy, outputs);
    return;
  }
  copies_.insert(copies_.end(), part.copies.begin(), part.copies.end());
  parts_.counters->rerouted_copies += part.copies.size();
}

void ParallelExperts::Drop(int copy, float* outputs) {
  const size_t hidden = static_cast<size_t>(config_.hidden_size);
  std::fill_n(outputs + static_cast<size_t>(copy) * hidden, hidden, 0.0f);
  ++num_dropped_copies_;
  const int token = copy / config_.top_k;
  const auto at = std::lower_bound(dropped_.begin(), dropped_.end(), token);
  if (at == dropped_.end() || *at != token) dropped_.insert(at, token);
}

// The slots of copies_; those without one are dropped or end the step.
absl::Status ParallelExperts::Route(const MoeBatch& batch, float* outputs) {
  ids_.resize(copies_.size());
  slots_.resize(copies_.size());
  for (size_t i = 0; i < copies_.size(); ++i) ids_[i] = batch.ids[copies_[i]];
  // All copies of all tokens in order have the batch's own shape; a rest that is routed again has its own.
  const bool is_whole = copies_.size() == static_cast<size_t>(batch.num_tokens * config_.top_k);
  const int width = is_whole ? config_.top_k : 1;
  const int code = parts_.counters->library_calls.Watch([&] {
    return evenkeel_route(parts_.region, options_.lane, batch.layer, ids_.data(), static_cast<int32_t>(sizeof(int32_t)),
                          static_cast<int64_t>(copies_.size()) / width, width, width, 0, slots_.data());
  });
  if (code != EVENKEEL_OK) return absl::InternalError(absl::StrCat("route layer ", batch.layer, ": status ", code));
  size_t kept = 0;
  for (size_t i = 0; i < copies_.size(); ++i) {
    if (slots_[i] < 0) {
      if (!step_.may_drop) {
        return absl::UnavailableError(absl::StrCat("expert ", ids_[i], " of layer ", batch.layer, " has no replica"));
      }
      Drop(copies_[i], outputs);
      continue;
    }
    copies_[kept] = copies_[i];
    ids_[kept] = ids_[i];
    slots_[kept++] = slots_[i];
  }
  copies_.resize(kept);
  return absl::OkStatus();
}

// Sorts copies_ by slot and gathers each rank's part.
void ParallelExperts::Divide(const MoeBatch& batch) {
  const size_t num_slots = static_cast<size_t>(options_.num_ranks * options_.slots_per_rank);
  const size_t hidden = static_cast<size_t>(config_.hidden_size);
  ends_.assign(num_slots + 1, 0);
  order_.resize(copies_.size());
  for (size_t i = 0; i < copies_.size(); ++i) ++ends_[static_cast<size_t>(slots_[i]) + 1];
  std::partial_sum(ends_.begin(), ends_.end(), ends_.begin());
  for (size_t i = 0; i < copies_.size(); ++i) {
    order_[static_cast<size_t>(ends_[static_cast<size_t>(slots_[i])]++)] = static_cast<int>(i);
  }
  for (Part& part : parts_of_rank_) {
    part.copies.clear();
    part.groups.clear();
    part.x.clear();
  }
  int last_slot = -1;
  for (const int i : order_) {
    const int slot = slots_[static_cast<size_t>(i)], copy = copies_[static_cast<size_t>(i)];
    Part& part = parts_of_rank_[static_cast<size_t>(slot / options_.slots_per_rank)];
    if (slot != last_slot) part.groups.push_back({slot % options_.slots_per_rank, ids_[static_cast<size_t>(i)], 0});
    // Two experts in one slot would be two groups; a map has none, but the receiver is to see what was meant.
    if (part.groups.back().expert != ids_[static_cast<size_t>(i)]) {
      part.groups.push_back({slot % options_.slots_per_rank, ids_[static_cast<size_t>(i)], 0});
    }
    ++part.groups.back().num_rows;
    last_slot = slot;
    part.copies.push_back(copy);
    const float* x = batch.x + static_cast<size_t>(copy / config_.top_k) * hidden;
    part.x.insert(part.x.end(), x, x + hidden);
  }
}

void ParallelExperts::Ask(int layer, float* outputs) {
  const absl::Time now = absl::Now();
  // Each rank begins with its successor, so that not all of them fall upon the same one.
  for (int i = 1; i < options_.num_ranks; ++i) {
    const int rank = (options_.rank + i) % options_.num_ranks;
    const Part& part = parts_of_rank_[static_cast<size_t>(rank)];
    if (part.copies.empty()) continue;
    const uint64_t incarnation = evenkeel_member(parts_.region, rank);
    if (incarnation == 0) {
      Lose(rank, outputs);
      continue;
    }
    parts_.client->Ask(rank,
                       {.incarnation = incarnation,
                        .ticket = step_.ticket,
                        .epoch = step_.epoch,
                        .phase = step_.phase,
                        .layer = layer,
                        .groups = part.groups,
                        .x = part.x},
                       now);
  }
}

void ParallelExperts::ComputeLocal(int layer, float* outputs) {
  const Part& part = parts_of_rank_[static_cast<size_t>(options_.rank)];
  results_.resize(part.x.size());
  size_t at = 0;
  for (const SlotGroup& group : part.groups) {
    const Rows x{part.x.data() + at, group.num_rows, config_.hidden_size};
    if (!parts_.slots->Compute(layer, group.local_slot, group.expert, x, results_.data() + at, scratch_)) {
      ++parts_.counters->stale_slot_uses;
    }
    at += static_cast<size_t>(group.num_rows * config_.hidden_size);
  }
  parts_.counters->library_calls.Watch([&] {
    for (const SlotGroup& group : part.groups) {
      evenkeel_count(parts_.region, options_.lane, step_.phase, layer, group.local_slot,
                     static_cast<uint64_t>(group.num_rows));
    }
    return true;
  });
  Scatter(part, results_.data(), outputs);
}

void ParallelExperts::Scatter(const Part& part, const float* y, float* outputs) {
  const size_t hidden = static_cast<size_t>(config_.hidden_size);
  for (const int copy : part.copies) {
    std::copy_n(y, hidden, outputs + static_cast<size_t>(copy) * hidden);
    y += hidden;
  }
}

// Waits until each asked rank has answered or is lost; the copies of lost ones go to copies_.
absl::Status ParallelExperts::Collect(float* outputs) {
  ExchangeClient& client = *parts_.client;
  const absl::Time started = absl::Now();
  std::string refusal;
  for (;;) {
    int waiting_for = -1;
    for (int rank = 0; rank < options_.num_ranks; ++rank) {
      const Part& part = parts_of_rank_[static_cast<size_t>(rank)];
      switch (client.state(rank)) {
        case ExchangeClient::State::kIdle:
          continue;
        case ExchangeClient::State::kAnswered:
          Scatter(part, client.answer(rank).data(), outputs);
          client.Finish(rank);
          continue;
        case ExchangeClient::State::kRefused:
          refusal = absl::StrCat("rank ", rank, ": ", client.refusal(rank));
          ++parts_.counters->refused_requests;
          client.Finish(rank);
          continue;
        case ExchangeClient::State::kWaiting:
          break;
      }
      if (IsLost(rank)) {
        client.Finish(rank);
        Lose(rank, outputs);
        continue;
      }
      waiting_for = rank;
    }
    if (waiting_for < 0) break;
    const absl::Time now = absl::Now();
    if (now - started > options_.report_after) Report(waiting_for);
    if (now - started > options_.answer_deadline ||
        (parts_.stop->HasBeenNotified() && now - started > options_.stopping_deadline)) {
      return absl::AbortedError(absl::StrCat("no answer from rank ", waiting_for));
    }
    client.Poll(kPollAtMost, now);
  }
  std::sort(copies_.begin(), copies_.end());
  return refusal.empty() ? absl::OkStatus() : absl::AbortedError(refusal);
}

}  // namespace evenkeel::engine
