// SPDX-License-Identifier: Apache-2.0
//
// Expert: one expert's arithmetic, and the door through which a model reaches all of them.
//
// The model asks an ExpertBackend for the outputs of the chosen experts and adds them up itself, in top-k order. So
// a copy with all experts at hand and one whose experts are spread over ranks differ in the backend alone.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "engine/reference/config.h"
#include "engine/reference/kernel.h"
#include "engine/reference/safetensors.h"

namespace evenkeel::engine {

// One expert's weights in the order of ToPanels, expert_matrix_size() values each.
struct ExpertTensors {
  std::vector<float> gate;
  std::vector<float> up;
  std::vector<float> down;
};
struct ExpertView {
  const float* gate = nullptr;
  const float* up = nullptr;
  const float* down = nullptr;
};

absl::StatusOr<ExpertTensors> LoadExpert(const Safetensors& file, const ModelConfig& config, int layer, int expert);

// y[row] = down(silu(gate(x)) * up(x)), row r at y + r * hidden_size. `scratch` grows to what it needs.
void ComputeExpert(const ModelConfig& config, const ExpertView& expert, Rows x, float* y, std::vector<float>& scratch);

// The routed tokens of one layer of one step.
struct MoeBatch {
  int layer = 0;
  int num_tokens = 0;
  const float* x = nullptr;      // [num_tokens][hidden_size]
  const int32_t* ids = nullptr;  // [num_tokens][top_k], highest gate first
};

class ExpertBackend {
 public:
  virtual ~ExpertBackend() = default;
  // outputs[num_tokens][top_k][hidden_size]: each chosen expert's output, before its gate. On an error the step is to
  // be given up; nothing of it has changed.
  virtual absl::Status Run(const MoeBatch& batch, float* outputs) = 0;
};

// All experts in this process: the plain copy that others are compared with.
class DenseExperts final : public ExpertBackend {
 public:
  static absl::StatusOr<DenseExperts> Load(const Safetensors& file, const ModelConfig& config);

  absl::Status Run(const MoeBatch& batch, float* outputs) override;
  const ExpertTensors& expert(int layer, int expert) const;

 private:
  explicit DenseExperts(const ModelConfig& config) : config_(config) {}

  ModelConfig config_;
  std::vector<ExpertTensors> experts_;  // [num_layers][num_experts]
  // Of the running call: tokens sorted by expert, and their rows side by side.
  std::vector<int> order_;
  std::vector<float> gathered_, results_, scratch_;
};

}  // namespace evenkeel::engine
