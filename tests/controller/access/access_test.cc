// SPDX-License-Identifier: Apache-2.0
#include "controller/access/access.h"

#include <google/protobuf/descriptor.h>

#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "proto/evenkeel/v1/control.pb.h"

namespace evenkeel::controller {
namespace {

Caller CallerWith(std::vector<std::string> names) {
  Caller caller{"somebody", {}};
  for (const std::string& name : names) caller.grants.push_back(*ParseGrant(name));
  return caller;
}

bool May(const Caller& caller, const std::string& method) { return !Judge(caller, method).refusal.has_value(); }

TEST_CASE("a name of a role reads as it was written", "[access]") {
  const std::string name = GENERATE("evenkeel://operator", "evenkeel://viewer", "evenkeel://group/chat",
                                    "evenkeel://group/chat/rank/0", "evenkeel://group/a%2fb%20c/rank/65535");
  const auto grant = ParseGrant(name);
  REQUIRE(grant.ok());
  CHECK(NameOf(*grant) == name);
}

TEST_CASE("a name that is no role is refused, and told what is wanted", "[access]") {
  const std::string name =
      GENERATE("", "operator", "evenkeel://", "evenkeel://root", "evenkeel://operator/", "evenkeel://Operator",
               "spiffe://operator", "evenkeel://group", "evenkeel://group/", "evenkeel://group//rank/1",
               "evenkeel://group/chat/rank", "evenkeel://group/chat/rank/", "evenkeel://group/chat/rank/-1",
               "evenkeel://group/chat/rank/+1", "evenkeel://group/chat/rank/ 1", "evenkeel://group/chat/rank/65536",
               "evenkeel://group/chat/rank/99999999999", "evenkeel://group/chat/rank/1x",
               "evenkeel://group/chat/rank/1/more", "evenkeel://group/chat/slot/1", "evenkeel://group/%",
               "evenkeel://group/%2", "evenkeel://group/%zz", "evenkeel://operator evenkeel://viewer");
  CAPTURE(name);
  const auto grant = ParseGrant(name);
  REQUIRE_FALSE(grant.ok());
  CHECK(std::string(grant.status().message()).find("evenkeel://operator") != std::string::npos);
}

TEST_CASE("every call of Control needs a role, and changes need the operator's", "[access]") {
  const google::protobuf::ServiceDescriptor& control =
      *google::protobuf::DescriptorPool::generated_pool()->FindServiceByName("evenkeel.v1.Control");
  REQUIRE(v1::Group().GetDescriptor()->file() == control.file());
  const Caller agent = CallerWith({"evenkeel://group/chat"}), viewer = CallerWith({"evenkeel://viewer"}),
               operators = CallerWith({"evenkeel://operator"}), nobody = CallerWith({});
  int num_changing = 0;
  for (int i = 0; i < control.method_count(); ++i) {
    const std::string method = control.method(i)->name();
    CAPTURE(method);
    bool looks = method == "Plan" || method == "Diff";
    for (const char* verb : {"Get", "List", "Check", "Watch"}) looks = looks || method.rfind(verb, 0) == 0;
    CHECK(May(operators, method));
    CHECK(May(viewer, method) == looks);
    CHECK_FALSE(May(agent, method));
    CHECK_FALSE(May(nobody, method));
    num_changing += !looks;
  }
  CHECK(num_changing > 8);
}

TEST_CASE("routes of HTTP and the agents' stream need their roles, and what is unknown nobody may", "[access]") {
  struct Row {
    const char* method;
    bool nobody, agent, viewer, operators;
  };
  const Row row = GENERATE(Row{"GET /healthz", true, true, true, true}, Row{"GET /readyz", true, true, true, true},
                           Row{"GET /page", true, true, true, true}, Row{"GET /metrics", false, false, true, true},
                           Row{"POST /rearrange_experts", false, false, false, true},
                           Row{"POST /get_per_expert_tokens_stats", false, false, true, true},
                           Row{"POST /check_redundant", false, false, true, true},
                           Row{"Attach", false, true, false, false}, Row{"Shutdown", false, false, false, false},
                           Row{"", false, false, false, false}, Row{"pause", false, false, false, false});
  CAPTURE(row.method);
  CHECK(May(CallerWith({}), row.method) == row.nobody);
  CHECK(May(CallerWith({"evenkeel://group/chat/rank/1"}), row.method) == row.agent);
  CHECK(May(CallerWith({"evenkeel://viewer"}), row.method) == row.viewer);
  CHECK(May(CallerWith({"evenkeel://operator"}), row.method) == row.operators);
}

TEST_CASE("an agent speaks for its rank of its group alone", "[access]") {
  struct Row {
    std::vector<std::string> names;
    const char* group;
    int rank;
    std::optional<Refusal> refusal;
  };
  const Row row =
      GENERATE(Row{{"evenkeel://group/chat/rank/1"}, "chat", 1, std::nullopt},
               Row{{"evenkeel://group/chat/rank/1"}, "chat", 2, Refusal::kOtherRank},
               Row{{"evenkeel://group/chat/rank/1"}, "code", 1, Refusal::kOtherGroup},
               Row{{"evenkeel://group/chat/rank/1", "evenkeel://group/chat/rank/2"}, "chat", 2, std::nullopt},
               Row{{"evenkeel://group/chat"}, "chat", 7, std::nullopt},
               Row{{"evenkeel://group/chat"}, "cha", 7, Refusal::kOtherGroup},
               Row{{"evenkeel://group/chat/rank/1", "evenkeel://group/code"}, "code", 9, std::nullopt},
               Row{{"evenkeel://operator"}, "chat", 1, Refusal::kOtherGroup}, Row{{}, "chat", 1, Refusal::kOtherGroup});
  CAPTURE(row.group, row.rank);
  const Judgement judgement = JudgeAgent(CallerWith(row.names), row.group, RankId(row.rank));
  CHECK(judgement.refusal == row.refusal);
  CHECK(judgement.why.empty() == !row.refusal.has_value());
}

TEST_CASE("a refusal's status tells whether credentials, rights or a limit are lacking", "[access]") {
  CHECK(StatusOf(Refusal::kNoCredentials, "why").code() == absl::StatusCode::kUnauthenticated);
  CHECK(StatusOf(Refusal::kExpiredCertificate, "why").code() == absl::StatusCode::kUnauthenticated);
  CHECK(StatusOf(Refusal::kWrongRole, "why").code() == absl::StatusCode::kPermissionDenied);
  CHECK(StatusOf(Refusal::kOtherGroup, "why").code() == absl::StatusCode::kPermissionDenied);
  CHECK(StatusOf(Refusal::kRate, "why").code() == absl::StatusCode::kResourceExhausted);
  CHECK(StatusOf(Refusal::kAgents, "why").message() == "why");
}

}  // namespace
}  // namespace evenkeel::controller
