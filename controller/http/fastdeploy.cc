// SPDX-License-Identifier: Apache-2.0
#include "controller/http/fastdeploy.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

#include "algos/base/status_macros.h"
#include "controller/http/http_error.h"

namespace evenkeel::controller {

namespace {

using Json = nlohmann::json;
using Reply = FastDeploy::Reply;

// As the original numbers them.
enum class Status { kFree = 0, kDoing = 1, kLoadSucc = 2, kDone = 3 };
constexpr std::array<const char*, 4> kStatusNames = {"FREE", "DOING", "LOAD_SUCC", "DONE"};

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Reply Error(int http_status, const std::string& message) {
  return {http_status, Dump({{"code", 1}, {"msg", message}})};
}
Reply Error(const absl::Status& status) { return Error(HttpStatusOf(status.code()), std::string(status.message())); }
Reply Ok() { return {200, Dump({{"code", 0}, {"msg", "ok"}})}; }

// A member that is missing or of another kind counts as not given.
std::string TextOf(const Json& request, const char* name) {
  const auto found = request.find(name);
  return found != request.end() && found->is_string() ? found->get<std::string>() : "";
}
bool IsSet(const Json& request, const char* name) {
  const auto found = request.find(name);
  return found != request.end() && found->is_boolean() && found->get<bool>();
}

// 64-bit numbers are strings in protobuf's JSON.
int64_t NumberOf(const Json& value) {
  int64_t number = 0;
  if (value.is_string()) return absl::SimpleAtoi(value.get<std::string>(), &number) ? number : 0;
  return value.is_number() ? value.get<int64_t>() : 0;
}

// The request, or the reply that says what is wrong with it, in the original's order.
struct Checked {
  Json request;
  std::optional<Reply> refused;
};

Checked Check(const FastDeploySettings& settings, const std::string& body) {
  if (!settings.enabled) return {{}, Error(400, "redundant expert is disabled")};
  Json request = Json::parse(body.empty() ? "{}" : body, nullptr, /*allow_exceptions=*/false);
  if (!request.is_object()) return {{}, Error(400, "the body is no JSON object")};
  if (TextOf(request, "user") != settings.user || TextOf(request, "passwd") != settings.passwd) {
    return {{}, Error(401, "user or passwd is invalid")};
  }
  return {std::move(request), std::nullopt};
}

absl::StatusOr<Json> Ask(const FastDeploy::Control& control, const std::string& method, const Json& request) {
  EVENKEEL_ASSIGN_OR_RETURN(const std::string answer, control(method, Dump(request)));
  Json json = Json::parse(answer, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InternalError(absl::StrCat(method, " answered no JSON object"));
  // Of a stream that was refused at once.
  if (json.contains("code") && json.contains("message")) return absl::UnavailableError(TextOf(json, "message"));
  return json;
}

// The newest rearrangement that an operator asked for, dry runs left out.
struct Newest {
  Status status = Status::kFree;
  int result = 0;  // 1 done, 0 not finished or none, -1 failed
  std::string message = "ok";
  int64_t milliseconds = 0;
};

absl::StatusOr<Newest> NewestOf(const FastDeploy::Control& control, const std::string& group) {
  EVENKEEL_ASSIGN_OR_RETURN(const Json known, Ask(control, "GetGroup", {{"group", group}}));
  const std::string name = known.contains("info") ? TextOf(known["info"], "name") : group;
  EVENKEEL_ASSIGN_OR_RETURN(const Json list, Ask(control, "ListOperations", {{"group", name}}));
  Newest newest;
  for (const Json& operation : list.value("operations", Json::array())) {
    if (TextOf(operation, "cause") != "OPERATION_CAUSE_OPERATOR" || IsSet(operation, "dry_run")) continue;
    const std::string state = TextOf(operation, "state");
    const int64_t changed_us = NumberOf(operation.value("changed_unix_us", Json(0)));
    newest.milliseconds = (changed_us - NumberOf(operation.value("started_unix_us", Json(0)))) / 1000;
    newest.message = absl::StrCat(TextOf(operation, "id"), ": ", TextOf(operation, "detail"));
    if (state == "OPERATION_STATE_PLANNING" || state == "OPERATION_STATE_RUNNING") {
      newest.status = Status::kDoing;
    } else if (state == "OPERATION_STATE_DONE" || state == "OPERATION_STATE_SKIPPED") {
      const bool lately = absl::ToUnixMicros(absl::Now()) - changed_us < FastDeploy::kDoneSeconds * 1'000'000;
      newest.status = lately ? Status::kDone : Status::kFree;
      newest.result = 1;
    } else {
      newest.result = -1;
    }
    break;
  }
  return newest;
}

// [layers][experts] of GroupStats.
absl::StatusOr<Json> TokensOf(const FastDeploy::Control& control, const std::string& group, int64_t cleared_us) {
  Json request = {{"group", group}};
  if (cleared_us > 0) {
    const int64_t span_ms = std::max<int64_t>((absl::ToUnixMicros(absl::Now()) - cleared_us) / 1000, 1);
    request["span_ms"] = absl::StrCat(span_ms);
  }
  EVENKEEL_ASSIGN_OR_RETURN(const Json stats, Ask(control, "GetStats", request));
  Json layers = Json::array();
  for (const Json& layer : stats.value("layers", Json::array())) {
    Json tokens = Json::array();
    for (const Json& count : layer.value("tokens_of_expert", Json::array())) tokens.push_back(NumberOf(count));
    layers.push_back(std::move(tokens));
  }
  return layers;
}

// The tables that the original keeps in rearrange-experts.json, from the maps in force.
absl::StatusOr<Json> Workload(const FastDeploy::Control& control, const std::string& group, Json tokens,
                              int64_t milliseconds) {
  EVENKEEL_ASSIGN_OR_RETURN(const Json maps, Ask(control, "GetMap", {{"group", group}}));
  const Json shape = maps.value("shape", Json::object());
  const int64_t num_slots =
      NumberOf(shape.value("num_ranks", Json(0))) * NumberOf(shape.value("slots_per_rank", Json(0)));
  Json expert_of_slot = Json::array(), slots_of_expert = Json::array(), counts = Json::array();
  for (const Json& layer : maps.value("layers", Json::array())) {
    const Json map = layer.value("map", Json::object());
    const Json replicas = map.value("replicas_of_expert", Json::array()), slots = map.value("slots", Json::array());
    int64_t most = 1;
    for (const Json& count : replicas) most = std::max(most, NumberOf(count));
    std::vector<int64_t> experts(static_cast<size_t>(num_slots), -1);
    Json of_expert = Json::array();
    size_t at = 0;
    for (size_t e = 0; e < replicas.size(); ++e) {
      std::vector<int64_t> row(static_cast<size_t>(most), -1);
      for (size_t i = 0; i < static_cast<size_t>(NumberOf(replicas[e])) && at < slots.size(); ++i, ++at) {
        row[i] = NumberOf(slots[at]);
        if (row[i] >= 0 && row[i] < num_slots) experts[static_cast<size_t>(row[i])] = static_cast<int64_t>(e);
      }
      of_expert.push_back(std::move(row));
    }
    expert_of_slot.push_back(std::move(experts));
    slots_of_expert.push_back(std::move(of_expert));
    counts.push_back(replicas);
  }
  return Json{{"update_timestamp", absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch())},
              {"tokens_per_expert_stats_list", std::move(tokens)},
              {"ep_rank_to_expert_id_list", std::move(expert_of_slot)},
              {"expert_id_to_ep_rank_array", std::move(slots_of_expert)},
              {"expert_in_rank_num_list", std::move(counts)},
              {"cost_milliseconds", milliseconds},
              {"meta_file_name", "rearrange-experts.json"}};
}

// Row by row; nothing where it is no matrix of counts.
std::optional<Json> FlatLoad(const Json& data) {
  Json load = Json::array();
  for (const Json& layer : data) {
    if (!layer.is_array() || layer.size() != data[0].size()) return std::nullopt;
    for (const Json& count : layer) {
      if (!count.is_number_integer() || count.get<int64_t>() < 0) return std::nullopt;
      load.push_back(absl::StrCat(count.get<int64_t>()));
    }
  }
  return load;
}

Reply Start(const FastDeploy::Control& control, const Json& request) {
  const absl::StatusOr<Json> begun = Ask(control, "Rearrange", request);
  if (!begun.ok()) return Error(begun.status());
  if (TextOf(*begun, "state") == "OPERATION_STATE_FAILED") return Error(400, TextOf(*begun, "detail"));
  return Ok();
}

std::string Instead(Status actual, Status expected) {
  return absl::StrCat("status is ", static_cast<int>(actual), " (", kStatusNames[static_cast<size_t>(actual)],
                      "), expected ", static_cast<int>(expected), " (", kStatusNames[static_cast<size_t>(expected)],
                      ")");
}

// Null: they are not given as they should be.
std::optional<std::string> JoinedIps(const Json& request) {
  const auto ips = request.find("ips");
  if (ips == request.end() || !ips->is_array()) return std::nullopt;
  std::string joined;
  for (const Json& ip : *ips) {
    if (!ip.is_string()) return std::nullopt;
    absl::StrAppend(&joined, joined.empty() ? "" : ";", ip.get<std::string>());
  }
  return joined;
}

}  // namespace

FastDeploy::FastDeploy(FastDeploySettings settings, Control control)
    : settings_(std::move(settings)), control_(std::move(control)) {}

Reply FastDeploy::RearrangeExperts(const std::string& body) {
  const Checked checked = Check(settings_, body);
  if (checked.refused.has_value()) return *checked.refused;
  const Json& request = checked.request;
  const std::string action = TextOf(request, "action");
  Json wanted = {{"group", settings_.group}};
  if (action == "recv_expert_weight") {
    const auto data = request.find("data");
    if (data == request.end() || !data->is_array()) return Error(400, "data not in request or data is not a list");
    std::optional<Json> load = FlatLoad(*data);
    if (!load.has_value() || load->empty()) return Error(400, "data is no matrix of token counts, [layers][experts]");
    wanted["load"] = *std::move(load);
    return Start(control_, wanted);
  }
  if (!action.empty() && action != "update_weight_from_tensor") {
    return Error(400, absl::StrCat("invalid action ", action));
  }
  if (!action.empty() && settings_.role != "prefill") {
    return Error(400, absl::StrCat("actual role is ", settings_.role, ", expected role is prefill"));
  }
  const absl::StatusOr<Newest> newest = NewestOf(control_, settings_.group);
  if (!newest.ok()) return Error(newest.status());
  if (!action.empty()) {
    return Error(400, absl::StrCat(Instead(newest->status, Status::kLoadSucc),
                                   ": experts go live as they arrive, nothing waits to be taken over"));
  }
  if (newest->status != Status::kFree) return Error(400, Instead(newest->status, Status::kFree));
  const std::optional<std::string> ips = JoinedIps(request);
  if (!ips.has_value()) return Error(400, "ips not in request, or no list of host:port");
  if (ips->size() > kIpsBytesMax) {
    return Error(500, absl::StrCat("actual ips size is ", ips->size(), ", max limit is ", kIpsBytesMax));
  }
  return Start(control_, wanted);
}

Reply FastDeploy::TokensStats(const std::string& body) {
  const Checked checked = Check(settings_, body);
  if (checked.refused.has_value()) return *checked.refused;
  const absl::Time now = absl::Now();
  absl::StatusOr<Json> tokens = TokensOf(control_, settings_.group, cleared_unix_us_);
  if (!tokens.ok()) return Error(tokens.status());
  if (IsSet(checked.request, "clear_stat")) cleared_unix_us_ = absl::ToUnixMicros(now);
  return {200, Dump({{"code", 0}, {"msg", "ok"}, {"data", Json::array({*std::move(tokens)})}})};
}

Reply FastDeploy::CheckRedundant(const std::string& body) {
  const Checked checked = Check(settings_, body);
  if (checked.refused.has_value()) return *checked.refused;
  const std::string action = TextOf(checked.request, "action");
  if (!action.empty() && action != "check_load_weight_result") {
    return Error(400, absl::StrCat("invalid action ", action));
  }
  const absl::StatusOr<Newest> newest = NewestOf(control_, settings_.group);
  if (!newest.ok()) return Error(newest.status());
  if (!action.empty()) {
    return {200, Dump({{"code", 0}, {"msg", "ok"}, {"data", Json::array({newest->result})}})};
  }
  Json reply = {{"code", 0}, {"msg", newest->message}, {"status", kStatusNames[static_cast<size_t>(newest->status)]}};
  if (IsSet(checked.request, "check_get_workloads")) {
    absl::StatusOr<Json> tokens = TokensOf(control_, settings_.group, 0);
    if (!tokens.ok()) return Error(tokens.status());
    absl::StatusOr<Json> workload = Workload(control_, settings_.group, *std::move(tokens), newest->milliseconds);
    if (!workload.ok()) return Error(workload.status());
    reply["data"] = *std::move(workload);
  }
  return {200, Dump(reply)};
}

}  // namespace evenkeel::controller
