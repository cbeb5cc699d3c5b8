// SPDX-License-Identifier: Apache-2.0
//
// The routes of FastDeploy, field for field: against a Control that answers from a script, and against a real group.
#include "controller/http/fastdeploy.h"

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "catch2/catch.hpp"
#include "httplib.h"
#include "nlohmann/json.hpp"

#include "tests/controller/running_daemon.h"

namespace evenkeel::controller {
namespace {

using Json = nlohmann::json;

// What Control says, and what it was asked.
struct Script {
  std::map<std::string, absl::StatusOr<std::string>> answers = {
      {"GetGroup", R"({"info": {"name": "chat"}})"},
      {"ListOperations", R"({"operations": []})"},
      {"Rearrange", R"({"id": "r", "state": "OPERATION_STATE_PLANNING"})"},
      {"GetStats", R"({"layers": [{"tokens_of_expert": ["3", "4"]}, {"tokens_of_expert": ["5", "6"]}]})"},
      {"GetMap", R"({"shape": {"num_ranks": 3, "slots_per_rank": 1, "num_experts": 2},
                     "layers": [{"map": {"replicas_of_expert": [2, 1], "slots": [0, 2, 1]}}]})"}};
  std::map<std::string, Json> asked;

  FastDeploy Make(FastDeploySettings settings = {}) {
    return FastDeploy(std::move(settings), [this](const std::string& method, const std::string& json) {
      asked[method] = Json::parse(json);
      return answers.at(method);
    });
  }
  void Operation(const std::string& state, absl::Duration ago, const std::string& cause = "OPERATOR") {
    const int64_t changed = absl::ToUnixMicros(absl::Now() - ago);
    answers.at("ListOperations") = Json{{"operations",
                                         {{{"id", "r1"},
                                           {"cause", "OPERATION_CAUSE_" + cause},
                                           {"state", "OPERATION_STATE_" + state},
                                           {"detail", "because"},
                                           {"dry_run", false},
                                           {"started_unix_us", absl::StrCat(changed - 250'000)},
                                           {"changed_unix_us", absl::StrCat(changed)}}}}}
                                       .dump();
  }
};

FastDeploySettings Asks(const std::string& user, const std::string& passwd) {
  FastDeploySettings settings;
  settings.user = user;
  settings.passwd = passwd;
  return settings;
}

FastDeploySettings About(const std::string& group, const std::string& role = "mixed") {
  FastDeploySettings settings;
  settings.group = group;
  settings.role = role;
  return settings;
}

void CheckReply(const FastDeploy::Reply& reply, int status, const Json& body) {
  CAPTURE(reply.body);
  CHECK(reply.http_status == status);
  CHECK(Json::parse(reply.body) == body);
}
Json Error(const std::string& message) { return {{"code", 1}, {"msg", message}}; }
const Json kOk = {{"code", 0}, {"msg", "ok"}};

TEST_CASE("all three routes check the same, in the original's order", "[fastdeploy]") {
  Script script;
  FastDeploySettings disabled = Asks("u", "p");
  disabled.enabled = false;
  FastDeploy off = script.Make(disabled), on = script.Make(Asks("u", "p"));
  for (auto route : {&FastDeploy::RearrangeExperts, &FastDeploy::TokensStats, &FastDeploy::CheckRedundant}) {
    CheckReply((off.*route)("{}"), 400, Error("redundant expert is disabled"));
    for (const char* body : {"{}", R"({"user": "u"})", R"({"user": "u", "passwd": "q"})", R"({"user": 1})"}) {
      CheckReply((on.*route)(body), 401, Error("user or passwd is invalid"));
    }
    CheckReply((on.*route)("nonsense"), 400, Error("the body is no JSON object"));
  }
  CHECK(script.asked.empty());
  CheckReply(on.RearrangeExperts(R"({"user": "u", "passwd": "p", "ips": ["a:1", "b:2"]})"), 200, kOk);
  CHECK(script.asked["Rearrange"]["group"] == "");
}

TEST_CASE("a rearrangement needs ips, and begins only while the status is FREE", "[fastdeploy]") {
  Script script;
  FastDeploy routes = script.Make(About("chat"));
  for (const char* body : {"{}", R"({"ips": "a:1"})", R"({"ips": [1]})"}) {
    CheckReply(routes.RearrangeExperts(body), 400, Error("ips not in request, or no list of host:port"));
  }
  const Json many = {{"ips", std::vector<std::string>(1, std::string(1025, 'x'))}};
  CheckReply(routes.RearrangeExperts(many.dump()), 500, Error("actual ips size is 1025, max limit is 1024"));
  CHECK_FALSE(script.asked.contains("Rearrange"));
  CheckReply(routes.RearrangeExperts(R"({"action": "", "ips": ["a:1"]})"), 200, kOk);
  CHECK(script.asked["Rearrange"]["group"] == "chat");
  const std::string body = R"({"ips": ["a:1"]})";
  script.Operation("RUNNING", absl::Seconds(1));
  CheckReply(routes.RearrangeExperts(body), 400, Error("status is 1 (DOING), expected 0 (FREE)"));
  script.Operation("DONE", absl::Seconds(10));
  CheckReply(routes.RearrangeExperts(body), 400, Error("status is 3 (DONE), expected 0 (FREE)"));
  script.Operation("DONE", absl::Seconds(31));
  CheckReply(routes.RearrangeExperts(body), 200, kOk);
  script.Operation("FAILED", absl::Seconds(1));
  CheckReply(routes.RearrangeExperts(body), 200, kOk);
}

TEST_CASE("what the controller refuses is no success", "[fastdeploy]") {
  Script script;
  FastDeploy routes = script.Make();
  const std::string body = R"({"ips": ["a:1"]})";
  script.answers.at("Rearrange") = absl::FailedPreconditionError("the maps of group chat are static");
  CheckReply(routes.RearrangeExperts(body), 400, Error("the maps of group chat are static"));
  script.answers.at("Rearrange") = R"({"id": "r", "state": "OPERATION_STATE_FAILED", "detail": "no room"})";
  CheckReply(routes.RearrangeExperts(body), 400, Error("no room"));
  script.answers.at("GetGroup") = absl::NotFoundError("no group has attached yet");
  CheckReply(routes.RearrangeExperts(body), 404, Error("no group has attached yet"));
  CheckReply(routes.CheckRedundant("{}"), 404, Error("no group has attached yet"));
  script.answers.at("GetStats") = absl::UnavailableError("the controller ends");
  CheckReply(routes.TokensStats("{}"), 503, Error("the controller ends"));
}

TEST_CASE("a load that is sent is what the group is planned by", "[fastdeploy]") {
  Script script;
  FastDeploy routes = script.Make();
  const auto post = [&](const Json& data) {
    return routes.RearrangeExperts(Json{{"action", "recv_expert_weight"}, {"data", data}}.dump());
  };
  CheckReply(routes.RearrangeExperts(R"({"action": "recv_expert_weight"})"), 400,
             Error("data not in request or data is not a list"));
  CheckReply(post(7), 400, Error("data not in request or data is not a list"));
  for (const Json& data : {Json::parse("[]"), Json::parse("[[1, 2], [3]]"), Json::parse("[[1, -2]]"),
                           Json::parse("[[1.5]]"), Json::parse("[1]")}) {
    CheckReply(post(data), 400, Error("data is no matrix of token counts, [layers][experts]"));
  }
  CheckReply(post(Json::parse("[[1, 2], [3, 4]]")), 200, kOk);
  CHECK(script.asked["Rearrange"]["load"] == Json({"1", "2", "3", "4"}));
}

TEST_CASE("there is nothing to take over, whatever the role; other actions are unknown", "[fastdeploy]") {
  Script script;
  FastDeploy mixed = script.Make(), prefill = script.Make(About("", "prefill"));
  const std::string body = R"({"action": "update_weight_from_tensor"})";
  CheckReply(mixed.RearrangeExperts(body), 400, Error("actual role is mixed, expected role is prefill"));
  CheckReply(prefill.RearrangeExperts(body), 400,
             Error("status is 0 (FREE), expected 2 (LOAD_SUCC): experts go live as they arrive, nothing waits to be "
                   "taken over"));
  CheckReply(mixed.RearrangeExperts(R"({"action": "dance"})"), 400, Error("invalid action dance"));
  CheckReply(mixed.CheckRedundant(R"({"action": "dance"})"), 400, Error("invalid action dance"));
}

TEST_CASE("tokens are told per layer and expert, since they were cleared last", "[fastdeploy]") {
  Script script;
  FastDeploy routes = script.Make(About("chat"));
  const Json told = {{"code", 0}, {"msg", "ok"}, {"data", Json::parse("[[[3, 4], [5, 6]]]")}};
  CheckReply(routes.TokensStats("{}"), 200, told);
  CHECK(script.asked["GetStats"] == Json({{"group", "chat"}}));
  CheckReply(routes.TokensStats(R"({"clear_stat": true})"), 200, told);
  CHECK(script.asked["GetStats"] == Json({{"group", "chat"}}));  // those up to now
  CheckReply(routes.TokensStats("{}"), 200, told);
  CHECK(std::stol(script.asked["GetStats"]["span_ms"].get<std::string>()) < 60'000);
}

TEST_CASE("the status is that of the newest rearrangement asked for, with what became of it", "[fastdeploy]") {
  Script script;
  FastDeploy routes = script.Make();
  const auto told = [&](const std::string& message, const std::string& status, int result) {
    CheckReply(routes.CheckRedundant("{}"), 200, {{"code", 0}, {"msg", message}, {"status", status}});
    CheckReply(routes.CheckRedundant(R"({"action": "check_load_weight_result"})"), 200,
               {{"code", 0}, {"msg", "ok"}, {"data", {result}}});
  };
  told("ok", "FREE", 0);
  script.Operation("RUNNING", absl::Seconds(1), "SLOW_LOOP");  // nobody asked for it
  told("ok", "FREE", 0);
  script.Operation("PLANNING", absl::Seconds(1));
  told("r1: because", "DOING", 0);
  script.Operation("DONE", absl::Seconds(1));
  told("r1: because", "DONE", 1);
  script.Operation("DONE", absl::Seconds(31));
  told("r1: because", "FREE", 1);
  for (const char* state : {"FAILED", "CANCELLED", "SUPERSEDED"}) {
    script.Operation(state, absl::Seconds(1));
    told("r1: because", "FREE", -1);
  }
}

TEST_CASE("the workload has the fields of the file that the original keeps", "[fastdeploy]") {
  Script script;
  script.Operation("DONE", absl::Seconds(1));
  FastDeploy routes = script.Make();
  const Json reply = Json::parse(routes.CheckRedundant(R"({"check_get_workloads": true})").body);
  Json data = reply["data"];
  CHECK(std::abs(data["update_timestamp"].get<double>() - absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch())) < 60);
  data.erase("update_timestamp");
  CHECK(data == Json({{"tokens_per_expert_stats_list", Json::parse("[[3, 4], [5, 6]]")},
                      {"ep_rank_to_expert_id_list", Json::parse("[[0, 1, 0]]")},
                      {"expert_id_to_ep_rank_array", Json::parse("[[[0, 2], [1, -1]]]")},
                      {"expert_in_rank_num_list", Json::parse("[[2, 1]]")},
                      {"cost_milliseconds", 250},
                      {"meta_file_name", "rearrange-experts.json"}}));
}

TEST_CASE("a real group is rearranged as a FastDeploy client would have it", "[fastdeploy]") {
  ControllerSettings settings = QuickSettings();
  settings.http_listen = "127.0.0.1:0";
  settings.fastdeploy.user = "u";
  Running running(settings);
  ServingGroup serving(running, "chat");
  httplib::Client client("http://" + running.daemon->http_address());
  const auto post = [&](const std::string& path, Json body, int status) {
    body["user"] = "u";
    const auto result = client.Post(path.c_str(), body.dump(), "application/json");
    REQUIRE(result);
    CAPTURE(path, result->body);
    CHECK(result->status == status);
    return Json::parse(result->body);
  };
  const absl::Time end = absl::Now() + absl::Seconds(60);
  const auto loaded = [&] {
    const Json stats = post("/get_per_expert_tokens_stats", {}, 200);
    REQUIRE(stats["data"].size() == 1);
    REQUIRE(stats["data"][0].size() == 2);
    REQUIRE(stats["data"][0][0].size() == 8);
    return stats["data"][0][0][1].get<int64_t>() > 10 * stats["data"][0][0][0].get<int64_t>();
  };
  while (!loaded()) REQUIRE(absl::Now() < end);
  CHECK(post("/check_redundant", {}, 200)["status"] == "FREE");
  CHECK(post("/rearrange_experts", {{"ips", {"127.0.0.1:1"}}}, 200)["msg"] == "ok");
  while (post("/check_redundant", {}, 200)["status"] != "DONE") REQUIRE(absl::Now() < end);
  CHECK(post("/check_redundant", {{"action", "check_load_weight_result"}}, 200)["data"] == Json({1}));
  CHECK(post("/rearrange_experts", {{"ips", {"127.0.0.1:1"}}}, 400)["code"] == 1);
  const Json workload = post("/check_redundant", {{"check_get_workloads", true}}, 200)["data"];
  CHECK(workload["expert_in_rank_num_list"][0][1].get<int>() > 1);  // the hot expert has got a replica more
  CHECK(workload["ep_rank_to_expert_id_list"][1].size() == 12);
  // Sent back the other way round, other experts are hot.
  std::vector<std::vector<int>> load(2, {9000, 1, 1, 1, 1, 1, 1, 1});
  CHECK(post("/rearrange_experts", {{"action", "recv_expert_weight"}, {"data", load}}, 200)["code"] == 0);
  const auto replicas = [&] {
    return post("/check_redundant", {{"check_get_workloads", true}}, 200)["data"]["expert_in_rank_num_list"][0][0];
  };
  while (replicas().get<int>() < 2) REQUIRE(absl::Now() < end);
  load.pop_back();
  CHECK(absl::StrContains(
      post("/rearrange_experts", {{"action", "recv_expert_weight"}, {"data", load}}, 400)["msg"].get<std::string>(),
      "load has 8 numbers: 2 layers x 8 experts wanted"));
  running.daemon->Stop();
  CHECK(serving.Join() > 0);
}

}  // namespace
}  // namespace evenkeel::controller
