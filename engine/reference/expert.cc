// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/expert.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"

namespace evenkeel::engine {

absl::StatusOr<ExpertTensors> LoadExpert(const Safetensors& file, const ModelConfig& config, int layer, int expert) {
  const std::string prefix = absl::StrCat("model.layers.", layer, ".mlp.experts.", expert, ".");
  const int hidden = config.hidden_size, width = config.expert_width;
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<float> gate, file.Read(prefix + "gate_proj.weight", {width, hidden}));
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<float> up, file.Read(prefix + "up_proj.weight", {width, hidden}));
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<float> down, file.Read(prefix + "down_proj.weight", {hidden, width}));
  return ExpertTensors{ToPanels(gate, width, hidden), ToPanels(up, width, hidden), ToPanels(down, hidden, width)};
}

void ComputeExpert(const ModelConfig& config, const ExpertView& expert, Rows x, float* y, std::vector<float>& scratch) {
  const int width = config.expert_width;
  const size_t values = static_cast<size_t>(x.rows) * static_cast<size_t>(width);
  if (scratch.size() < 2 * values) scratch.resize(2 * values);
  float* gate = scratch.data();
  float* up = gate + values;
  Linear(expert.gate, config.hidden_size, width, x, gate, width);
  Linear(expert.up, config.hidden_size, width, x, up, width);
  SiluMultiply(gate, up, static_cast<int>(values));
  Linear(expert.down, width, config.hidden_size, Rows{gate, x.rows, width}, y, config.hidden_size);
}

absl::StatusOr<DenseExperts> DenseExperts::Load(const Safetensors& file, const ModelConfig& config) {
  DenseExperts dense(config);
  for (int layer = 0; layer < config.num_layers; ++layer) {
    for (int expert = 0; expert < config.num_experts; ++expert) {
      EVENKEEL_ASSIGN_OR_RETURN(ExpertTensors tensors, LoadExpert(file, config, layer, expert));
      dense.experts_.push_back(std::move(tensors));
    }
  }
  return dense;
}

const ExpertTensors& DenseExperts::expert(int layer, int expert) const {
  return experts_[static_cast<size_t>(layer) * static_cast<size_t>(config_.num_experts) + static_cast<size_t>(expert)];
}

absl::Status DenseExperts::Run(const MoeBatch& batch, float* outputs) {
  const size_t hidden = static_cast<size_t>(config_.hidden_size);
  const int copies = batch.num_tokens * config_.top_k;
  order_.resize(static_cast<size_t>(copies));
  for (int i = 0; i < copies; ++i) order_[static_cast<size_t>(i)] = i;
  std::stable_sort(order_.begin(), order_.end(), [&](int a, int b) { return batch.ids[a] < batch.ids[b]; });
  gathered_.resize(order_.size() * hidden);
  results_.resize(order_.size() * hidden);
  for (size_t i = 0; i < order_.size(); ++i) {
    std::copy_n(batch.x + static_cast<size_t>(order_[i] / config_.top_k) * hidden, hidden, &gathered_[i * hidden]);
  }
  for (size_t first = 0; first < order_.size();) {
    const int32_t id = batch.ids[order_[first]];
    size_t last = first;
    while (last < order_.size() && batch.ids[order_[last]] == id) ++last;
    const ExpertTensors& weights = expert(batch.layer, id);
    ComputeExpert(config_, {weights.gate.data(), weights.up.data(), weights.down.data()},
                  Rows{&gathered_[first * hidden], static_cast<int>(last - first), config_.hidden_size},
                  &results_[first * hidden], scratch_);
    first = last;
  }
  for (size_t i = 0; i < order_.size(); ++i) {
    std::copy_n(&results_[i * hidden], hidden, outputs + static_cast<size_t>(order_[i]) * hidden);
  }
  return absl::OkStatus();
}

}  // namespace evenkeel::engine
