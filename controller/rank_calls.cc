// SPDX-License-Identifier: Apache-2.0
#include "controller/rank_calls.h"

#include <algorithm>
#include <vector>

#include "algos/base/status_macros.h"
#include "controller/convert_membership.h"
#include "runtime/clock.h"

namespace evenkeel::controller {
namespace {

constexpr uint32_t kRankMax = 65'535;

// Ascending, each once, one at least.
absl::StatusOr<std::vector<RankId>> RanksOf(const google::protobuf::RepeatedField<uint32_t>& ranks) {
  if (ranks.empty()) return absl::InvalidArgumentError("ranks is empty: which ranks?");
  if (ranks.size() > static_cast<int>(kRankMax) + 1) {
    return absl::InvalidArgumentError(absl::StrCat(ranks.size(), " ranks: at most ", kRankMax + 1, " wanted"));
  }
  std::vector<RankId> ids;
  for (uint32_t rank : ranks) {
    if (rank > kRankMax) return absl::InvalidArgumentError(absl::StrCat("rank ", rank, ": 0 to ", kRankMax, " wanted"));
    ids.push_back(RankId(static_cast<int32_t>(rank)));
  }
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace

void RankCalls::Forgotten(uint64_t call) {
  memberships.Remove(call);
  ControlCalls::Forgotten(call);
}

RankCalls::Unary* RankCalls::GetMembership(Context* context, const v1::GetMembershipRequest* request,
                                           v1::GroupMembership* response) {
  return Answer(context, [this, request, response]() -> absl::Status {
    strand.AssertHeld();
    conductor.AssertHeld();
    EVENKEEL_ASSIGN_OR_RETURN(const std::string name, conductor.ResolveGroup(request->group()));
    EVENKEEL_ASSIGN_OR_RETURN(const MembershipStatus membership,
                              conductor.coordinator().GetMembership(name, runtime::MonotonicNow()));
    ToProto(membership, response);
    return absl::OkStatus();
  });
}

RankCalls::MembershipStream* RankCalls::WatchMembership(Context*, const v1::WatchMembershipRequest* request) {
  return Watch<v1::GroupMembership>([this, group = request->group()](uint64_t call, const auto& stream) {
    strand.AssertHeld();
    conductor.AssertHeld();
    if (!group.empty()) EVENKEEL_RETURN_IF_ERROR(conductor.ResolveGroup(group).status());
    memberships.Add(call,
                    {.group = group, .push = [stream](const v1::GroupMembership& m) { stream->Push(m.group(), m); }},
                    conductor.coordinator(), runtime::MonotonicNow());
    return absl::OkStatus();
  });
}

RankCalls::OperationStream* RankCalls::AdmitRank(Context* context, const v1::AdmitRankRequest* request) {
  return Start([this, request = *request, by = CallerOf(*context)]() -> absl::StatusOr<std::string> {
    strand.AssertHeld();
    conductor.AssertHeld();
    AdmitRequested wanted{.operation_id = request.request_id(), .group = request.group(), .ranks = {}, .by = by};
    EVENKEEL_ASSIGN_OR_RETURN(wanted.ranks, RanksOf(request.ranks()));
    return conductor.Admit(std::move(wanted));
  });
}

RankCalls::OperationStream* RankCalls::DrainRank(Context* context, const v1::DrainRankRequest* request) {
  return Start([this, request = *request, by = CallerOf(*context)]() -> absl::StatusOr<std::string> {
    strand.AssertHeld();
    conductor.AssertHeld();
    if (request.grace_ms() > kGraceMsMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("grace_ms is ", request.grace_ms(), ": at most ", kGraceMsMax, " wanted"));
    }
    DrainRequested wanted{
        .operation_id = request.request_id(), .group = request.group(), .ranks = {}, .grace = std::nullopt, .by = by};
    if (request.has_grace_ms()) wanted.grace = absl::Milliseconds(request.grace_ms());
    EVENKEEL_ASSIGN_OR_RETURN(wanted.ranks, RanksOf(request.ranks()));
    return conductor.Drain(std::move(wanted));
  });
}

}  // namespace evenkeel::controller
