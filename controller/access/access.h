// SPDX-License-Identifier: Apache-2.0
//
// Access: who may do what, as pure functions.
//
// A caller has grants, each written as a name that a certificate carries or a token is given for:
//
//   evenkeel://operator            may look and steer
//   evenkeel://viewer              may look
//   evenkeel://group/G/rank/R      is the agent of rank R of group G
//   evenkeel://group/G             is any agent of group G
//
// G is percent-encoded as in URIs. An operator may do all that a viewer may; neither may speak for a rank, and an agent may
// neither look nor steer. What is not in the table below may be done by nobody.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "algos/base/ids.h"

namespace evenkeel::controller {

enum class Role { kAgent, kViewer, kOperator };

struct Grant {
  Role role = Role::kViewer;
  std::string group;           // of agents
  std::optional<RankId> rank;  // of agents; none: any

  friend bool operator==(const Grant&, const Grant&) = default;
};

// kInvalidArgument naming what it should look like.
absl::StatusOr<Grant> ParseGrant(absl::string_view name);
std::string NameOf(const Grant& grant);

struct Caller {
  std::string name;  // as verified; empty: nobody is told apart
  std::vector<Grant> grants;
};

// Why a call was refused; the labels of evenkeel_refused_total.
enum class Refusal {
  kNoCredentials,
  kBadToken,
  kUntrustedCertificate,
  kExpiredCertificate,
  kNoRole,  // a trusted certificate whose names are no grants
  kWrongRole,
  kOtherGroup,
  kOtherRank,
  kOtherSite,  // a browser brought another site's request
  kUnknownMethod,
  kRate,
  kAgents,
  kWatches,
  kMessageBytes,
};
inline constexpr size_t kNumRefusals = 14;
absl::string_view NameOf(Refusal refusal);

struct Judgement {
  std::optional<Refusal> refusal;  // none: it may
  std::string why;                 // a sentence without full stop
};

// Of calls of Control, of "Attach", and of HTTP routes ("GET /metrics"): what they need. kNobody: unknown.
enum class Need { kNothing, kViewer, kOperator, kAgent, kNobody };
Need NeedOf(absl::string_view method);

// Whether the caller may call it at all.
Judgement Judge(const Caller& caller, absl::string_view method);
// Whether the caller may speak for that rank. Requires: Judge let it attach.
Judgement JudgeAgent(const Caller& caller, absl::string_view group, RankId rank);

// UNAUTHENTICATED where it is not known who calls, RESOURCE_EXHAUSTED at limits, else PERMISSION_DENIED.
absl::Status StatusOf(Refusal refusal, absl::string_view why);

}  // namespace evenkeel::controller
