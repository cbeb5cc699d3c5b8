// SPDX-License-Identifier: Apache-2.0
#include "controller/convert_membership.h"

#include <algorithm>

#include "proto/evenkeel/v1/control.pb.h"

namespace evenkeel::controller {

void ToProto(const MembershipStatus& value, v1::GroupMembership* message) {
  message->set_group(value.group);
  message->set_term(value.term);
  message->set_forming(value.forming);
  message->set_view_number(value.view_number);
  message->set_ranks_max(static_cast<uint32_t>(value.ranks.size()));
  message->set_slots_per_rank(static_cast<uint32_t>(value.num_slots_of_rank));
  for (const RankStatus& rank : value.ranks) {
    v1::RankStatus* out = message->add_ranks();
    out->set_rank(static_cast<uint32_t>(rank.rank.value()));
    out->set_standing(static_cast<v1::RankStanding>(static_cast<int>(rank.standing) + 1));
    out->set_incarnation(rank.incarnation);
    out->set_attached(rank.attached);
    out->set_alive(rank.alive);
    out->set_waiting(rank.waiting);
    out->set_num_slots_live(static_cast<uint32_t>(rank.num_slots_live));
    out->set_since_unix_us(std::max<int64_t>(absl::ToUnixMicros(rank.since), 0));
    out->set_safe_to_terminate(rank.safe_to_terminate);
    out->set_operation(rank.operation);
    out->set_note(rank.note);
    out->set_weights_version(rank.weights_version);
    out->set_suspended(rank.suspended);
  }
}

}  // namespace evenkeel::controller
