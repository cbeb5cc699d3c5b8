// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/config.h"

#include <array>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "algos/base/status_macros.h"

namespace evenkeel::engine {
namespace {

using Json = nlohmann::json;

absl::Status Bad(absl::string_view what) { return absl::InvalidArgumentError(absl::StrCat("model config: ", what)); }

absl::StatusOr<int> ReadSize(const Json& config, const char* name, int unit) {
  const auto found = config.find(name);
  if (found == config.end() || !found->is_number_unsigned()) return Bad(absl::StrCat(name, " is not a whole number"));
  const uint64_t value = found->get<uint64_t>();
  if (value == 0 || value > 65536 || value % static_cast<uint64_t>(unit) != 0) {
    return Bad(absl::StrCat(name, " is ", value, "; needed is a multiple of ", unit, " up to 65536"));
  }
  return static_cast<int>(value);
}

absl::Status CheckForms(const Json& config) {
  const std::array<std::pair<const char*, Json>, 5> forms = {{{"hidden_act", "silu"},
                                                              {"norm_topk_prob", true},
                                                              {"shared_experts", 0},
                                                              {"tie_word_embeddings", false},
                                                              {"torch_dtype", "float16"}}};
  for (const auto& [name, value] : forms) {
    const auto found = config.find(name);
    if (found == config.end() || *found != value) {
      return Bad(
          absl::StrCat(name, " is ", found == config.end() ? "missing" : found->dump(), "; needed is ", value.dump()));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ParseConfig(const std::string& json) {
  const Json config = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (config.is_discarded() || !config.is_object()) return Bad("not a JSON object");
  EVENKEEL_RETURN_IF_ERROR(CheckForms(config));
  ModelConfig result;
  const auto type = config.find("model_type");
  if (type == config.end() || !type->is_string()) return Bad("model_type is not a string");
  result.model_type = type->get<std::string>();
  struct Field {
    const char* name;
    int unit;
    int* value;
  };
  for (const Field& field :
       {Field{"vocab_size", 16, &result.vocab_size}, Field{"hidden_size", 16, &result.hidden_size},
        Field{"num_hidden_layers", 1, &result.num_layers}, Field{"num_attention_heads", 1, &result.num_heads},
        Field{"head_dim", 16, &result.head_dim}, Field{"num_experts", 16, &result.num_experts},
        Field{"num_experts_per_tok", 1, &result.top_k}, Field{"moe_intermediate_size", 16, &result.expert_width},
        Field{"max_position_embeddings", 8, &result.num_positions_max}}) {
    EVENKEEL_ASSIGN_OR_RETURN(*field.value, ReadSize(config, field.name, field.unit));
  }
  if (result.num_heads * result.head_dim != result.hidden_size) return Bad("heads times head_dim is not hidden_size");
  if (config.value("num_key_value_heads", result.num_heads) != result.num_heads) return Bad("grouped heads");
  if (result.top_k > result.num_experts) return Bad("num_experts_per_tok exceeds num_experts");
  const auto theta = config.find("rope_theta"), eps = config.find("rms_norm_eps");
  if (theta == config.end() || !theta->is_number() || theta->get<double>() <= 1)
    return Bad("rope_theta is not above 1");
  if (eps == config.end() || !eps->is_number() || eps->get<double>() <= 0) return Bad("rms_norm_eps is not positive");
  result.rope_theta = theta->get<double>();
  result.rms_norm_eps = static_cast<float>(eps->get<double>());
  return result;
}

absl::StatusOr<ModelConfig> ReadConfig(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("open ", path, " failed"));
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return ParseConfig(text);
}

}  // namespace evenkeel::engine
