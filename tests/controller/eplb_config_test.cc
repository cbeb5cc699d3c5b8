// SPDX-License-Identifier: Apache-2.0
#include "controller/eplb_config.h"

#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "proto/evenkeel/v1/config.pb.h"

namespace evenkeel::controller {
namespace {

struct Applied {
  v1::ControllerConfig config;
  std::vector<std::string> warnings;

  const v1::GroupConfig& group() const { return config.defaults(); }
  bool Warns(const std::string& part) const {
    for (const std::string& warning : warnings) {
      if (warning.find(part) != std::string::npos) return true;
    }
    return false;
  }
};

Applied Apply(const std::string& json) {
  Applied applied;
  const auto warnings = ApplyEplbConfig(json, &applied.config);
  INFO(warnings.status().ToString());
  REQUIRE(warnings.ok());
  applied.warnings = *warnings;
  return applied;
}

std::string Refused(const std::string& json) {
  v1::ControllerConfig config;
  return std::string(ApplyEplbConfig(json, &config).status().message());
}

TEST_CASE("vllm-ascend's example is taken, nested as its users write it", "[eplb_config]") {
  const Applied applied = Apply(R"({"additional-config": {"eplb_config": {
      "dynamic_eplb": true, "expert_heat_collection_interval": 4000, "algorithm_execution_interval": 150,
      "num_redundant_experts": 16, "eplb_policy_type": 3}}})");
  CHECK(applied.group().mode() == "full");
  CHECK(applied.group().episode_steps() == 4000);
  CHECK(applied.group().policy() == "flashlb");
  CHECK(applied.Warns("algorithm_execution_interval has no effect here: plans are taken"));
  CHECK(applied.Warns("num_redundant_experts has no effect here: the engine's"));
  CHECK(applied.warnings.size() == 2);
}

TEST_CASE("old names are taken with a warning, and with the new one refused", "[eplb_config]") {
  const Applied applied = Apply(R"({"eplb_config": {"num_iterations_eplb_update": 600}})");
  CHECK(applied.group().episode_steps() == 600);
  CHECK(applied.Warns("num_iterations_eplb_update is an old name of expert_heat_collection_interval"));
  CHECK(Refused(R"({"num_iterations_eplb_update": 600, "expert_heat_collection_interval": 600})") ==
        "eplb_config.expert_heat_collection_interval is given twice");
}

TEST_CASE("vLLM's keys are taken, intervals in steps as they are", "[eplb_config]") {
  const Applied applied = Apply(R"({"window_size": 1000, "step_interval": 3000, "policy": "default",
                                    "use_async": true, "log_balancedness": true, "communicator": "nixl"})");
  CHECK(applied.group().episode_steps() == 1000);
  CHECK(applied.group().placement_interval_steps() == 3000);
  CHECK(applied.group().policy() == "vllm");
  CHECK(applied.warnings.size() == 3);
}

TEST_CASE("FastDeploy's keys are taken", "[eplb_config]") {
  const Applied applied = Apply(R"({"enable_eplb": true, "redundant_experts_num": 8, "redundant_expert_api_user": "u",
      "redundant_expert_api_password": "p", "redundant_expert_eplb_strategy": "balance_intra_node",
      "redundant_expert_async_load_model_shmem_size_gb": 40, "moe_quant_type": "w4a8"})");
  CHECK_FALSE(applied.group().has_mode());
  CHECK(applied.group().policy() == "deepseek");
  CHECK(applied.group().agent().pool_gb_per_host() == 40);
  CHECK(applied.config.fastdeploy().user() == "u");
  CHECK(applied.config.fastdeploy().passwd() == "p");
  CHECK(Apply(R"({"enable_eplb": false, "dynamic_eplb": true})").group().mode() == "off");
}

TEST_CASE("recording, static maps and phases have their settings", "[eplb_config]") {
  CHECK(Apply(R"({"dynamic_eplb": false})").group().mode() == "record");
  CHECK(Apply(R"({"expert_map_record_path": "out.json"})").group().mode() == "shadow");
  const Applied map = Apply(R"({"expert_map_path": "in.json"})");
  CHECK(map.group().policy() == "static");
  CHECK(map.Warns("'keelctl map apply in.json'"));
  CHECK(Apply(R"({"eplb_heat_collection_stage": "decode"})").group().decode_policy() == "flex");
  CHECK(Apply(R"({"eplb_policy_type": 2, "load_collection_phase": "prefill"})").group().prefill_policy() ==
        "swift_balancer");
  CHECK_FALSE(Apply(R"({"load_collection_phase": "all"})").group().has_prefill_policy());
}

TEST_CASE("settings of ours stand beside, and go before", "[eplb_config]") {
  const Applied applied = Apply(R"({"window_size": 1000, "episode_steps": 7, "layers_max": 3, "mode": "shares",
                                    "agent": {"concurrent_moves_max": 2}})");
  CHECK(applied.group().episode_steps() == 7);
  CHECK(applied.group().layers_max() == 3);
  CHECK(applied.group().mode() == "shares");
  CHECK(applied.group().agent().concurrent_moves_max() == 2);
}

TEST_CASE("what is unknown, of the wrong kind or out of range is refused by name", "[eplb_config]") {
  CHECK(Refused(R"({"gate_eplb": true})") == "eplb_config.gate_eplb is not known");
  CHECK(Refused(R"({"window_size": 0})") == "eplb_config.window_size is 0: a whole number from 1 to 1e+09 wanted");
  CHECK(Refused(R"({"window_size": 1.5})").find("eplb_config.window_size is 1.5: ") == 0);
  CHECK(Refused(R"({"eplb_policy_type": 4})").find("eplb_config.eplb_policy_type is 4: ") == 0);
  CHECK(Refused(R"({"dynamic_eplb": "yes"})") == "eplb_config.dynamic_eplb is \"yes\": true or false wanted");
  CHECK(Refused(R"({"policy": "magic"})").find("eplb_config.policy is \"magic\": ") == 0);
  CHECK(Refused(R"({"eplb_heat_collection_stage": "both"})").find("all, prefill or decode") != std::string::npos);
  CHECK(Refused(R"({"agent": {"speed": 1}})").find("speed") != std::string::npos);
  CHECK(Refused(R"({"eplb_config": {}, "torchair_graph_config": {}})") ==
        "eplb-config has torchair_graph_config beside eplb_config: one of them wanted");
  CHECK(Refused("{") == "eplb-config is no JSON");
  CHECK(Refused("[1]") == "eplb-config is no JSON object");
}

}  // namespace
}  // namespace evenkeel::controller
