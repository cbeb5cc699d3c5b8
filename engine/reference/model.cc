// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/model.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"
#include "algos/base/status_macros.h"
#include "engine/reference/kernel.h"

namespace evenkeel::engine {
namespace {

// Adds b to a, value by value.
void Accumulate(const std::vector<float>& b, size_t size, std::vector<float>& a) {
  for (size_t i = 0; i < size; ++i) a[i] += b[i];
}

absl::StatusOr<std::vector<float>> ReadPanels(const Safetensors& file, const std::string& name, int out, int in) {
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<float> matrix, file.Read(name, {out, in}));
  return ToPanels(matrix, out, in);
}

}  // namespace

KvCache::KvCache(const ModelConfig& config, int num_positions)
    : capacity_((num_positions + 7) / 8 * 8), num_heads_(config.num_heads), head_dim_(config.head_dim) {
  EVENKEEL_CHECK(num_positions > 0 && num_positions <= config.num_positions_max);
  const size_t size = Offset(config.num_layers, 0);
  keys_.resize(size);
  values_.resize(size);
}

size_t KvCache::Offset(int layer, int head) const {
  return static_cast<size_t>(layer * num_heads_ + head) * static_cast<size_t>(capacity_ * head_dim_);
}
float* KvCache::keys(int layer, int head) { return keys_.data() + Offset(layer, head); }
float* KvCache::values(int layer, int head) { return values_.data() + Offset(layer, head); }

absl::StatusOr<Model> Model::Load(const Safetensors& file, const ModelConfig& config) {
  Model model;
  model.config_ = config;
  const int hidden = config.hidden_size;
  EVENKEEL_ASSIGN_OR_RETURN(model.embedding_, file.Read("model.embed_tokens.weight", {config.vocab_size, hidden}));
  EVENKEEL_ASSIGN_OR_RETURN(model.norm_, file.Read("model.norm.weight", {hidden}));
  EVENKEEL_ASSIGN_OR_RETURN(model.lm_head_, ReadPanels(file, "lm_head.weight", config.vocab_size, hidden));
  for (int i = 0; i < config.num_layers; ++i) {
    const std::string prefix = absl::StrCat("model.layers.", i, ".");
    Layer layer;
    EVENKEEL_ASSIGN_OR_RETURN(layer.input_norm, file.Read(prefix + "input_layernorm.weight", {hidden}));
    EVENKEEL_ASSIGN_OR_RETURN(layer.post_norm, file.Read(prefix + "post_attention_layernorm.weight", {hidden}));
    EVENKEEL_ASSIGN_OR_RETURN(layer.q, ReadPanels(file, prefix + "self_attn.q_proj.weight", hidden, hidden));
    EVENKEEL_ASSIGN_OR_RETURN(layer.k, ReadPanels(file, prefix + "self_attn.k_proj.weight", hidden, hidden));
    EVENKEEL_ASSIGN_OR_RETURN(layer.v, ReadPanels(file, prefix + "self_attn.v_proj.weight", hidden, hidden));
    EVENKEEL_ASSIGN_OR_RETURN(layer.o, ReadPanels(file, prefix + "self_attn.o_proj.weight", hidden, hidden));
    EVENKEEL_ASSIGN_OR_RETURN(layer.router, ReadPanels(file, prefix + "mlp.gate.weight", config.num_experts, hidden));
    model.layers_.push_back(std::move(layer));
  }
  const int half = config.head_dim / 2;
  for (int position = 0; position < config.num_positions_max; ++position) {
    for (int j = 0; j < half; ++j) {
      const double angle = position * std::pow(config.rope_theta, -2.0 * j / config.head_dim);
      model.cosines_.push_back(static_cast<float>(std::cos(angle)));
      model.sines_.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  return model;
}

void Model::Rotate(float* heads, int position) const {
  const int half = config_.head_dim / 2;
  const float* cosine = &cosines_[static_cast<size_t>(position * half)];
  const float* sine = &sines_[static_cast<size_t>(position * half)];
  for (int head = 0; head < config_.num_heads; ++head, heads += config_.head_dim) {
    for (int j = 0; j < half; ++j) {
      const float a = heads[j], b = heads[j + half];
      heads[j] = a * cosine[j] - b * sine[j];
      heads[j + half] = b * cosine[j] + a * sine[j];
    }
  }
}

void Model::ChooseExperts(const float* logits, int32_t* ids, float* gates) const {
  const auto higher = [logits](int32_t a, int32_t b) { return logits[a] > logits[b]; };
  int count = 0;
  for (int32_t expert = 0; expert < config_.num_experts; ++expert) {
    // Insertion keeps the lower id first among equals.
    int at = count;
    while (at > 0 && higher(expert, ids[at - 1])) --at;
    if (at == config_.top_k) continue;
    if (count < config_.top_k) ++count;
    for (int i = count - 1; i > at; --i) ids[i] = ids[i - 1];
    ids[at] = expert;
  }
  float sum = 0;
  for (int i = 0; i < config_.top_k; ++i) sum += gates[i] = Exponential(logits[ids[i]] - logits[ids[0]]);
  for (int i = 0; i < config_.top_k; ++i) gates[i] /= sum;
}

void Model::Attention(const Layer& layer, int layer_idx, std::span<const Row> rows, Workspace& w) const {
  const int hidden = config_.hidden_size, dim = config_.head_dim;
  const Rows x{w.normed.data(), static_cast<int>(rows.size()), hidden};
  Linear(layer.q.data(), hidden, hidden, x, w.q.data(), hidden);
  Linear(layer.k.data(), hidden, hidden, x, w.k.data(), hidden);
  Linear(layer.v.data(), hidden, hidden, x, w.v.data(), hidden);
  for (size_t r = 0; r < rows.size(); ++r) {
    const size_t first = r * static_cast<size_t>(hidden);
    const int position = rows[r].position, capacity = rows[r].cache->capacity();
    Rotate(&w.q[first], position);
    Rotate(&w.k[first], position);
    for (int head = 0; head < config_.num_heads; ++head) {
      float* keys = rows[r].cache->keys(layer_idx, head) + position;
      const float* k = &w.k[first] + head * dim;
      for (int d = 0; d < dim; ++d) keys[d * capacity] = k[d];
      std::copy_n(&w.v[first] + head * dim, dim, rows[r].cache->values(layer_idx, head) + position * dim);
    }
  }
  for (size_t r = 0; r < rows.size(); ++r) {
    const size_t first = r * static_cast<size_t>(hidden);
    KvCache& cache = *rows[r].cache;
    for (int head = 0; head < config_.num_heads; ++head) {
      Attend({.query = &w.q[first] + head * dim,
              .keys = cache.keys(layer_idx, head),
              .values = cache.values(layer_idx, head),
              .head_dim = dim,
              .capacity = cache.capacity(),
              .position = rows[r].position,
              .scores = w.scores.data()},
             &w.attended[first] + head * dim);
    }
  }
  Linear(layer.o.data(), hidden, hidden, {w.attended.data(), x.rows, hidden}, w.projected.data(), hidden);
}

absl::Status Model::Forward(std::span<const Row> rows, ExpertBackend& experts, Workspace& w, float* logits) const {
  const int n = static_cast<int>(rows.size()), hidden = config_.hidden_size, top_k = config_.top_k;
  const size_t width = static_cast<size_t>(hidden), size = rows.size() * width;
  const size_t copies = rows.size() * static_cast<size_t>(top_k);
  for (auto* values : {&w.x, &w.normed, &w.q, &w.k, &w.v, &w.attended, &w.projected}) {
    if (values->size() < size) values->resize(size);
  }
  w.router.resize(rows.size() * static_cast<size_t>(config_.num_experts));
  w.ids.resize(copies);
  w.gates.resize(copies);
  w.outputs.resize(copies * width);
  w.scores.resize(static_cast<size_t>(config_.num_positions_max));
  for (size_t r = 0; r < rows.size(); ++r) {
    EVENKEEL_CHECK(rows[r].position >= 0 && rows[r].position < rows[r].cache->capacity());
    std::copy_n(&embedding_[rows[r].byte * width], width, &w.x[r * width]);
  }
  const auto norm = [&](const std::vector<float>& weight) {
    for (size_t r = 0; r < rows.size(); ++r) {
      RmsNorm(&w.x[r * width], weight.data(), hidden, config_.rms_norm_eps, &w.normed[r * width]);
    }
  };
  for (int i = 0; i < config_.num_layers; ++i) {
    const Layer& layer = layers_[static_cast<size_t>(i)];
    norm(layer.input_norm);
    Attention(layer, i, rows, w);
    Accumulate(w.projected, size, w.x);
    norm(layer.post_norm);
    Linear(layer.router.data(), hidden, config_.num_experts, {w.normed.data(), n, hidden}, w.router.data(),
           config_.num_experts);
    for (size_t r = 0; r < rows.size(); ++r) {
      ChooseExperts(&w.router[r * static_cast<size_t>(config_.num_experts)], &w.ids[r * static_cast<size_t>(top_k)],
                    &w.gates[r * static_cast<size_t>(top_k)]);
    }
    EVENKEEL_RETURN_IF_ERROR(
        experts.Run({.layer = i, .num_tokens = n, .x = w.normed.data(), .ids = w.ids.data()}, w.outputs.data()));
    for (size_t copy = 0; copy < copies; ++copy) {
      float* x = &w.x[copy / static_cast<size_t>(top_k) * width];
      const float* y = &w.outputs[copy * width];
      for (size_t d = 0; d < width; ++d) x[d] += w.gates[copy] * y[d];
    }
  }
  norm(norm_);
  Linear(lm_head_.data(), hidden, config_.vocab_size, {w.normed.data(), n, hidden}, logits, config_.vocab_size);
  return absl::OkStatus();
}

uint8_t Greedy(std::span<const float> logits) {
  return static_cast<uint8_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace evenkeel::engine
