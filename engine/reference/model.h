// SPDX-License-Identifier: Apache-2.0
//
// Model: TinyMoE's forward pass over batches of bytes, with its experts behind an ExpertBackend.
//
// A row is one byte of one sequence at its position; its keys and values join the sequence's cache. A batch may hold
// rows of any sequences, several of one sequence in rising order of position. Each row's logits depend on its own
// sequence alone, to the last bit, whatever else is in the batch.
//
// Threads:   Model is constant and shared; a Workspace and a KvCache belong to one call at a time.
// Limits:    positions below KvCache's capacity.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "engine/reference/config.h"
#include "engine/reference/expert.h"
#include "engine/reference/safetensors.h"

namespace evenkeel::engine {

// Keys and values of one sequence. A position may be written again (a step that is retried).
class KvCache {
 public:
  // Requires: num_positions at most num_positions_max.
  KvCache(const ModelConfig& config, int num_positions);

  int capacity() const { return capacity_; }  // num_positions or a little more
  float* keys(int layer, int head);           // [head_dim][capacity]
  float* values(int layer, int head);         // [capacity][head_dim]

 private:
  size_t Offset(int layer, int head) const;

  int capacity_, num_heads_, head_dim_;
  std::vector<float> keys_, values_;
};

class Model {
 public:
  struct Row {
    KvCache* cache = nullptr;
    int position = 0;
    uint8_t byte = 0;
  };
  // Memory between calls, so that steps allocate nothing once warm.
  struct Workspace {
    std::vector<float> x, normed, q, k, v, attended, projected, router, gates, outputs, scores;
    std::vector<int32_t> ids;
  };

  // Everything but the experts.
  static absl::StatusOr<Model> Load(const Safetensors& file, const ModelConfig& config);

  const ModelConfig& config() const { return config_; }

  // logits[rows.size()][vocab_size] after reading each row. Errors are those of `experts`.
  absl::Status Forward(std::span<const Row> rows, ExpertBackend& experts, Workspace& workspace, float* logits) const;

 private:
  struct Layer {
    std::vector<float> input_norm, q, k, v, o, post_norm, router;
  };

  Model() = default;
  void Attention(const Layer& layer, int layer_idx, std::span<const Row> rows, Workspace& w) const;
  void Rotate(float* heads, int position) const;
  void ChooseExperts(const float* logits, int32_t* ids, float* gates) const;

  ModelConfig config_;
  std::vector<float> embedding_, norm_, lm_head_;
  std::vector<float> cosines_, sines_;  // [position][head_dim / 2]
  std::vector<Layer> layers_;
};

// The next byte of greedy decoding; ties go to the lowest.
uint8_t Greedy(std::span<const float> logits);

}  // namespace evenkeel::engine
