// SPDX-License-Identifier: Apache-2.0
#include "controller/access/access.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace evenkeel::controller {
namespace {

constexpr absl::string_view kScheme = "evenkeel://";
constexpr int32_t kRankMax = 65'535;
constexpr size_t kGroupBytesMax = 256;

constexpr std::pair<absl::string_view, Need> kNeeds[] = {
    {"Attach", Need::kAgent},
    // Control
    {"AdmitRank", Need::kOperator},
    {"CancelOperation", Need::kOperator},
    {"CheckRedundancy", Need::kViewer},
    {"Diff", Need::kViewer},
    {"DrainRank", Need::kOperator},
    {"GetGroup", Need::kViewer},
    {"GetMap", Need::kViewer},
    {"GetMembership", Need::kViewer},
    {"GetStats", Need::kViewer},
    {"ListGroups", Need::kViewer},
    {"ListOperations", Need::kViewer},
    {"Pause", Need::kOperator},
    {"Pin", Need::kOperator},
    {"Plan", Need::kViewer},
    {"Rearrange", Need::kOperator},
    {"Resume", Need::kOperator},
    {"Rollback", Need::kOperator},
    {"SetMap", Need::kOperator},
    {"SetMode", Need::kOperator},
    {"Unpin", Need::kOperator},
    {"WatchMembership", Need::kViewer},
    {"WatchOperations", Need::kViewer},
    {"WatchStats", Need::kViewer},
    // HTTP beside them
    {"GET /healthz", Need::kNothing},
    {"GET /readyz", Need::kNothing},
    {"GET /page", Need::kNothing},  // the web page's own files, which hold no data
    {"GET /metrics", Need::kViewer},
    {"POST /rearrange_experts", Need::kOperator},
    {"POST /get_per_expert_tokens_stats", Need::kViewer},
    {"POST /check_redundant", Need::kViewer},
};

constexpr absl::string_view kRefusalNames[] = {"no_credentials",
                                               "bad_token",
                                               "untrusted_certificate",
                                               "expired_certificate",
                                               "no_role",
                                               "wrong_role",
                                               "other_group",
                                               "other_rank",
                                               "other_site",
                                               "unknown_method",
                                               "rate",
                                               "agents",
                                               "watches",
                                               "message_bytes"};
static_assert(std::size(kRefusalNames) == kNumRefusals);

absl::StatusOr<std::string> Unescape(absl::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      plain.push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size() || !absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 1])) ||
        !absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 2]))) {
      return absl::InvalidArgumentError("a % without two hexadecimal digits");
    }
    plain += absl::HexStringToBytes(text.substr(i + 1, 2));
    i += 2;
  }
  return plain;
}

std::string Escape(absl::string_view text) {
  std::string escaped;
  for (const char c : text) {
    const bool plain =
        absl::ascii_isalnum(static_cast<unsigned char>(c)) || absl::string_view("-._~").find(c) != std::string::npos;
    if (plain) {
      escaped.push_back(c);
    } else {
      absl::StrAppend(&escaped, "%", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    }
  }
  return escaped;
}

absl::string_view RoleName(Role role) {
  return role == Role::kAgent ? "agent" : role == Role::kViewer ? "viewer" : "operator";
}

bool Has(const Caller& caller, Role role) {
  return std::ranges::any_of(caller.grants, [role](const Grant& grant) { return grant.role == role; });
}

std::string RolesOf(const Caller& caller) {
  return absl::StrCat(caller.name, " is ", absl::StrJoin(caller.grants, ", ", [](std::string* out, const Grant& grant) {
                        absl::StrAppend(out, NameOf(grant));
                      }));
}

}  // namespace

absl::StatusOr<Grant> ParseGrant(absl::string_view name) {
  const auto wrong = [name](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("'", name, "': ", why,
                                                   "; evenkeel://operator, evenkeel://viewer, evenkeel://group/G or "
                                                   "evenkeel://group/G/rank/R wanted"));
  };
  absl::string_view rest = name;
  if (!absl::ConsumePrefix(&rest, kScheme)) return wrong("no name of a role");
  if (rest == "operator") return Grant{Role::kOperator, "", std::nullopt};
  if (rest == "viewer") return Grant{Role::kViewer, "", std::nullopt};
  const std::vector<absl::string_view> parts = absl::StrSplit(rest, '/');
  if ((parts.size() != 2 && parts.size() != 4) || parts[0] != "group" || (parts.size() == 4 && parts[2] != "rank")) {
    return wrong("no role");
  }
  const absl::StatusOr<std::string> group = Unescape(parts[1]);
  if (!group.ok()) return wrong(group.status().message());
  if (group->empty() || group->size() > kGroupBytesMax) return wrong("no group");
  Grant grant{Role::kAgent, *group, std::nullopt};
  if (parts.size() == 4) {
    int32_t rank = 0;
    const bool digits =
        !parts[3].empty() && std::ranges::all_of(parts[3], [](unsigned char c) { return absl::ascii_isdigit(c); });
    if (!digits || !absl::SimpleAtoi(parts[3], &rank) || rank > kRankMax) return wrong("no rank");
    grant.rank = RankId(rank);
  }
  return grant;
}

std::string NameOf(const Grant& grant) {
  if (grant.role != Role::kAgent) return absl::StrCat(kScheme, RoleName(grant.role));
  const std::string group = absl::StrCat(kScheme, "group/", Escape(grant.group));
  return grant.rank.has_value() ? absl::StrCat(group, "/rank/", grant.rank->value()) : group;
}

absl::string_view NameOf(Refusal refusal) { return kRefusalNames[static_cast<size_t>(refusal)]; }

Need NeedOf(absl::string_view method) {
  const auto* found = std::ranges::find(kNeeds, method, [](const auto& entry) { return entry.first; });
  return found == std::end(kNeeds) ? Need::kNobody : found->second;
}

Judgement Judge(const Caller& caller, absl::string_view method) {
  const auto lacks = [&](Role role) {
    return Judgement{Refusal::kWrongRole,
                     absl::StrCat(method, " needs the role ", RoleName(role), ": ", RolesOf(caller))};
  };
  switch (NeedOf(method)) {
    case Need::kNothing:
      return {};
    case Need::kViewer:
      return Has(caller, Role::kViewer) || Has(caller, Role::kOperator) ? Judgement() : lacks(Role::kViewer);
    case Need::kOperator:
      return Has(caller, Role::kOperator) ? Judgement() : lacks(Role::kOperator);
    case Need::kAgent:
      return Has(caller, Role::kAgent) ? Judgement() : lacks(Role::kAgent);
    case Need::kNobody:
      break;
  }
  return {Refusal::kUnknownMethod, absl::StrCat("nobody may call ", method)};
}

Judgement JudgeAgent(const Caller& caller, absl::string_view group, RankId rank) {
  bool of_group = false;
  for (const Grant& grant : caller.grants) {
    if (grant.role != Role::kAgent || grant.group != group) continue;
    of_group = true;
    if (!grant.rank.has_value() || *grant.rank == rank) return {};
  }
  return {of_group ? Refusal::kOtherRank : Refusal::kOtherGroup,
          absl::StrCat("attach as rank ", rank.value(), " of group ", group, ": ", RolesOf(caller))};
}

absl::Status StatusOf(Refusal refusal, absl::string_view why) {
  switch (refusal) {
    case Refusal::kNoCredentials:
    case Refusal::kBadToken:
    case Refusal::kUntrustedCertificate:
    case Refusal::kExpiredCertificate:
      return absl::UnauthenticatedError(why);
    case Refusal::kRate:
    case Refusal::kAgents:
    case Refusal::kWatches:
    case Refusal::kMessageBytes:
      return absl::ResourceExhaustedError(why);
    default:
      return absl::PermissionDeniedError(why);
  }
}

}  // namespace evenkeel::controller
