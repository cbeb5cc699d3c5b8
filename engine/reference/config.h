// SPDX-License-Identifier: Apache-2.0
//
// ModelConfig: the sizes of a TinyMoE model, from its config.json.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace evenkeel::engine {

struct ModelConfig {
  std::string model_type;
  int vocab_size = 0;
  int hidden_size = 0;
  int num_layers = 0;
  int num_heads = 0;
  int head_dim = 0;
  int num_experts = 0;
  int top_k = 0;
  int expert_width = 0;
  int num_positions_max = 0;
  double rope_theta = 0;
  float rms_norm_eps = 0;

  // Values of one expert: gate and up [expert_width, hidden_size], down [hidden_size, expert_width].
  int expert_matrix_size() const { return hidden_size * expert_width; }

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

// Errors: kInvalidArgument, with the field that is missing, out of range or of a form that this engine does not have.
absl::StatusOr<ModelConfig> ParseConfig(const std::string& json);
absl::StatusOr<ModelConfig> ReadConfig(const std::string& path);

}  // namespace evenkeel::engine
