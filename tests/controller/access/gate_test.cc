// SPDX-License-Identifier: Apache-2.0
//
// The gate before a whole controller that knows callers by token.
#include "controller/access/gate.h"

#include <google/protobuf/descriptor.h>
#include <grpcpp/grpcpp.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "catch2/catch.hpp"
#include "httplib.h"

#include "controller/http/transcoder.h"
#include "runtime/token.h"
#include "tests/controller/running_daemon.h"

namespace evenkeel::controller {
namespace {

const std::string kOperatorToken = runtime::NewToken();
const std::string kViewerToken = runtime::NewToken();
const std::string kAgentToken = runtime::NewToken();

TokenSettings TokenOf(const std::string& name, const std::string& role, const std::string& token) {
  return {name, *ParseGrant(role), *runtime::ParseTokenHash(runtime::HashToken(token))};
}

ControllerSettings SettingsWithTokens() {
  ControllerSettings settings = QuickSettings();
  settings.http_listen = "127.0.0.1:0";
  settings.access.tokens = {TokenOf("alice", "evenkeel://operator", kOperatorToken),
                            TokenOf("bob", "evenkeel://viewer", kViewerToken),
                            TokenOf("ranks", "evenkeel://group/chat/rank/0", kAgentToken)};
  return settings;
}

std::map<std::string, std::string> Bearer(const std::string& token) {
  if (token.empty()) return {};
  return {{"authorization", "Bearer " + token}};
}

// By gRPC, as a caller without a stub: of streams the first message.
absl::Status Call(const std::string& address, const std::string& method, const std::string& token) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const Transcoder client(grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments),
                          "evenkeel.v1.Control");
  if (!client.IsStream(method)) return client.Call(method, "{}", Bearer(token), absl::Seconds(20)).status();
  const auto stream = client.Open(method, "{}", Bearer(token));
  return stream.ok() ? (*stream)->Next([] { return false; }).status() : stream.status();
}

bool IsRefused(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnauthenticated || status.code() == absl::StatusCode::kPermissionDenied;
}

uint64_t Refused(Running& running, const std::string& reason) {
  httplib::Client client("http://" + running.daemon->http_address());
  client.set_bearer_token_auth(kViewerToken);
  const std::string page = client.Get("/metrics")->body;
  const std::string name = absl::StrCat("evenkeel_refused_total{reason=\"", reason, "\"} ");
  const size_t at = page.find(name);
  REQUIRE(at != std::string::npos);
  return std::stoull(page.substr(at + name.size()));
}

TEST_CASE("every call of Control passes the gate", "[gate]") {
  Running running(SettingsWithTokens());
  const google::protobuf::ServiceDescriptor& control =
      *google::protobuf::DescriptorPool::generated_pool()->FindServiceByName("evenkeel.v1.Control");
  for (int i = 0; i < control.method_count(); ++i) {
    const std::string method = control.method(i)->name();
    CAPTURE(method);
    CHECK(Call(running.daemon->address(), method, "").code() == absl::StatusCode::kUnauthenticated);
    CHECK(Call(running.daemon->address(), method, "ek_guess").code() == absl::StatusCode::kUnauthenticated);
    CHECK(Call(running.daemon->address(), method, kAgentToken).code() == absl::StatusCode::kPermissionDenied);
    const absl::Status viewer = Call(running.daemon->address(), method, kViewerToken);
    CHECK(IsRefused(viewer) == (NeedOf(method) == Need::kOperator));
    if (IsRefused(viewer)) CHECK(viewer.message() == method + " needs the role operator: bob is evenkeel://viewer");
    CHECK_FALSE(IsRefused(Call(running.daemon->address(), method, kOperatorToken)));
  }
  const auto count = static_cast<uint64_t>(control.method_count());
  CHECK(Refused(running, "no_credentials") == count);
  CHECK(Refused(running, "bad_token") == count);
  CHECK(Refused(running, "wrong_role") > count);
}

TEST_CASE("every route of HTTP passes the gate; a browser gives the token as its password", "[gate]") {
  Running running(SettingsWithTokens());
  httplib::Client client("http://" + running.daemon->http_address());
  const auto post = [&](const std::string& path, const std::string& token, httplib::Headers headers = {}) {
    if (!token.empty()) headers.emplace("Authorization", "Bearer " + token);
    const auto answer = client.Post(path, headers, "{}", "application/json");
    REQUIRE(answer);
    return answer->status;
  };
  for (const char* open : {"/healthz", "/readyz", "/"}) CHECK(client.Get(open)->status != 401);
  for (const char* path : {"/metrics", "/v1/ListGroups", "/v1/WatchStats"}) {
    CAPTURE(path);
    const auto refused = client.Get(path);
    CHECK(refused->status == 401);
    CHECK(absl::StrContains(refused->get_header_value("WWW-Authenticate"), "Basic"));
    CHECK(absl::StrContains(refused->body, "a token is wanted"));
  }
  CHECK(client.Get("/v1/Shutdown", {{"Authorization", "Bearer " + kOperatorToken}})->status == 403);
  CHECK(post("/v1/Pause", "") == 401);
  CHECK(post("/v1/Pause", kViewerToken) == 403);
  CHECK(post("/v1/Pause", kOperatorToken) != 403);  // it is let in; there is no group
  CHECK(post("/rearrange_experts", kViewerToken) == 403);
  CHECK(post("/rearrange_experts", "") == 401);
  CHECK(post("/check_redundant", "") == 401);
  CHECK(post("/check_redundant", kViewerToken) != 401);
  const std::string basic = absl::Base64Escape("me:" + kViewerToken);
  CHECK(client.Get("/v1/ListGroups", {{"Authorization", "Basic " + basic}})->status == 200);
  CHECK(client.Get("/v1/ListGroups", {{"Authorization", "Basic " + absl::Base64Escape("me:you")}})->status == 401);
}

TEST_CASE("another site's page gets nothing done by the operator's browser", "[gate]") {
  ControllerSettings settings = QuickSettings();  // not even where callers are not told apart
  settings.http_listen = "127.0.0.1:0";
  Running running(settings);
  httplib::Client client("http://" + running.daemon->http_address());
  const auto from = [&](const std::string& origin) {
    return client.Post("/v1/Pause", {{"Origin", origin}}, "{}", "application/json")->status;
  };
  CHECK(from("https://evil.example") == 403);
  CHECK(from("null") == 403);
  CHECK(from("http://" + running.daemon->http_address()) != 403);
  CHECK(Refused(running, "other_site") == 2);
  // A name of theirs that leads here makes them no friends.
  const auto named = [&](const std::string& host) { return client.Get("/v1/ListGroups", {{"Host", host}})->status; };
  CHECK(named("evil.example:7401") == 403);
  CHECK(named("127.0.0.1.evil.example") == 403);
  for (const char* own : {"localhost:7401", "localhost", "127.0.0.1:7401", "127.0.0.1", "[::1]:7401"}) {
    CAPTURE(own);
    CHECK(named(own) != 403);
  }
}

TEST_CASE("an agent's token attaches its own rank alone", "[gate]") {
  Running running(SettingsWithTokens());
  const auto end = [&](const std::string& group, int rank, const std::string& token) {
    FakeAgent agent(running.daemon->address(), token);
    agent.Send(FakeAttach(FakeGroup(group), rank));
    return agent.End();
  };
  CHECK(end("chat", 0, "").error_code() == grpc::StatusCode::UNAUTHENTICATED);
  CHECK(end("chat", 0, kOperatorToken).error_message() == "Attach needs the role agent: alice is evenkeel://operator");
  CHECK(end("chat", 1, kAgentToken).error_message() ==
        "attach as rank 1 of group chat: ranks is evenkeel://group/chat/rank/0");
  CHECK(end("code", 0, kAgentToken).error_code() == grpc::StatusCode::PERMISSION_DENIED);
  CHECK(Refused(running, "other_rank") == 1);
  CHECK(Refused(running, "other_group") == 1);
  CHECK(Refused(running, "wrong_role") == 1);
  FakeAgent agent(running.daemon->address(), kAgentToken);
  REQUIRE(agent.Send(FakeAttach(FakeGroup("chat"), 0)));
  CHECK(agent.Read(FakeGroup("chat")).has_value());
}

TEST_CASE("what goes beyond a limit is refused, says so and is counted", "[gate]") {
  ControllerSettings settings = QuickSettings();
  settings.http_listen = "127.0.0.1:0";
  SECTION("agents") {
    settings.access.agents_max = 1;
    Running running(settings);
    FakeAgent first(running.daemon->address());
    REQUIRE(first.Send(FakeAttach(FakeGroup("chat"), 0)));
    REQUIRE(first.Read(FakeGroup("chat")).has_value());
    FakeAgent second(running.daemon->address());
    const grpc::Status end = second.End();
    CHECK(end.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
    CHECK(end.error_message() == "already 1 agents are attached");
    CHECK(Refused(running, "agents") == 1);
  }
  SECTION("watching calls") {
    settings.access.watches_max = 1;
    Running running(settings);
    const auto first = Context(), second = Context();
    const auto watch = running.control->WatchOperations(first.get(), {});
    watch->WaitForInitialMetadata();
    const auto refused = running.control->WatchOperations(second.get(), {});
    v1::Operation operation;
    while (refused->Read(&operation)) {
    }
    const grpc::Status end = refused->Finish();
    CHECK(end.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
    CHECK(end.error_message() == "already 1 calls are watching");
    CHECK(Refused(running, "watches") == 1);
    first->TryCancel();
  }
  SECTION("calls a second") {
    settings.access.calls_per_second_max = 3;
    Running running(settings);
    grpc::Status last;
    int num_good = 0;
    v1::ListGroupsResponse response;
    for (int i = 0; i < 12 && last.ok(); ++i) {
      last = running.control->ListGroups(Context().get(), {}, &response);
      num_good += last.ok();
    }
    CHECK(num_good >= 3);
    CHECK(last.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
    CHECK(absl::StrContains(last.error_message(), "more than 3 calls a second from"));
  }
  SECTION("a message's bytes") {
    settings.access.message_bytes_max = 1 << 20;
    Running running(settings);
    v1::GetGroupRequest request;
    request.set_group(std::string(2 << 20, 'x'));
    v1::Group group;
    CHECK(running.control->GetGroup(Context().get(), request, &group).error_code() ==
          grpc::StatusCode::RESOURCE_EXHAUSTED);
    httplib::Client client("http://" + running.daemon->http_address());
    const auto answer = client.Post("/v1/GetGroup", std::string(2 << 20, ' '), "application/json");
    REQUIRE(answer);
    CHECK(answer->status == 413);
    CHECK(absl::StrContains(answer->body, "RESOURCE_EXHAUSTED"));
    CHECK(Refused(running, "message_bytes") == 1);
  }
}

TEST_CASE("what was asked for is noted with the verified name", "[gate]") {
  Running running(SettingsWithTokens());
  const std::unique_ptr<Gate> gate = *Gate::Open(SettingsWithTokens().access);
  CHECK(gate->NameOf({.peer = "", .authorization = "Bearer " + kOperatorToken, .certificate = {}, .between = {}}) ==
        "alice");
  CHECK(gate->NameOf({.peer = "", .authorization = "Bearer no", .certificate = {}, .between = {}}).empty());
}

}  // namespace
}  // namespace evenkeel::controller
