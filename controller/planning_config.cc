// SPDX-License-Identifier: Apache-2.0
#include "controller/planning_config.h"

#include <cmath>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "algos/policies/registry.h"
#include "proto/convert_common.h"
#include "proto/evenkeel/v1/config.pb.h"

namespace evenkeel::controller {
namespace {

using OptionsMap = google::protobuf::Map<std::string, double>;

// What a policy is called and told, and the fields that say so.
struct Named {
  std::string field, options_field;
  bool has = false;
  const std::string& name;
  const OptionsMap& options;
};

absl::Status ReadPolicy(const Named& given, std::string* name, PolicyOptions* options) {
  if (given.has && given.name != *name) {
    *name = given.name;
    options->clear();
  }
  for (const auto& [option, value] : given.options) (*options)[option] = value;
  if (name->empty()) {
    if (options->empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(given.options_field, ": ", given.field, " is not set"));
  }
  const absl::StatusOr<algos::NamedPolicy> policy = algos::FindPolicy(*name);
  if (!policy.ok()) return absl::InvalidArgumentError(absl::StrCat(given.field, ": ", policy.status().message()));
  algos::PolicyConfig config;
  config.options = *options;
  const absl::Status read = algos::ReadOptions(policy->name, policy->options, config).status();
  if (!read.ok()) return absl::InvalidArgumentError(absl::StrCat(given.options_field, ": ", read.message()));
  return absl::OkStatus();
}

struct Number {
  const char* name;
  double low, high;
  bool has;
  double value;
  double* target;
};

absl::Status ReadNumber(absl::string_view path, const Number& number) {
  if (!number.has) return absl::OkStatus();
  if (!(number.value >= number.low && number.value <= number.high)) {
    return proto::Bad(absl::StrCat(path, ".", number.name), number.value,
                      absl::StrCat(number.low, " to ", number.high));
  }
  *number.target = number.value;
  return absl::OkStatus();
}

struct Count {
  const char* name;
  uint64_t high;
  bool has;
  uint32_t value;
  int* target;
};

absl::Status ReadCountField(absl::string_view path, const Count& count) {
  if (!count.has) return absl::OkStatus();
  EVENKEEL_RETURN_IF_ERROR(proto::CheckRange(absl::StrCat(path, ".", count.name), count.value, 0, count.high));
  *count.target = static_cast<int>(count.value);
  return absl::OkStatus();
}

absl::Status ReadPins(absl::string_view path, const v1::GroupConfig& config, std::vector<algos::Pin>* pins) {
  if (config.pins().empty()) return absl::OkStatus();
  pins->clear();
  for (int i = 0; i < config.pins_size(); ++i) {
    const v1::PinConfig& pin = config.pins(i);
    const std::string field = absl::StrCat(path, ".pins[", i, "]");
    EVENKEEL_RETURN_IF_ERROR(proto::CheckRange(absl::StrCat(field, ".layer"), pin.layer(), 0, proto::kLayersMax - 1));
    EVENKEEL_RETURN_IF_ERROR(
        proto::CheckRange(absl::StrCat(field, ".expert"), pin.expert(), 0, proto::kExpertsMax - 1));
    EVENKEEL_RETURN_IF_ERROR(proto::CheckRange(absl::StrCat(field, ".rank"), pin.rank(), 0, proto::kRanksMax - 1));
    pins->push_back({.layer = LayerId(static_cast<int32_t>(pin.layer())),
                     .expert = ExpertId(static_cast<int32_t>(pin.expert())),
                     .rank = RankId(static_cast<int32_t>(pin.rank()))});
  }
  return absl::OkStatus();
}

absl::Status ReadCapacities(absl::string_view path, const v1::GroupConfig& config, std::vector<double>* capacities) {
  if (config.capacities().empty()) return absl::OkStatus();
  for (int i = 0; i < config.capacities_size(); ++i) {
    const double capacity = config.capacities(i);
    if (std::isfinite(capacity) && capacity > 0) continue;
    return proto::Bad(absl::StrCat(path, ".capacities[", i, "]"), capacity, "a number above 0");
  }
  capacities->assign(config.capacities().begin(), config.capacities().end());
  return absl::OkStatus();
}

absl::Status ReadCost(absl::string_view path, const v1::CostConfig& config, algos::RankCost* cost) {
  const std::string field = absl::StrCat(path, ".cost");
  for (const Number& number :
       {Number{"per_expert", 0, 1e18, config.has_per_expert(), config.per_expert(), &cost->per_expert},
        Number{"per_token", 0, 1e18, config.has_per_token(), config.per_token(), &cost->per_token}}) {
    EVENKEEL_RETURN_IF_ERROR(ReadNumber(field, number));
  }
  if (cost->per_expert > 0 || cost->per_token > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, ": per_expert and per_token are both 0"));
}

void WriteOptions(const PolicyOptions& options, OptionsMap* map) {
  for (const auto& [name, value] : options) (*map)[name] = value;
}

}  // namespace

absl::Status ReadPlanning(absl::string_view path, const v1::GroupConfig& c, std::string* policy,
                          PlanningSettings* settings) {
  PlanningSettings& s = *settings;
  const auto field = [&](absl::string_view name) { return absl::StrCat(path, ".", name); };
  EVENKEEL_RETURN_IF_ERROR(
      ReadPolicy({field("policy"), field("policy_options"), c.has_policy(), c.policy(), c.policy_options()}, policy,
                 &s.policy_options));
  if (policy->empty()) return absl::InvalidArgumentError(absl::StrCat(field("policy"), " is empty: a policy wanted"));
  EVENKEEL_RETURN_IF_ERROR(ReadPolicy({field("prefill_policy"), field("prefill_policy_options"), c.has_prefill_policy(),
                                       c.prefill_policy(), c.prefill_policy_options()},
                                      &s.prefill.name, &s.prefill.options));
  EVENKEEL_RETURN_IF_ERROR(ReadPolicy({field("decode_policy"), field("decode_policy_options"), c.has_decode_policy(),
                                       c.decode_policy(), c.decode_policy_options()},
                                      &s.decode.name, &s.decode.options));
  for (const Count& count :
       {Count{"episode_steps", 1'000'000'000, c.has_episode_steps(), c.episode_steps(), &s.episode_steps},
        Count{"placement_interval_steps", 1'000'000'000, c.has_placement_interval_steps(), c.placement_interval_steps(),
              &s.placement_interval_steps},
        Count{"layer_rest_windows", 100'000, c.has_layer_rest_windows(), c.layer_rest_windows(), &s.layer_rest_windows},
        Count{"layers_max", 4096, c.has_layers_max(), c.layers_max(), &s.layers_max},
        Count{"moves_per_layer_max", proto::kSlotsPerLayerMax, c.has_moves_per_layer_max(), c.moves_per_layer_max(),
              &s.moves_per_layer_max}}) {
    EVENKEEL_RETURN_IF_ERROR(ReadCountField(path, count));
  }
  for (const Number& number :
       {Number{"layer_imbalance_min", 1, 1000, c.has_layer_imbalance_min(), c.layer_imbalance_min(),
               &s.layer_imbalance_min},
        Number{"min_fluctuation", 0, 1, c.has_min_fluctuation(), c.min_fluctuation(), &s.min_fluctuation},
        Number{"layer_rest_rise", 0, 1000, c.has_layer_rest_rise(), c.layer_rest_rise(), &s.layer_rest_rise},
        Number{"layer_moves_per_100_windows", 0, 1'000'000, c.has_layer_moves_per_100_windows(),
               c.layer_moves_per_100_windows(), &s.layer_moves_per_100_windows}}) {
    EVENKEEL_RETURN_IF_ERROR(ReadNumber(path, number));
  }
  if (c.has_bytes_per_plan_max()) {
    EVENKEEL_RETURN_IF_ERROR(
        proto::CheckRange(field("bytes_per_plan_max"), c.bytes_per_plan_max(), 0, proto::kBytesMax));
    s.bytes_per_plan_max = c.bytes_per_plan_max();
  }
  if (c.has_num_expert_groups()) {
    EVENKEEL_RETURN_IF_ERROR(
        proto::CheckRange(field("num_expert_groups"), c.num_expert_groups(), 1, proto::kExpertsMax));
    s.num_expert_groups = static_cast<int>(c.num_expert_groups());
  }
  EVENKEEL_RETURN_IF_ERROR(ReadCapacities(path, c, &s.capacities));
  EVENKEEL_RETURN_IF_ERROR(ReadCost(path, c.cost(), &s.cost));
  const v1::SurviveConfig& survive = c.survive();
  for (const Count& count :
       {Count{"survive.ranks", proto::kRanksMax, survive.has_ranks(), survive.ranks(), &s.survive.ranks},
        Count{"survive.hosts", proto::kRanksMax, survive.has_hosts(), survive.hosts(), &s.survive.hosts}}) {
    EVENKEEL_RETURN_IF_ERROR(ReadCountField(path, count));
  }
  return ReadPins(path, c, &s.pins);
}

void WritePlanning(const PlanningSettings& s, v1::GroupConfig* c) {
  WriteOptions(s.policy_options, c->mutable_policy_options());
  c->set_prefill_policy(s.prefill.name);
  WriteOptions(s.prefill.options, c->mutable_prefill_policy_options());
  c->set_decode_policy(s.decode.name);
  WriteOptions(s.decode.options, c->mutable_decode_policy_options());
  c->set_episode_steps(static_cast<uint32_t>(s.episode_steps));
  c->set_placement_interval_steps(static_cast<uint32_t>(s.placement_interval_steps));
  c->set_layer_imbalance_min(s.layer_imbalance_min);
  c->set_min_fluctuation(s.min_fluctuation);
  c->set_layer_rest_windows(static_cast<uint32_t>(s.layer_rest_windows));
  c->set_layer_rest_rise(s.layer_rest_rise);
  c->set_layers_max(static_cast<uint32_t>(s.layers_max));
  c->set_moves_per_layer_max(static_cast<uint32_t>(s.moves_per_layer_max));
  c->set_layer_moves_per_100_windows(s.layer_moves_per_100_windows);
  c->set_bytes_per_plan_max(s.bytes_per_plan_max);
  c->set_num_expert_groups(static_cast<uint32_t>(s.num_expert_groups));
  for (double capacity : s.capacities) c->add_capacities(capacity);
  c->mutable_cost()->set_per_expert(s.cost.per_expert);
  c->mutable_cost()->set_per_token(s.cost.per_token);
  c->mutable_survive()->set_ranks(static_cast<uint32_t>(s.survive.ranks));
  c->mutable_survive()->set_hosts(static_cast<uint32_t>(s.survive.hosts));
  for (const algos::Pin& pin : s.pins) {
    v1::PinConfig* out = c->add_pins();
    out->set_layer(static_cast<uint32_t>(pin.layer.value()));
    out->set_expert(static_cast<uint32_t>(pin.expert.value()));
    out->set_rank(static_cast<uint32_t>(pin.rank.value()));
  }
}

}  // namespace evenkeel::controller
