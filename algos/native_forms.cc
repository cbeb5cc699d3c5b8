// SPDX-License-Identifier: Apache-2.0
#include "algos/native_forms.h"

#include <algorithm>
#include <span>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"
#include "algos/base/status_macros.h"

namespace evenkeel::algos {

namespace {

constexpr int64_t kUnits = static_cast<int64_t>(kShareUnits);
constexpr int kWidthMax = 65535;

int64_t Magnitude(int64_t value) { return value < 0 ? -value : value; }

// Entries for each replica, `num_entries` in all, by largest remainder with one at least. Returns the largest
// difference from the shares, in units x num_entries. Requires: num_entries >= units.size().
int64_t CountEntries(std::span<const int64_t> units, int64_t num_entries, std::vector<int64_t>& counts) {
  const size_t k = units.size();
  counts.resize(k);
  int64_t left = num_entries;
  for (size_t i = 0; i < k; ++i) {
    counts[i] = std::max<int64_t>(1, units[i] * num_entries / kUnits);
    left -= counts[i];
  }
  const auto missing = [&](size_t i) { return units[i] * num_entries - counts[i] * kUnits; };
  for (; left > 0; --left) {
    size_t best = 0;
    for (size_t i = 1; i < k; ++i) {
      if (missing(i) > missing(best)) best = i;
    }
    ++counts[best];
  }
  for (; left < 0; ++left) {
    size_t best = k;
    for (size_t i = 0; i < k; ++i) {
      if (counts[i] > 1 && (best == k || missing(i) < missing(best))) best = i;
    }
    --counts[best];
  }
  int64_t worst = 0;
  for (size_t i = 0; i < k; ++i) worst = std::max(worst, Magnitude(missing(i)));
  return worst;
}

// The counts of the row length between k and width that comes closest to the shares.
std::vector<int64_t> ChooseCounts(std::span<const int64_t> units, int width) {
  std::vector<int64_t> best, counts;
  unsigned __int128 best_error = 0;
  int64_t best_length = 0;
  for (int64_t length = static_cast<int64_t>(units.size()); length <= width; ++length) {
    const auto error = static_cast<unsigned __int128>(CountEntries(units, length, counts));
    // error / length < best_error / best_length
    if (best_length == 0 ||
        error * static_cast<unsigned __int128>(best_length) < best_error * static_cast<unsigned __int128>(length)) {
      best = counts;
      best_error = error;
      best_length = length;
    }
    if (error == 0 || units.size() == 1) break;
  }
  return best;
}

// Each entry goes to the replica that is furthest behind its part of the row so far.
void SpreadEntries(std::span<const SlotIdx> slots, std::span<const int64_t> counts, std::span<int32_t> row) {
  int64_t length = 0;
  for (int64_t count : counts) length += count;
  std::vector<int64_t> used(counts.size(), 0);
  for (int64_t at = 0; at < length; ++at) {
    size_t best = counts.size();
    const auto behind = [&](size_t i) { return counts[i] * (at + 1) - used[i] * length; };
    for (size_t i = 0; i < counts.size(); ++i) {
      if (used[i] < counts[i] && (best == counts.size() || behind(i) > behind(best))) best = i;
    }
    ++used[best];
    row[static_cast<size_t>(at)] = slots[best].value();
  }
}

std::vector<int64_t> UnitsOf(const LayerMap& map, ExpertId expert) {
  std::vector<int64_t> units;
  for (int i = 0; i < map.num_replicas(expert); ++i) {
    units.push_back(static_cast<int64_t>(map.ShareUnits(expert, i)));
  }
  return units;
}

std::vector<int32_t> PhysicalToLogical(const LayerMap& map, const Shape& shape) {
  std::vector<int32_t> experts;
  experts.reserve(static_cast<size_t>(shape.num_slots()));
  for (ExpertId expert : PlacementOf(map, shape.num_slots()).expert_of_slot) experts.push_back(expert.value());
  return experts;
}

absl::Status MustHave(const char* what, size_t size, size_t wanted) {
  if (size == wanted) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(what, " has ", size, " values; the layer needs ", wanted));
}

absl::Status CheckRow(std::span<const int32_t> row, int32_t count, const LayerMap& map, ExpertId expert) {
  const auto wrong = [&](std::string_view why) {
    return absl::InternalError(
        absl::StrCat("logical_to_physical: row of expert ", expert.value(), ": ", std::string(why)));
  };
  const auto slots = map.slots_of(expert);
  if (count < static_cast<int32_t>(slots.size()) || count > static_cast<int32_t>(row.size()) ||
      (slots.empty() && count != 0)) {
    return wrong(absl::StrCat("replica_count is ", count, " for ", slots.size(), " replicas"));
  }
  const auto used = row.first(static_cast<size_t>(count));
  if (std::any_of(row.begin() + count, row.end(), [](int32_t slot) { return slot != -1; })) {
    return wrong("entries beyond its count");
  }
  int64_t num_found = 0;
  for (size_t i = 0; i < slots.size(); ++i) {
    const int64_t found = std::count(used.begin(), used.end(), slots[i].value());
    if (found == 0) return wrong(absl::StrCat("live slot ", slots[i].value(), " is missing"));
    num_found += found;
    const int64_t units = static_cast<int64_t>(map.ShareUnits(expert, static_cast<int>(i)));
    if (Magnitude(found * kUnits - units * count) > static_cast<int64_t>(slots.size()) * kUnits) {
      return wrong(absl::StrCat("slot ", slots[i].value(), " has ", found, " of ", count, " entries"));
    }
  }
  if (num_found != count) return wrong("a slot that is no live replica");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<NativeMaps> RenderNativeMaps(const LayerMap& map, const Shape& shape, const NativeOptions& options) {
  EVENKEEL_RETURN_IF_ERROR(Validate(shape));
  EVENKEEL_RETURN_IF_ERROR(Validate(map, shape, options.rules));
  if (options.width <= 0 || options.width > kWidthMax) {
    return absl::InvalidArgumentError(absl::StrCat("native maps: width is ", options.width, "; 1 to ", kWidthMax));
  }
  const size_t num_experts = static_cast<size_t>(shape.num_experts), width = static_cast<size_t>(options.width);
  NativeMaps native;
  native.width = options.width;
  native.physical_to_logical = PhysicalToLogical(map, shape);
  native.logical_to_physical.assign(num_experts * width, -1);
  native.replica_count.assign(num_experts, 0);
  for (int e = 0; e < shape.num_experts; ++e) {
    const ExpertId expert(e);
    const int num_replicas = map.num_replicas(expert);
    if (num_replicas > options.width) {
      return absl::ResourceExhaustedError(
          absl::StrCat("native maps: expert ", e, " has ", num_replicas, " replicas; rows hold ", options.width));
    }
    if (num_replicas == 0) continue;
    const auto counts = ChooseCounts(UnitsOf(map, expert), options.width);
    for (int64_t count : counts) native.replica_count[expert.idx()] += static_cast<int32_t>(count);
    SpreadEntries(map.slots_of(expert), counts,
                  std::span(native.logical_to_physical).subspan(expert.idx() * width, width));
  }
  return native;
}

RankMaps RenderRankMaps(const NativeMaps& native, const LayerMap& map, const Shape& shape, RankId rank) {
  EVENKEEL_CHECK(rank.valid() && rank.value() < shape.num_ranks);
  EVENKEEL_CHECK(native.replica_count.size() == static_cast<size_t>(shape.num_experts));
  RankMaps maps;
  maps.expert_map.assign(static_cast<size_t>(shape.num_experts), -1);
  maps.log2phy.assign(static_cast<size_t>(shape.num_experts), -1);
  for (size_t e = 0; e < maps.expert_map.size(); ++e) {
    for (SlotIdx slot : map.slots_of(ExpertId(static_cast<int32_t>(e)))) {
      if (shape.RankOf(slot) == rank && maps.expert_map[e] < 0) maps.expert_map[e] = shape.LocalSlot(slot);
    }
    const int32_t count = native.replica_count[e];
    if (count == 0) continue;
    const size_t entry = e * static_cast<size_t>(native.width) + static_cast<size_t>(rank.value() % count);
    maps.log2phy[e] = native.logical_to_physical[entry];
  }
  return maps;
}

absl::Status CheckNativeMaps(const NativeMaps& native, const LayerMap& map, const Shape& shape) {
  const size_t num_experts = static_cast<size_t>(shape.num_experts);
  const size_t width = static_cast<size_t>(std::max(native.width, 0));
  EVENKEEL_RETURN_IF_ERROR(
      MustHave("physical_to_logical", native.physical_to_logical.size(), static_cast<size_t>(shape.num_slots())));
  EVENKEEL_RETURN_IF_ERROR(MustHave("logical_to_physical", native.logical_to_physical.size(), num_experts * width));
  EVENKEEL_RETURN_IF_ERROR(MustHave("replica_count", native.replica_count.size(), num_experts));
  const std::vector<int32_t> experts = PhysicalToLogical(map, shape);
  for (size_t slot = 0; slot < experts.size(); ++slot) {
    if (native.physical_to_logical[slot] != experts[slot]) {
      return absl::InternalError(absl::StrCat("physical_to_logical: slot ", slot, " says expert ",
                                              native.physical_to_logical[slot], ", the map ", experts[slot]));
    }
  }
  for (size_t e = 0; e < num_experts; ++e) {
    EVENKEEL_RETURN_IF_ERROR(CheckRow(std::span(native.logical_to_physical).subspan(e * width, width),
                                      native.replica_count[e], map, ExpertId(static_cast<int32_t>(e))));
  }
  return absl::OkStatus();
}

absl::Status CheckRankMaps(const RankMaps& maps, const LayerMap& map, const Shape& shape, RankId rank) {
  const size_t num_experts = static_cast<size_t>(shape.num_experts);
  EVENKEEL_RETURN_IF_ERROR(MustHave("expert_map", maps.expert_map.size(), num_experts));
  EVENKEEL_RETURN_IF_ERROR(MustHave("log2phy", maps.log2phy.size(), num_experts));
  for (size_t e = 0; e < num_experts; ++e) {
    const auto slots = map.slots_of(ExpertId(static_cast<int32_t>(e)));
    const auto first =
        std::find_if(slots.begin(), slots.end(), [&](SlotIdx slot) { return shape.RankOf(slot) == rank; });
    const int32_t local = first == slots.end() ? -1 : shape.LocalSlot(*first);
    if (maps.expert_map[e] != local) {
      return absl::InternalError(
          absl::StrCat("expert_map: expert ", e, " at local slot ", maps.expert_map[e], ", the map has it at ", local));
    }
    const bool live = std::find(slots.begin(), slots.end(), SlotIdx(maps.log2phy[e])) != slots.end();
    if (slots.empty() ? maps.log2phy[e] != -1 : !live) {
      return absl::InternalError(
          absl::StrCat("log2phy: expert ", e, " goes to slot ", maps.log2phy[e], ", no live replica of it"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckInitialPlacement(const Placement& placement, const Shape& shape) {
  if (const absl::Status status = Validate(placement, shape); !status.ok()) {
    return absl::InternalError(absl::StrCat("initial map: ", std::string(status.message())));
  }
  for (size_t slot = 0; slot < placement.expert_of_slot.size(); ++slot) {
    const ExpertId expert = placement.expert_of_slot[slot];
    if (expert == kNoExpert) return absl::InternalError(absl::StrCat("initial map: slot ", slot, " is blank"));
    if (shape.num_redundant() == 0 && expert.idx() != slot) {
      return absl::InternalError(
          absl::StrCat("initial map: slot ", slot, " holds expert ", expert.value(), " without redundancy"));
    }
  }
  return absl::OkStatus();
}

}  // namespace evenkeel::algos
