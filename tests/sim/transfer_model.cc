// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/transfer_model.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

namespace evenkeel::sim {

namespace {

constexpr absl::Duration kReaderLooks = absl::Milliseconds(50);

}  // namespace

TransferModel::TransferModel(const Options& options, World world, uint64_t seed)
    : options_(options), world_(std::move(world)), rng_(seed) {}

TransferModel::Fate TransferModel::PickFate() {
  if (calm_) return Fate::kGood;
  const double at = rng_.Uniform();
  double sum = 0;
  if (at < (sum += options_.faults.transfer_fails)) return Fate::kFails;
  if (at < (sum += options_.faults.transfer_corrupts)) return Fate::kCorrupts;
  if (at < (sum += options_.faults.transfer_hangs)) return Fate::kHangs;
  if (at < (sum += options_.faults.transfer_never_ends)) return Fate::kNeverEnds;
  return Fate::kGood;
}

void TransferModel::Start(RegionModel* destination, const agent::StartTransfer& order, absl::Time deadline, Ended ended,
                          Exit exit) {
  const uint64_t id = ++num_started_;
  Copy copy = {.destination = destination,
               .source = nullptr,
               .order = order,
               .fate = PickFate(),
               .ended = std::move(ended),
               .exit = std::move(exit)};
  world_.trace->Add("copy begins: move, slot, from slot", {destination->group_idx(), destination->rank()},
                    static_cast<int64_t>(order.move_id), order.slot.value(), order.source.slot.value());
  copy.from_store = !order.source.member.rank.valid();
  if (copy.from_store) {
    copy.stored = world_.stores->Read(destination->group_idx(), order.source.endpoint,
                                      destination->info().weights_version, order.layer, order.expert);
  } else {
    copy.source = world_.find(destination->group_idx(), order.source.member);
  }
  if (copy.source != nullptr)
    copy.source_writes = copy.source->num_writes[copy.source->At(order.layer, order.source.slot)];
  CheckStart(copy);
  destination->WriteContent(order.layer, order.slot, rng_.Next());
  ++destination->being_written[destination->At(order.layer, order.slot)];
  const absl::Duration wanted = options_.transfer_mean * -std::log(1.0 - rng_.Uniform()) + absl::Milliseconds(1);
  const absl::Duration until = std::max(deadline - world_.queue->now(), absl::ZeroDuration());
  const bool reachable = (copy.source != nullptr && !copy.source->suspended()) || copy.stored.has_value();
  const Fate fate = copy.fate;
  copies_.emplace(id, std::move(copy));
  if (!reachable || fate == Fate::kFails) {
    world_.queue->After(wanted / 2, [this, id] { End(id, absl::UnavailableError("source is away")); });
  } else if (fate == Fate::kNeverEnds) {
    world_.queue->After(until + absl::Milliseconds(200), [this, id] {
      const auto it = copies_.find(id);
      if (it == copies_.end() || !it->second.running) return;
      if (options_.mutant == Mutant::kHungCopyGivenUp) {
        // Told to have ended; its bytes land all the same, a while later.
        Copy late = it->second;
        End(id, absl::DeadlineExceededError("given up"));
        late.running = false;
        copies_.emplace(id, late);
        world_.queue->After(kLateMax * rng_.Uniform(), [this, id] { Land(id); });
        return;
      }
      const Exit leave = it->second.exit;
      leave();
    });
  } else if (fate == Fate::kHangs || wanted > until) {
    world_.queue->After(until, [this, id] { End(id, absl::DeadlineExceededError("not done in time")); });
  } else {
    world_.queue->After(wanted, [this, id] { End(id, absl::OkStatus()); });
  }
}

void TransferModel::SourceSuspended(const RegionModel* source) {
  for (const auto& [number, copy] : copies_) {
    if (copy.source != source || !copy.running || copy.fate == Fate::kNeverEnds) continue;
    world_.queue->After(kReaderLooks * rng_.Uniform(),
                        [this, id = number] { End(id, absl::UnavailableError("its engine is suspended")); });
  }
}

void TransferModel::CheckUntouched(const RegionModel& region) const {
  for (const auto& [number, copy] : copies_) {
    const bool reads = copy.source == &region && copy.running && copy.fate != Fate::kNeverEnds;
    if (copy.destination != &region && !reads) continue;
    world_.trace->Violation(absl::StrCat("group ", region.group_idx(), " rank ", region.rank(),
                                         ": weights are replaced while move ", copy.order.move_id,
                                         reads ? " reads" : " writes", " a slot of it"));
    return;
  }
}

void TransferModel::CheckStart(const Copy& copy) {
  const agent::StartTransfer& order = copy.order;
  const RegionModel& region = *copy.destination;
  if (region.granted()) CheckUntouched(region);
  world_.maps->Write(region, order.layer, order.slot);
  const std::string who = absl::StrCat("group ", region.group_idx(), " rank ", region.rank(), ": ");
  int into = 1, out_of = 1;
  for (const auto& [id, other] : copies_) {
    if (!other.running) continue;
    if (other.destination == copy.destination) ++into;
    if (other.destination == copy.destination && other.order.layer == order.layer && other.order.slot == order.slot) {
      world_.trace->Violation(absl::StrCat(who, "two copies write slot ", order.slot.value(), " at once"));
    }
    if (!copy.from_store && other.source == copy.source && other.order.layer == order.layer &&
        other.order.source.slot == order.source.slot) {
      ++out_of;
    }
  }
  if (into > options_.concurrent_moves_max) {
    world_.trace->Violation(absl::StrCat(who, into, " copies at once into one rank"));
  }
  most_out_of_a_slot_ = std::max(most_out_of_a_slot_, out_of);
  const uint64_t generation = region.slots[region.At(order.layer, order.slot)].generation;
  const auto [it, is_new] =
      writers_.try_emplace(std::make_tuple(region.id(), order.layer, order.slot, generation), order.move_id);
  if (!is_new && it->second != order.move_id) {
    world_.trace->Violation(absl::StrCat(who, "moves ", it->second, " and ", order.move_id, " both write slot ",
                                         order.slot.value(), " in generation ", generation));
  }
}

uint64_t TransferModel::Result(const Copy& copy) {
  if (copy.from_store) return copy.fate == Fate::kCorrupts ? rng_.Next() : copy.stored.value_or(0);
  if (copy.source == nullptr || !copy.source->engine_alive) return rng_.Next();
  const size_t at = copy.source->At(copy.order.layer, copy.order.source.slot);
  const bool changed = copy.source->num_writes[at] != copy.source_writes || copy.source->being_written[at] > 0;
  return changed || copy.fate == Fate::kCorrupts ? rng_.Next() : copy.source->contents[at];
}

void TransferModel::End(uint64_t id, absl::Status status) {
  const auto it = copies_.find(id);
  if (it == copies_.end() || !it->second.running) return;
  const Copy copy = std::move(it->second);
  copies_.erase(it);
  RegionModel& region = *copy.destination;
  const size_t at = region.At(copy.order.layer, copy.order.slot);
  --region.being_written[at];
  region.WriteContent(copy.order.layer, copy.order.slot, status.ok() ? Result(copy) : rng_.Next());
  if (!options_.post_move) region.derived[at] = region.contents[at];
  if (status.ok()) ++num_good_;
  if (status.ok() && copy.from_store) ++num_from_stores_;
  world_.trace->Add("copy ends: move, slot, status", {region.group_idx(), region.rank()},
                    static_cast<int64_t>(copy.order.move_id), copy.order.slot.value(), status.raw_code());
  copy.ended({.move_id = copy.order.move_id,
              .attempt = copy.order.attempt,
              .status = std::move(status),
              .fingerprint = region.contents[at],
              .bytes = region.info().expert_bytes});
}

bool TransferModel::AnyInto(int group) const {
  return std::any_of(copies_.begin(), copies_.end(), [&](const auto& entry) {
    return entry.second.running && entry.second.destination->group_idx() == group;
  });
}

void TransferModel::Cancel(const RegionModel* destination, uint64_t move_id, int attempt) {
  for (const auto& [number, copy] : copies_) {
    if (copy.destination != destination || !copy.running || copy.fate == Fate::kNeverEnds) continue;
    if (copy.order.move_id != move_id || copy.order.attempt != attempt) continue;
    const uint64_t id = number;
    world_.queue->After(absl::Milliseconds(2) * rng_.Uniform(),
                        [this, id] { End(id, absl::AbortedError("cancelled")); });
  }
}

void TransferModel::AgentDied(const RegionModel* destination) {
  for (auto& [number, copy] : copies_) {
    if (copy.destination != destination || !copy.running) continue;
    copy.running = false;
    const uint64_t id = number;
    const absl::Duration late = kLateMax * rng_.Uniform() * (rng_.Chance(0.5) ? 1.0 : 0.02);
    world_.queue->After(late, [this, id] { Land(id); });
  }
}

void TransferModel::Land(uint64_t id) {
  const auto it = copies_.find(id);
  const Copy copy = std::move(it->second);
  copies_.erase(it);
  RegionModel& region = *copy.destination;
  world_.maps->Write(region, copy.order.layer, copy.order.slot);
  const size_t at = region.At(copy.order.layer, copy.order.slot);
  --region.being_written[at];
  region.WriteContent(copy.order.layer, copy.order.slot, Result(copy));
  if (!options_.post_move) region.derived[at] = region.contents[at];
  world_.trace->Add("copy lands late: move, slot", {region.group_idx(), region.rank()},
                    static_cast<int64_t>(copy.order.move_id), copy.order.slot.value());
}

}  // namespace evenkeel::sim
