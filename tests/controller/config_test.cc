// SPDX-License-Identifier: Apache-2.0
#include "controller/config.h"

#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "proto/evenkeel/v1/config.pb.h"
#include "runtime/token.h"

namespace evenkeel::controller {
namespace {

absl::StatusOr<ControllerSettings> SettingsFrom(const std::string& text) {
  const absl::StatusOr<v1::ControllerConfig> config = ParseConfig(text, "test");
  if (!config.ok()) return config.status();
  return SettingsOf(*config);
}

std::string ErrorOf(const std::string& text) {
  const absl::StatusOr<ControllerSettings> settings = SettingsFrom(text);
  if (settings.ok()) return "accepted";
  CHECK(settings.status().code() == absl::StatusCode::kInvalidArgument);
  return std::string(settings.status().message());
}

TEST_CASE("an empty configuration gives the defaults", "[config]") {
  const absl::StatusOr<ControllerSettings> settings = SettingsFrom("");
  REQUIRE(settings.ok());
  CHECK(settings->listen == "127.0.0.1:7400");
  CHECK(settings->http_listen == "127.0.0.1:7401");
  CHECK(settings->store.empty());
  const GroupSettings& defaults = settings->coordinator.defaults;
  CHECK(defaults == GroupSettings());
  CHECK(defaults.policy == "flex");
  const Pace pace = PaceOf(defaults.policy);
  CHECK(defaults.placement_interval == pace.placement_interval);
  CHECK(defaults.planning.layer_moves_per_100_windows == pace.layer_moves_per_100_windows);
  CHECK(settings->coordinator.groups.empty());
  CHECK(ErrorOf("{}") == "accepted");
}

TEST_CASE("text and JSON say the same, and groups go before defaults", "[config]") {
  const auto text = SettingsFrom(R"(
      listen: "127.0.0.1:1"
      defaults { window_ms: 500 num_windows_for_shares: 2 agent { transport: "ucx" } }
      groups { key: "chat" value { shares_enabled: false agent { bytes_per_second_max: 1000 } } })");
  const auto json = SettingsFrom(R"({
      "listen": "127.0.0.1:1",
      "defaults": {"window_ms": 500, "num_windows_for_shares": 2, "agent": {"transport": "ucx"}},
      "groups": {"chat": {"shares_enabled": false, "agent": {"bytes_per_second_max": 1000}}}})");
  REQUIRE(text.ok());
  REQUIRE(json.ok());
  for (const auto& settings : {*text, *json}) {
    CHECK(settings.listen == "127.0.0.1:1");
    CHECK(settings.coordinator.defaults.window == absl::Milliseconds(500));
    CHECK(settings.coordinator.defaults.shares_enabled);
    REQUIRE(settings.coordinator.groups.size() == 1);
    const auto& [name, chat] = settings.coordinator.groups[0];
    CHECK(name == "chat");
    CHECK_FALSE(chat.shares_enabled);
    CHECK(chat.window == absl::Milliseconds(500));
    CHECK(chat.num_windows_for_shares == 2);
    CHECK(chat.agent.transport == "ucx");
    CHECK(chat.agent.bytes_per_second_max == 1000);
  }
}

TEST_CASE("an eplb_config without the switch means mode off", "[config]") {
  const std::string keys = R"({"dynamic_eplb": true, "window_size": 100})";
  const auto load = [](const std::string& eplb_config, std::optional<bool> enable_eplb) {
    ConfigFlags flags;
    flags.eplb_config = eplb_config;
    flags.enable_eplb = enable_eplb;
    return LoadSettings(flags);
  };
  CHECK(load("", std::nullopt)->coordinator.defaults.mode == Mode::kFull);
  const auto alone = load(keys, std::nullopt);
  REQUIRE(alone.ok());
  CHECK(alone->coordinator.defaults.mode == Mode::kOff);
  CHECK(alone->coordinator.defaults.planning.episode_steps == 100);
  REQUIRE(alone->warnings.size() == 1);
  CHECK(alone->warnings[0] == "--eplb-config without --enable-eplb: the mode is off");
  CHECK(load(keys, true)->coordinator.defaults.mode == Mode::kFull);
  CHECK(load(keys, true)->warnings.empty());
  CHECK(load("", false)->coordinator.defaults.mode == Mode::kOff);
  CHECK(load(R"({"window_size": 0})", true).status().message().find("eplb_config.window_size is 0") == 0);
  CHECK(load("/none.json", true).status().code() == absl::StatusCode::kNotFound);
}

TEST_CASE("the mode is one of five", "[config]") {
  const auto settings = SettingsFrom(R"(defaults { mode: "shadow" } groups { key: "chat" value { mode: "off" } })");
  REQUIRE(settings.ok());
  CHECK(settings->coordinator.defaults.mode == Mode::kShadow);
  CHECK(settings->coordinator.groups[0].second.mode == Mode::kOff);
  CHECK(ErrorOf(R"(defaults { mode: "on" })") == "defaults.mode is 'on': off, record, shadow, shares or full wanted");
}

TEST_CASE("an unknown field is refused by name", "[config]") {
  CHECK(ErrorOf(R"({"defaults": {"window": 500}})").find("window") != std::string::npos);
  CHECK(ErrorOf("\ndefaults { window: 500 }") ==
        "configuration test: line 2, column 18: Message type \"evenkeel.v1.GroupConfig\" has no field named "
        "\"window\". in 'defaults { window: 500 }'");
}

TEST_CASE("a value of the wrong type is refused with the field's name", "[config]") {
  CHECK(ErrorOf("defaults {\n  window_ms: -5\n}").find("'window_ms: -5'") != std::string::npos);
  CHECK(ErrorOf(R"({"defaults": {"window_ms": "soon"}})").find("window_ms") != std::string::npos);
  CHECK(ErrorOf(R"({"defaults": {"window_ms": 5000000000}})").find("window_ms") != std::string::npos);
  CHECK(ErrorOf("{").find("configuration test: ") == 0);
}

TEST_CASE("values out of range are refused by the path of the field", "[config]") {
  CHECK(ErrorOf("defaults { window_ms: 0 }") == "defaults.window_ms is 0: 10 to 3600000 wanted");
  CHECK(ErrorOf("groups { key: 'chat' value { window_ms: 9 } }") == "groups.chat.window_ms is 9: 10 to 3600000 wanted");
  CHECK(ErrorOf("defaults { shares_min_gain: -0.1 }") == "defaults.shares_min_gain is -0.1: 0 to 1000 wanted");
  CHECK(ErrorOf("defaults { placement_min_gain: nan }") == "defaults.placement_min_gain is nan: 0 to 1000 wanted");
  CHECK(ErrorOf("defaults { agent { concurrent_moves_max: 0 } }") ==
        "defaults.agent.concurrent_moves_max is 0: 1 to 1024 wanted");
  CHECK(ErrorOf("defaults { link_bytes_per_second: 0 }").find("defaults.link_bytes_per_second is 0") == 0);
  CHECK(ErrorOf("defaults { num_windows_kept: 30 }") ==
        "defaults.num_windows_for_placement is 60: at most num_windows_kept, 30, wanted");
  CHECK(ErrorOf("group_kept_ms: 999") == "group_kept_ms is 999: 1000 to 31536000000 wanted");
  CHECK(ErrorOf("group_bytes_max: 1000") == "group_bytes_max is 1000: 1048576 to 1125899906842624 wanted");
  CHECK(ErrorOf("num_groups_max: 0") == "num_groups_max is 0: 1 to 65536 wanted");
  CHECK(ErrorOf("listen_interval_ms: 600001") == "listen_interval_ms is 600001: 0 to 600000 wanted");
  CHECK(ErrorOf("num_operations_kept: 10001") == "num_operations_kept is 10001: 1 to 10000 wanted");
  CHECK(ErrorOf("tls_key: 'k.pem'") == "tls_certificate is '', tls_key is 'k.pem': both or neither wanted");
  CHECK(ErrorOf("log_level: 'loud'").find("log_level: log level 'loud' is none of") == 0);
  CHECK(ErrorOf("defaults { agent { transport: 'uxc' } }") ==
        "defaults.agent.transport is 'uxc': local, ucx, ipc or nothing wanted");
  CHECK(ErrorOf("defaults { policy: 'magic' }").find("defaults.policy: ") == 0);
}

TEST_CASE("planning settings are read, and group values go before defaults", "[config]") {
  const auto settings = SettingsFrom(R"({
      "defaults": {"policy": "greedy", "prefill_policy": "deepseek", "episode_steps": 200, "placement_interval_steps": 3000, "layer_imbalance_min": 1.1,
                   "min_fluctuation": 0.05, "layer_rest_windows": 30, "layer_rest_rise": 0.5, "layers_max": 8,
                   "moves_per_layer_max": 6, "layer_moves_per_100_windows": 2.5, "bytes_per_plan_max": "1000000",
                   "capacities": [1, 0.5], "cost": {"per_expert": 40},
                   "pins": [{"layer": 1, "expert": 7, "rank": 0}]},
      "groups": {"chat": {"prefill_policy": "", "decode_policy": "greedy", "capacities": [2, 2, 2]}}})");
  INFO(settings.status().ToString());
  REQUIRE(settings.ok());
  const PlanningSettings& defaults = settings->coordinator.defaults.planning;
  CHECK(defaults.prefill.name == "deepseek");
  CHECK(defaults.decode.name.empty());
  CHECK(defaults.episode_steps == 200);
  CHECK(defaults.placement_interval_steps == 3000);
  CHECK(defaults.layer_imbalance_min == 1.1);
  CHECK(defaults.min_fluctuation == 0.05);
  CHECK(defaults.layer_rest_windows == 30);
  CHECK(defaults.layer_rest_rise == 0.5);
  CHECK(defaults.layers_max == 8);
  CHECK(defaults.moves_per_layer_max == 6);
  CHECK(defaults.layer_moves_per_100_windows == 2.5);
  CHECK(defaults.bytes_per_plan_max == 1000000);
  CHECK(defaults.capacities == std::vector<double>{1, 0.5});
  CHECK(defaults.cost == algos::RankCost{.per_expert = 40, .per_token = 1});
  REQUIRE(defaults.pins.size() == 1);
  CHECK(defaults.pins[0] == algos::Pin{LayerId(1), ExpertId(7), RankId(0)});
  const PlanningSettings& chat = settings->coordinator.groups[0].second.planning;
  CHECK(chat.prefill.name.empty());
  CHECK(chat.decode.name == "greedy");
  CHECK(chat.capacities == std::vector<double>{2, 2, 2});
  CHECK(chat.layers_max == 8);
}

TEST_CASE("a group's pace goes with its policy unless it is configured", "[config]") {
  const auto settings = SettingsFrom(R"({"defaults": {"policy": "deepseek", "window_ms": 500},
      "groups": {"a": {"policy": "flex"}, "b": {"policy": "flex", "placement_interval_ms": 60000},
                 "c": {"policy": "flex", "layer_moves_per_100_windows": 0}, "d": {"window_ms": 100}}})");
  // Also where what is configured is what the other policy would have by itself.
  const auto said = SettingsFrom(R"({"defaults": {"placement_interval_ms": 10000, "layer_moves_per_100_windows": 10},
      "groups": {"a": {"policy": "greedy"}}})");
  REQUIRE(said.ok());
  CHECK(said->coordinator.groups[0].second.placement_interval == absl::Seconds(10));
  CHECK(said->coordinator.groups[0].second.planning.layer_moves_per_100_windows == 10.0);
  REQUIRE(settings.ok());
  const auto pace = [&](size_t group) {
    const GroupSettings& read = settings->coordinator.groups[group].second;
    return std::pair(read.placement_interval, read.planning.layer_moves_per_100_windows);
  };
  CHECK(pace(0) == std::pair(absl::Seconds(10), 10.0));
  CHECK(pace(1) == std::pair(absl::Seconds(60), 10.0));
  CHECK(pace(2) == std::pair(absl::Seconds(10), 0.0));
  CHECK(pace(3) == std::pair(absl::Seconds(60), 0.0));
  const auto again = SettingsFrom(EffectiveConfig(*settings));
  REQUIRE(again.ok());
  CHECK(again->coordinator.groups == settings->coordinator.groups);
}

TEST_CASE("planning settings out of range are refused by the path of the field", "[config]") {
  const struct {
    const char* text;
    const char* error;
  } cases[] = {
      {"min_fluctuation: 1.5", "defaults.min_fluctuation is 1.5: 0 to 1 wanted"},
      {"min_fluctuation: nan", "defaults.min_fluctuation is nan: 0 to 1 wanted"},
      {"layer_imbalance_min: 0.5", "defaults.layer_imbalance_min is 0.5: 1 to 1000 wanted"},
      {"episode_steps: 1000000001", "defaults.episode_steps is 1000000001: 0 to 1000000000 wanted"},
      {"layers_max: 5000", "defaults.layers_max is 5000: 0 to 4096 wanted"},
      {"layer_moves_per_100_windows: -1", "defaults.layer_moves_per_100_windows is -1: 0 to 1e+06 wanted"},
      {"capacities: [1, 0]", "defaults.capacities[1] is 0: a number above 0 wanted"},
      {"cost { per_token: 0 }", "defaults.cost: per_expert and per_token are both 0"},
      {"cost { per_expert: -2 }", "defaults.cost.per_expert is -2: 0 to 1e+18 wanted"},
      {"pins { layer: 4096 }", "defaults.pins[0].layer is 4096: 0 to 4095 wanted"},
      {"pins { } pins { expert: 70000 }", "defaults.pins[1].expert is 70000: 0 to 65535 wanted"},
      {"guard { step_time_p99_max_us: 3600000001 }",
       "defaults.guard.step_time_p99_max_us is 3600000001: 0 to 3600000000 wanted"},
      {"guard { slowdown_max: -0.1 }", "defaults.guard.slowdown_max is -0.1: 0 to 100 wanted"},
      {"guard { window_ms: 99 }", "defaults.guard.window_ms is 99: 100 to 3600000 wanted"},
      {"guard { rest_ms: 86400001 }", "defaults.guard.rest_ms is 86400001: 0 to 86400000 wanted"},
      {"freeze: 'daily 22:00-06:00' freeze: 'monday 8-20'",
       "defaults.freeze is 'monday 8-20': days and hours in UTC wanted, as 'mon-fri 08:00-20:00', 'sat,sun "
       "00:00-24:00' "
       "or 'daily 22:00-06:00'"},
      {"policy: ''", "defaults.policy is empty: a policy wanted"},
      {"policy_options { key: 'depth' value: 2 }",
       "defaults.policy_options: policy flex: no option 'depth'; it has gain_min, weight_now, exaggeration, "
       "episodes_max"},
      {"decode_policy_options { key: 'depth' value: 2 }",
       "defaults.decode_policy_options: defaults.decode_policy is not set"},
  };
  for (const auto& [text, error] : cases) {
    CAPTURE(text);
    CHECK(ErrorOf(std::string("defaults { ") + text + " }") == error);
  }
  CHECK(ErrorOf("defaults { prefill_policy: 'magic' }").find("defaults.prefill_policy: ") == 0);
}

TEST_CASE("a listen address without host or port is refused", "[config]") {
  for (const char* listen : {"localhost", ":7400", "host:", "host:x", "host:65536", "host:-1"}) {
    CAPTURE(listen);
    CHECK(ErrorOf(std::string("listen: '") + listen + "'") ==
          std::string("listen is '") + listen + "': HOST:PORT wanted");
    CHECK(ErrorOf(std::string("http_listen: '") + listen + "'") ==
          std::string("http_listen is '") + listen + "': HOST:PORT wanted");
  }
  CHECK(ErrorOf("listen: '[::1]:0'") == "accepted");
}

TEST_CASE("flags go before the file, and a missing file is an error", "[config]") {
  const std::string path = std::string(std::getenv("TEST_TMPDIR")) + "/config.json";
  std::ofstream(path) << R"({"listen": "127.0.0.1:1", "store": "/a", "log_level": "debug"})";
  const auto settings = LoadSettings({.config_path = path, .listen = "127.0.0.1:2", .store = "", .log_level = ""});
  REQUIRE(settings.ok());
  CHECK(settings->listen == "127.0.0.1:2");
  CHECK(settings->store == "/a");
  CHECK(settings->log_level == "debug");
  const auto flagged = LoadSettings(
      {.config_path = path, .listen = "", .store = "", .log_level = "", .policy = "deepseek", .episode_steps = 50});
  REQUIRE(flagged.ok());
  CHECK(flagged->coordinator.defaults.policy == "deepseek");
  CHECK(flagged->coordinator.defaults.planning.episode_steps == 50);
  const auto fixed =
      LoadSettings({.config_path = path, .listen = "", .store = "", .log_level = "", .policy = "static"});
  REQUIRE(fixed.ok());
  CHECK(fixed->coordinator.defaults.policy == "static");
  const auto missing = LoadSettings({.config_path = path + ".not", .listen = "", .store = "", .log_level = ""});
  CHECK(missing.status().code() == absl::StatusCode::kNotFound);
  CHECK(missing.status().message() == "configuration " + path + ".not: cannot be read");
}

TEST_CASE("an empty file leaves every setting at its default, a folder is no file", "[config]") {
  const std::string folder = std::getenv("TEST_TMPDIR"), path = folder + "/empty.json";
  std::ofstream(path).close();
  const auto settings = LoadSettings({.config_path = path, .listen = "", .store = "", .log_level = ""});
  REQUIRE(settings.ok());
  CHECK(settings->listen == "127.0.0.1:7400");
  CHECK(LoadSettings({.config_path = folder, .listen = "", .store = "", .log_level = ""}).status().message() ==
        "configuration " + folder + ": cannot be read");
}

TEST_CASE("stores of experts are configured in GB and by an absolute path", "[config]") {
  const auto settings =
      SettingsFrom(R"({"defaults": {"agent": {"pool_gb_per_host": 1.5, "snapshot_directory": "/x"}}})");
  REQUIRE(settings.ok());
  const AgentSettings& agent = settings->coordinator.defaults.agent;
  CHECK(agent.pool_bytes == 1'500'000'000);
  CHECK(agent.snapshot_directory == "/x");
  CHECK(agent.store_bytes_per_second == AgentSettings().store_bytes_per_second);
  for (const char* wrong :
       {R"("pool_gb_per_host": -1)", R"("pool_gb_per_host": 1000001)", R"("snapshot_directory": "relative")"}) {
    CAPTURE(wrong);
    CHECK_FALSE(SettingsFrom(std::string(R"({"defaults": {"agent": {)") + wrong + "}}}").ok());
  }
}

TEST_CASE("the effective configuration, read again, gives the same settings", "[config]") {
  const auto settings = SettingsFrom(R"({"listen_interval_ms": 7,
      "defaults": {"policy": "deepseek", "placement_horizon_ms": 86400000, "shares_min_gain": 0.125,
                   "decode_policy": "greedy", "layers_max": 3, "min_fluctuation": 0.01, "capacities": [1, 2],
                   "cost": {"per_expert": 0.5, "per_token": 0}, "freeze": ["daily 22:00-06:00"],
                   "guard": {"step_time_p99_max_us": 25000, "slowdown_max": 0.25, "window_ms": 500, "rest_ms": 0}, "pins": [{"layer": 1, "expert": 2, "rank": 3}]},
      "groups": {"b": {"window_ms": 20}, "a": {"agent": {"scrub_interval_ms": 0, "pool_gb_per_host": 0.25,
                                            "snapshot_directory": "/srv/x", "store_bytes_per_second_max": 9}}}})");
  REQUIRE(settings.ok());
  const std::string effective = EffectiveConfig(*settings);
  CHECK(effective.find('\n') == std::string::npos);
  const auto again = SettingsFrom(effective);
  REQUIRE(again.ok());
  CHECK(again->coordinator.defaults == settings->coordinator.defaults);
  CHECK(again->coordinator.groups == settings->coordinator.groups);
  CHECK(again->coordinator.listen_interval == absl::Milliseconds(7));
  CHECK(EffectiveConfig(*again) == effective);
}

TEST_CASE("what is open beyond loopback stops the start, unless it is wanted", "[config]") {
  const std::string tls = "tls_certificate: 'c' tls_key: 'k' ", open = "whoever reaches it could do everything";
  const auto refused = [&](const std::string& text) { return ErrorOf(text).find(open) != std::string::npos; };
  CHECK(refused("listen: '0.0.0.0:1'"));
  CHECK(refused("listen: '127.0.0.1:1' http_listen: '10.0.0.1:2'"));
  CHECK(refused(tls + "listen: '0.0.0.0:1'"));
  CHECK(ErrorOf(tls + "listen: '0.0.0.0:1'").find("without tls_client_ca or tokens") != std::string::npos);
  CHECK(ErrorOf(tls + "tls_client_ca: 'a' listen: '0.0.0.0:1'") == "accepted");
  CHECK(ErrorOf("trust_network: true listen: '0.0.0.0:1'") == "accepted");
  CHECK(ErrorOf("tls_client_ca: 'a'").find("tls_client_ca without tls_certificate") == 0);
}

TEST_CASE("tokens and limits are read, and wrong ones named", "[config]") {
  const std::string hash = runtime::HashToken("ek_x");
  const std::string good = "tokens { name: 'a' role: 'evenkeel://group/chat/rank/2' hash: '" + hash + "' }";
  const auto settings =
      SettingsFrom(good + "limits { agents_max: 2 watches_max: 3 message_bytes_max: 2000000 calls_per_second_max: 0 }");
  REQUIRE(settings.ok());
  const AccessSettings& access = settings->access;
  REQUIRE(access.tokens.size() == 1);
  CHECK(access.tokens[0].grant == Grant{Role::kAgent, "chat", RankId(2)});
  CHECK(access.tokens[0].hash.Fits("ek_x"));
  CHECK(access.agents_max == 2);
  CHECK(access.watches_max == 3);
  CHECK(access.message_bytes_max == 2'000'000);
  CHECK(access.calls_per_second_max == 0);
  CHECK(EffectiveConfig(*settings).find(hash) != std::string::npos);
  CHECK(ErrorOf(good + good) == "tokens.a: the name is there twice");
  CHECK(ErrorOf("tokens { role: 'evenkeel://viewer' }") == "tokens: one without a name");
  CHECK(ErrorOf("tokens { name: 'a' role: 'root' }").find("tokens.a.role: ") == 0);
  CHECK(ErrorOf("tokens { name: 'a' role: 'evenkeel://viewer' hash: 'secret' }").find("tokens.a.hash: ") == 0);
  CHECK(ErrorOf("limits { agents_max: 0 }").find("limits.agents_max is 0") == 0);
  CHECK(ErrorOf("limits { message_bytes_max: 10 }").find("limits.message_bytes_max is 10") == 0);
  CHECK(ErrorOf("limits { calls_per_second_max: 2000000 }").find("limits.calls_per_second_max is 2000000") == 0);
}

TEST_CASE("certificates are looked at before the start", "[config]") {
  const std::string path = std::string(std::getenv("TEST_TMPDIR")) + "/no.pem";
  ControllerSettings settings;
  CHECK(CheckCertificates(settings).ok());
  settings.tls_certificate = settings.tls_key = "/nowhere/c.pem";
  CHECK(CheckCertificates(settings).message() == "tls_certificate: cannot read /nowhere/c.pem");
  std::ofstream(path) << "no certificate";
  settings.tls_certificate = settings.tls_key = path;
  CHECK(CheckCertificates(settings).message() == "tls_certificate: no certificate in " + path);
}

}  // namespace
}  // namespace evenkeel::controller
