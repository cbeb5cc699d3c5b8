// SPDX-License-Identifier: Apache-2.0
//
// RankCalls: the calls about who is in a group.
//
// Threads:   as ControlCalls.
// Errors:    as control.proto has them.
#pragma once

#include "controller/control_calls.h"
#include "controller/membership_watchers.h"

namespace evenkeel::controller {

class RankCalls : public ControlCalls {
 public:
  using MembershipStream = WatchStream<v1::GroupMembership>;

  static constexpr uint64_t kGraceMsMax = 86'400'000;

  Unary* GetMembership(Context* context, const v1::GetMembershipRequest* request,
                       v1::GroupMembership* response) override;
  MembershipStream* WatchMembership(Context* context, const v1::WatchMembershipRequest* request) override;
  OperationStream* AdmitRank(Context* context, const v1::AdmitRankRequest* request) override;
  OperationStream* DrainRank(Context* context, const v1::DrainRankRequest* request) override;

  MembershipWatchers memberships ABSL_GUARDED_BY(strand);

 protected:
  using ControlCalls::ControlCalls;

  void Forgotten(uint64_t call) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand);
};

}  // namespace evenkeel::controller
