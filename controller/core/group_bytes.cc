// SPDX-License-Identifier: Apache-2.0
#include "controller/core/group_bytes.h"

#include "controller/core/planning/group_flex.h"
#include "controller/core/ranks/membership.h"
#include "controller/core/rollout/slot_table.h"

namespace evenkeel::controller {

uint64_t GroupBytes(const GroupInfo& info, const GroupSettings& settings) {
  const uint64_t layers = static_cast<uint64_t>(info.num_layers), ranks = static_cast<uint64_t>(info.shape.num_ranks);
  const uint64_t slots = layers * static_cast<uint64_t>(info.shape.num_slots());
  const uint64_t experts = layers * static_cast<uint64_t>(info.shape.num_experts);
  // The slot table, the map's slot and bound, and the inventory of one that waits outside the set.
  const uint64_t per_slot = sizeof(Slot) + sizeof(SlotIdx) + sizeof(uint32_t) + sizeof(SlotRecord);
  // Replicas, fingerprint, its two marks, and the map's offset.
  const uint64_t per_expert = sizeof(int32_t) + sizeof(uint64_t) + 2 + sizeof(int32_t);
  // Members, waiters, streams, reporters.
  const uint64_t per_rank = sizeof(MemberRecord) + sizeof(Waiter) + 256;
  // Those kept, a few open ones, and one sum; experts also for prefill and decode apart.
  const uint64_t windows = static_cast<uint64_t>(settings.num_windows_kept) + 8;
  // Factors, means and episodes of a Flex, and a copy of it for a plan.
  const uint64_t per_flex_counter = FollowedByFlex(info, settings) ? uint64_t{2 * 48} * sizeof(double) : 0;
  return experts * per_flex_counter + slots * per_slot + experts * per_expert + ranks * per_rank +
         windows * (slots + 3 * experts) * sizeof(uint64_t);
}

uint64_t ExpertBytes(int count, const GroupInfo& info) {
  const unsigned __int128 bytes = static_cast<unsigned __int128>(info.expert_bytes) * static_cast<unsigned>(count);
  return bytes > UINT64_MAX ? UINT64_MAX : static_cast<uint64_t>(bytes);
}

}  // namespace evenkeel::controller
