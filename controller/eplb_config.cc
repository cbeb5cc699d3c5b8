// SPDX-License-Identifier: Apache-2.0
#include "controller/eplb_config.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "algos/base/status_macros.h"
#include "algos/policies/registry.h"
#include "proto/evenkeel/v1/config.pb.h"

namespace evenkeel::controller {
namespace {

using Json = nlohmann::json;

enum class Kind { kSwitch, kCount, kNumber, kText };

struct Key {
  std::string_view name;
  std::string_view whose;
  Kind kind;
  double low, high;          // of counts and numbers
  std::string_view ours;     // the setting; empty: none
  std::string_view meaning;  // for people
};

// deploy/docs.py writes the table of docs/operator.md from these lines.
constexpr Key kKeys[] = {
    {"enable_eplb", "FastDeploy", Kind::kSwitch, 0, 0, "mode",
     "false: `off`; true changes nothing: `--enable-eplb` is the switch"},
    {"dynamic_eplb", "vllm-ascend", Kind::kSwitch, 0, 0, "mode", "true: `full`; false: `record`"},
    {"expert_map_record_path", "vllm-ascend", Kind::kText, 0, 0, "mode",
     "`shadow`; the file is written by `keelctl map save`"},
    {"expert_map_path", "vllm-ascend", Kind::kText, 0, 0, "policy",
     "`static`; the file is put in force by `keelctl map apply`"},
    {"eplb_policy_type", "vllm-ascend", Kind::kCount, 0, 3, "policy",
     "0 `random`, 1 `default_eplb`, 2 `swift_balancer`, 3 `flashlb`"},
    {"policy", "vLLM", Kind::kText, 0, 0, "policy", "`default` is `vllm`; else a policy of ours"},
    {"redundant_expert_eplb_strategy", "FastDeploy", Kind::kText, 0, 0, "policy",
     "`balance_intra_node` is `deepseek`; empty: as configured"},
    {"window_size", "vLLM", Kind::kCount, 1, 1e9, "episode_steps", "engine steps of an episode of load"},
    {"expert_heat_collection_interval", "vllm-ascend", Kind::kCount, 0, 1e9, "episode_steps", "as window_size"},
    {"step_interval", "vLLM", Kind::kCount, 1, 1e9, "placement_interval_steps", "and placement_interval_ms as ever"},
    {"eplb_heat_collection_stage", "vllm-ascend", Kind::kText, 0, 0, "prefill_policy, decode_policy",
     "`prefill` or `decode`: the policy plans on that phase's tokens while it costs more; `all`"},
    {"load_collection_phase", "vllm-ascend", Kind::kText, 0, 0, "prefill_policy, decode_policy",
     "as eplb_heat_collection_stage"},
    {"redundant_expert_async_load_model_shmem_size_gb", "FastDeploy", Kind::kNumber, 0, 1e6, "agent.pool_gb_per_host",
     "0: no pool"},
    {"redundant_expert_api_user", "FastDeploy", Kind::kText, 0, 0, "fastdeploy.user", "what requests must carry"},
    {"redundant_expert_api_password", "FastDeploy", Kind::kText, 0, 0, "fastdeploy.passwd", "likewise"},
    {"num_redundant_experts", "vLLM, vllm-ascend", Kind::kCount, 0, 1048576, "",
     "the engine's: its slots per rank say it"},
    {"redundant_experts_num", "FastDeploy", Kind::kCount, 0, 1048576, "", "the engine's: its slots per rank say it"},
    {"use_async", "vLLM", Kind::kSwitch, 0, 0, "", "experts always move while the group serves"},
    {"log_balancedness", "vLLM", Kind::kSwitch, 0, 0, "", "every operation logs it; metrics tell it at any time"},
    {"log_balancedness_interval", "vLLM", Kind::kCount, 1, 1e9, "", "as log_balancedness"},
    {"communicator", "vLLM", Kind::kText, 0, 0, "", "agents choose for each pair; `agent.transport` forces one"},
    {"algorithm_execution_interval", "vllm-ascend", Kind::kCount, 0, 1e9, "", "plans are taken when they are there"},
    {"redundant_expert_dump_workload_interval", "FastDeploy", Kind::kCount, 1, 1e9, "",
     "`keelctl record` writes loads"},
    {"redundant_expert_meta_dir", "FastDeploy", Kind::kText, 0, 0, "", "`store` keeps what must be kept"},
    {"redundant_expert_ip_shm_size", "FastDeploy", Kind::kCount, 0, 1e9, "", "agents attach by themselves"},
    {"redundant_expert_enable_schedule_cordon", "FastDeploy", Kind::kSwitch, 0, 0, "",
     "no rank stops serving while experts move"},
    {"model_use_safetensors", "FastDeploy", Kind::kSwitch, 0, 0, "",
     "weights come from other ranks, a pool or snapshots"},
    {"model_use_offline_quant", "FastDeploy", Kind::kSwitch, 0, 0, "", "the engine's"},
    {"moe_quant_type", "FastDeploy", Kind::kText, 0, 0, "", "the engine's: tensors are moved as they are registered"},
};

struct OldName {
  std::string_view old_name;
  std::string_view name;
};
constexpr OldName kOldNames[] = {
    {"num_iterations_eplb_update", "expert_heat_collection_interval"},
    {"num_wait_worker_iterations", "algorithm_execution_interval"},
    {"init_redundancy_expert", "num_redundant_experts"},
    {"eplb_window_size", "window_size"},
    {"eplb_step_interval", "step_interval"},
    {"eplb_log_balancedness", "log_balancedness"},
};

absl::Status Bad(std::string_view name, const Json& value, std::string_view wanted) {
  return absl::InvalidArgumentError(absl::StrCat("eplb_config.", std::string(name), " is ",
                                                 value.dump(-1, ' ', false, Json::error_handler_t::replace), ": ",
                                                 std::string(wanted), " wanted"));
}

absl::Status CheckKind(const Key& key, const Json& value) {
  switch (key.kind) {
    case Kind::kSwitch:
      return value.is_boolean() ? absl::OkStatus() : Bad(key.name, value, "true or false");
    case Kind::kText:
      return value.is_string() ? absl::OkStatus() : Bad(key.name, value, "a text");
    case Kind::kCount:
    case Kind::kNumber:
      break;
  }
  const bool is_number = key.kind == Kind::kCount ? value.is_number_integer() : value.is_number();
  if (is_number && value.get<double>() >= key.low && value.get<double>() <= key.high) return absl::OkStatus();
  return Bad(key.name, value,
             absl::StrCat(key.kind == Kind::kCount ? "a whole number from " : "", key.low, " to ", key.high));
}

bool IsWrapper(const std::string& name) {
  return name == "additional-config" || name == "additional_config" || name == "eplb_config";
}

// The object that holds the keys.
absl::StatusOr<Json> Unwrap(Json json) {
  std::string path = "eplb-config";
  while (json.is_object()) {
    std::string inner;
    for (const auto& [name, value] : json.items()) {
      if (IsWrapper(name)) inner = name;
    }
    if (inner.empty()) return json;
    for (const auto& [name, value] : json.items()) {
      if (name == inner) continue;
      return absl::InvalidArgumentError(absl::StrCat(path, " has ", name, " beside ", inner, ": one of them wanted"));
    }
    path = inner;
    Json next = json[inner];
    json = std::move(next);
  }
  return absl::InvalidArgumentError(absl::StrCat(path, " is no JSON object"));
}

class Applier {
 public:
  explicit Applier(v1::ControllerConfig* config) : config_(*config), group_(*config->mutable_defaults()) {}

  absl::Status Apply(const Json& keys) {
    Json ours = Json::object();
    for (const auto& [name, value] : keys.items()) {
      const auto old = std::ranges::find(kOldNames, name, &OldName::old_name);
      const std::string_view current = old == std::end(kOldNames) ? std::string_view(name) : old->name;
      if (old != std::end(kOldNames)) {
        warnings_.push_back(absl::StrCat("eplb_config.", name, " is an old name of ", std::string(old->name)));
      }
      const auto key = std::ranges::find(kKeys, current, &Key::name);
      if (key == std::end(kKeys)) {
        if (v1::GroupConfig::descriptor()->FindFieldByName(name) == nullptr) {
          return absl::InvalidArgumentError(absl::StrCat("eplb_config.", name, " is not known"));
        }
        ours[name] = value;
        continue;
      }
      EVENKEEL_RETURN_IF_ERROR(CheckKind(*key, value));
      if (!values_.emplace(std::string(current), value).second) {
        return absl::InvalidArgumentError(absl::StrCat("eplb_config.", std::string(current), " is given twice"));
      }
      if (key->ours.empty()) {
        warnings_.push_back(absl::StrCat("eplb_config.", name, " has no effect here: ", std::string(key->meaning)));
      }
    }
    EVENKEEL_RETURN_IF_ERROR(Policy());
    EVENKEEL_RETURN_IF_ERROR(Phases());
    Modes();
    Intervals();
    Rest();
    return Ours(ours);
  }

  std::vector<std::string> TakeWarnings() { return std::move(warnings_); }

 private:
  const Json* Get(std::string_view name) const {
    const auto found = values_.find(name);
    return found == values_.end() ? nullptr : &found->second;
  }

  absl::Status Policy() {
    if (const Json* type = Get("eplb_policy_type")) {
      EVENKEEL_ASSIGN_OR_RETURN(const algos::NamedPolicy policy, algos::FindPolicy(absl::StrCat(type->get<int>())));
      group_.set_policy(std::string(policy.name));
    }
    if (const Json* strategy = Get("redundant_expert_eplb_strategy"); strategy != nullptr && *strategy != "") {
      if (*strategy != "balance_intra_node") {
        return Bad("redundant_expert_eplb_strategy", *strategy, "balance_intra_node or nothing");
      }
      group_.set_policy("deepseek");
    }
    if (const Json* name = Get("policy")) {
      const std::string policy = *name == "default" ? "vllm" : name->get<std::string>();
      if (!algos::FindPolicy(policy).ok()) return Bad("policy", *name, "default or a policy of 'keelctl policies'");
      group_.set_policy(policy);
    }
    if (const Json* path = Get("expert_map_path")) {
      group_.set_policy("static");
      warnings_.push_back(
          absl::StrCat("eplb_config.expert_map_path: policy static keeps what groups hold; 'keelctl map "
                       "apply ",
                       path->get<std::string>(), "' puts them on the file's placements"));
    }
    return absl::OkStatus();
  }

  absl::Status Phases() {
    for (const char* name : {"eplb_heat_collection_stage", "load_collection_phase"}) {
      const Json* phase = Get(name);
      if (phase == nullptr || *phase == "all") continue;
      const std::string policy = group_.has_policy() ? group_.policy() : "flex";
      if (*phase == "prefill") {
        group_.set_prefill_policy(policy);
      } else if (*phase == "decode") {
        group_.set_decode_policy(policy);
      } else {
        return Bad(name, *phase, "all, prefill or decode");
      }
    }
    return absl::OkStatus();
  }

  void Modes() {
    if (const Json* dynamic = Get("dynamic_eplb")) group_.set_mode(dynamic->get<bool>() ? "full" : "record");
    if (Get("expert_map_record_path") != nullptr) group_.set_mode("shadow");
    if (const Json* enabled = Get("enable_eplb"); enabled != nullptr && !enabled->get<bool>()) group_.set_mode("off");
  }

  void Intervals() {
    for (const char* name : {"window_size", "expert_heat_collection_interval"}) {
      if (const Json* steps = Get(name)) group_.set_episode_steps(steps->get<uint32_t>());
    }
    if (const Json* steps = Get("step_interval")) group_.set_placement_interval_steps(steps->get<uint32_t>());
  }

  void Rest() {
    if (const Json* gigabytes = Get("redundant_expert_async_load_model_shmem_size_gb")) {
      group_.mutable_agent()->set_pool_gb_per_host(gigabytes->get<double>());
    }
    if (const Json* user = Get("redundant_expert_api_user")) {
      config_.mutable_fastdeploy()->set_user(user->get<std::string>());
    }
    if (const Json* password = Get("redundant_expert_api_password")) {
      config_.mutable_fastdeploy()->set_passwd(password->get<std::string>());
    }
  }

  // Fields of GroupConfig by their own names, which go before all others.
  absl::Status Ours(const Json& ours) {
    v1::GroupConfig given;
    const auto parsed = google::protobuf::util::JsonStringToMessage(ours.dump(-1, ' ', true), &given);
    if (!parsed.ok()) return absl::InvalidArgumentError(absl::StrCat("eplb_config: ", std::string(parsed.message())));
    group_.MergeFrom(given);
    return absl::OkStatus();
  }

  v1::ControllerConfig& config_;
  v1::GroupConfig& group_;
  std::map<std::string, Json, std::less<>> values_;
  std::vector<std::string> warnings_;
};

}  // namespace

absl::StatusOr<std::vector<std::string>> ApplyEplbConfig(const std::string& json, v1::ControllerConfig* config) {
  Json parsed = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return absl::InvalidArgumentError("eplb-config is no JSON");
  EVENKEEL_ASSIGN_OR_RETURN(const Json keys, Unwrap(std::move(parsed)));
  Applier applier(config);
  EVENKEEL_RETURN_IF_ERROR(applier.Apply(keys));
  return applier.TakeWarnings();
}

}  // namespace evenkeel::controller
