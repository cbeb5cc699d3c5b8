// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/map_checker.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "agent/core/map_update.h"
#include "algos/base/check.h"
#include "algos/layer_map.h"

namespace evenkeel::sim {

void MapChecker::SetRegion(int group, int rank, const RegionModel* region) {
  Group& state = groups_[static_cast<size_t>(group)];
  if (region != nullptr && state.num_naming.empty()) {
    const GroupInfo& info = region->info();
    state.regions.resize(static_cast<size_t>(info.shape.num_ranks));
    state.num_naming.assign(static_cast<size_t>(info.num_layers * info.shape.num_slots()), 0);
  }
  state.regions[static_cast<size_t>(rank)] = region;
  if (region == nullptr || region->joined_view == 0) return;
  for (const RegionModel* other : state.regions) {
    if (other == nullptr || other->view.number == 0) continue;
    const auto& members = other->view.members;
    if (std::find(members.begin(), members.end(), region->member()) != members.end()) continue;
    trace_->Violation(absl::StrCat("group ", group, ": rank ", rank, " begins to serve, and rank ", other->rank(),
                                   " does not know it at view ", other->view.number));
  }
}

void MapChecker::ForgetGroup(int group) {
  Group& state = groups_[static_cast<size_t>(group)];
  state.regions.assign(state.regions.size(), nullptr);
  state.num_naming.assign(state.num_naming.size(), 0);
  for (auto& [epoch, version] : state.versions) version = {.digest = version.digest};
}

void MapChecker::Hold(int group, const std::shared_ptr<const agent::Maps>& maps) {
  Group& state = groups_[static_cast<size_t>(group)];
  const auto [it, is_new] = state.versions.try_emplace(maps->epoch);
  Version& version = it->second;
  if (is_new) {
    version.digest = maps->digest;
    ++num_epochs_;
  }
  if (version.num_holders++ > 0) {
    if (version.maps != maps && version.maps->layers != maps->layers) {
      trace_->Violation(absl::StrCat("group ", group, ": two maps at epoch ", maps->epoch.ToString()));
    }
    return;
  }
  version.maps = maps;
  const uint64_t digest = agent::DigestOf(maps->layers);
  if (version.digest != digest || maps->digest != digest) {
    trace_->Violation(absl::StrCat("group ", group, ": maps at epoch ", maps->epoch.ToString(), " have digest ", digest,
                                   ", are held as ", maps->digest, ", and were known as ", version.digest));
  }
  CountNames(state, *maps, +1);
  CheckVersion(group, *maps);
  CheckKnown(group, *maps);
}

void MapChecker::Release(int group, Epoch epoch) {
  Group& state = groups_[static_cast<size_t>(group)];
  const auto it = state.versions.find(epoch);
  if (it == state.versions.end() || it->second.num_holders == 0) return;  // forgotten with its group
  if (--it->second.num_holders > 0) return;
  CountNames(state, *it->second.maps, -1);
  it->second.maps = nullptr;
}

void MapChecker::Published(int group, Epoch epoch, uint64_t digest) {
  const auto [it, is_new] = groups_[static_cast<size_t>(group)].versions.try_emplace(epoch);
  if (is_new) {
    it->second.digest = digest;
    ++num_epochs_;
  } else if (it->second.digest != digest) {
    trace_->Violation(absl::StrCat("group ", group, ": epoch ", epoch.ToString(), " is published with digest ", digest,
                                   " and was known as ", it->second.digest));
  }
}

void MapChecker::Write(const RegionModel& region, LayerId layer, SlotIdx slot) {
  const Group& state = groups_[static_cast<size_t>(region.group_idx())];
  if (state.regions[static_cast<size_t>(region.rank())] != &region) return;
  const size_t at = layer.idx() * static_cast<size_t>(region.info().shape.num_slots()) + slot.idx();
  if (state.num_naming[at] == 0) return;
  for (const auto& [epoch, version] : state.versions) {
    if (version.maps == nullptr) continue;
    const auto& map = version.maps->layers[layer.idx()];
    for (SlotIdx named : map.slots) {
      if (named != slot) continue;
      trace_->Violation(absl::StrCat("group ", region.group_idx(), ": slot ", slot.value(), " of layer ", layer.value(),
                                     " is written while ", version.num_holders, " hold maps of epoch ",
                                     epoch.ToString(), " that name it"));
      return;
    }
  }
}

void MapChecker::Compute(const RegionModel& region, LayerId layer, SlotIdx slot, ExpertId expert, const char* when) {
  if (region.HoldsGood(layer, slot, expert)) return;
  const size_t at = region.At(layer, slot);
  const char* what = region.being_written[at] > 0                ? "a slot that is being written"
                     : region.contents[at] != region.derived[at] ? "derived tensors of other content"
                                                                 : "content of another expert or none";
  trace_->Violation(absl::StrCat("group ", region.group_idx(), " rank ", region.rank(), ": a token of layer ",
                                 layer.value(), " expert ", expert.value(), " met ", what, " in slot ", slot.value(),
                                 " at the ", when, " of its computation"));
}

void MapChecker::CheckRank(const RegionModel& region) const {
  const Group& state = groups_[static_cast<size_t>(region.group_idx())];
  if (state.regions[static_cast<size_t>(region.rank())] != &region) return;
  const algos::Shape& shape = region.info().shape;
  for (const auto& [epoch, version] : state.versions) {
    if (version.maps == nullptr) continue;
    for (size_t l = 0; l < version.maps->layers.size(); ++l) {
      for (int e = 0; e < shape.num_experts; ++e) {
        for (SlotIdx slot : version.maps->layers[l].slots_of(ExpertId(e))) {
          if (shape.RankOf(slot) != region.member().rank) continue;
          if (region.HoldsGood(LayerId(static_cast<int>(l)), slot, ExpertId(e))) continue;
          return trace_->Violation(absl::StrCat("group ", region.group_idx(), ": rank ", region.rank(),
                                                " resumes with version ", region.info().weights_version, ", and slot ",
                                                slot.value(), " of layer ", l, ", which maps of epoch ",
                                                epoch.ToString(), " name for expert ", e, ", does not hold it"));
        }
      }
    }
  }
}

void MapChecker::CheckUnnamed(int group, int rank) const {
  const Group& state = groups_[static_cast<size_t>(group)];
  for (const auto& [epoch, version] : state.versions) {
    if (version.maps == nullptr) continue;
    const RegionModel* any = nullptr;
    for (const RegionModel* region : state.regions) any = region != nullptr ? region : any;
    if (any == nullptr) return;
    for (const algos::LayerMap& map : version.maps->layers) {
      for (SlotIdx slot : map.slots) {
        if (any->info().shape.RankOf(slot).value() != rank) continue;
        trace_->Violation(absl::StrCat("group ", group, ": rank ", rank,
                                       " is said to be safe to terminate, and maps of ", "epoch ", epoch.ToString(),
                                       ", which are in use, name slot ", slot.value()));
        return;
      }
    }
  }
}

void MapChecker::CheckKnown(int group, const agent::Maps& maps) const {
  const Group& state = groups_[static_cast<size_t>(group)];
  if (state.regions.empty()) return;
  std::vector<bool> named(state.regions.size(), false);
  for (const RegionModel* region : state.regions) {
    if (region == nullptr) continue;
    for (const algos::LayerMap& map : maps.layers) {
      for (SlotIdx slot : map.slots) named[region->info().shape.RankOf(slot).idx()] = true;
    }
    break;
  }
  for (size_t r = 0; r < named.size(); ++r) {
    const RegionModel* member = state.regions[r];
    if (!named[r] || member == nullptr) continue;
    for (const RegionModel* other : state.regions) {
      if (other == nullptr || other->view.number == 0 || member->joined_view == 0) continue;
      const auto& members = other->view.members;
      if (std::find(members.begin(), members.end(), member->member()) != members.end()) continue;
      trace_->Violation(absl::StrCat("group ", group, ": maps of epoch ", maps.epoch.ToString(), " name slots of rank ",
                                     r, ", which rank ", other->rank(), " does not know at view ", other->view.number));
      return;
    }
  }
}

bool MapChecker::IsHeld(int group, Epoch epoch) const {
  const Group& state = groups_[static_cast<size_t>(group)];
  const auto it = state.versions.find(epoch);
  return it != state.versions.end() && it->second.num_holders > 0;
}

void MapChecker::CheckVersion(int group, const agent::Maps& maps) {
  const Group& state = groups_[static_cast<size_t>(group)];
  const RegionModel* any = nullptr;
  bool whole = !state.allow_dead_experts;
  for (const RegionModel* region : state.regions) {
    if (region != nullptr) any = region;
    whole = whole && region != nullptr;
  }
  if (any == nullptr) return;
  const algos::Shape& shape = any->info().shape;
  for (size_t l = 0; l < maps.layers.size(); ++l) {
    const algos::LayerMap& map = maps.layers[l];
    const absl::Status status = algos::Validate(map, shape, {.allow_dead_experts = !whole});
    if (!status.ok()) {
      trace_->Violation(absl::StrCat("group ", group, " layer ", l, " epoch ", maps.epoch.ToString(), ": ",
                                     std::string(status.message())));
      return;
    }
    for (int e = 0; e < shape.num_experts; ++e) {
      for (SlotIdx slot : map.slots_of(ExpertId(e))) {
        const RegionModel* region = state.regions[shape.RankOf(slot).idx()];
        // Of one that is suspended nothing is used before it resumes (CheckRank).
        if (region == nullptr || region->granted()) continue;
        if (region->HoldsGood(LayerId(static_cast<int>(l)), slot, ExpertId(e))) continue;
        trace_->Violation(absl::StrCat("group ", group, ": maps of epoch ", maps.epoch.ToString(), " name slot ",
                                       slot.value(), " of layer ", l, " for expert ", e,
                                       ", whose weights are not in it"));
        return;
      }
    }
  }
}

void MapChecker::CountNames(Group& group, const agent::Maps& maps, int change) {
  const size_t num_slots = group.num_naming.size() / maps.layers.size();
  for (size_t l = 0; l < maps.layers.size(); ++l) {
    for (SlotIdx slot : maps.layers[l].slots) group.num_naming[l * num_slots + slot.idx()] += change;
  }
}

}  // namespace evenkeel::sim
