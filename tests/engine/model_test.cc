// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "catch2/catch.hpp"
#include "nlohmann/json.hpp"

#include "algos/base/rng.h"
#include "engine/reference/config.h"
#include "engine/reference/expert.h"
#include "engine/reference/safetensors.h"

namespace evenkeel::engine {
namespace {

const char kModelDir[] = "engine/reference/tinymoe";

// Passes calls on and keeps the chosen experts, [layer][token][top_k].
class Recorder final : public ExpertBackend {
 public:
  explicit Recorder(ExpertBackend& inner, const ModelConfig& config) : inner_(inner), config_(config) {}
  absl::Status Run(const MoeBatch& batch, float* outputs) override {
    if (experts.size() <= static_cast<size_t>(batch.layer)) experts.resize(static_cast<size_t>(batch.layer) + 1);
    for (int t = 0; t < batch.num_tokens; ++t) {
      const int32_t* ids = batch.ids + t * config_.top_k;
      experts[static_cast<size_t>(batch.layer)].emplace_back(ids, ids + config_.top_k);
    }
    return inner_.Run(batch, outputs);
  }
  std::vector<std::vector<std::vector<int>>> experts;

 private:
  ExpertBackend& inner_;
  ModelConfig config_;
};

struct Loaded {
  ModelConfig config;
  std::unique_ptr<Model> model;
  std::unique_ptr<DenseExperts> dense;
};

Loaded& TinyMoe() {
  static Loaded loaded = [] {
    const std::string dir = kModelDir;
    Loaded result;
    result.config = ReadConfig(dir + "/config.json").value();
    const Safetensors file = Safetensors::ReadFile(dir + "/model.safetensors").value();
    result.model = std::make_unique<Model>(Model::Load(file, result.config).value());
    result.dense = std::make_unique<DenseExperts>(DenseExperts::Load(file, result.config).value());
    return result;
  }();
  return loaded;
}

std::vector<float> Prefill(const std::vector<uint8_t>& bytes, KvCache& cache, ExpertBackend& experts, int first = 0) {
  std::vector<Model::Row> rows;
  for (size_t i = 0; i < bytes.size(); ++i) rows.push_back({&cache, first + static_cast<int>(i), bytes[i]});
  std::vector<float> logits(bytes.size() * 256);
  Model::Workspace workspace;
  REQUIRE(TinyMoe().model->Forward(rows, experts, workspace, logits.data()).ok());
  return logits;
}

std::span<const float> LogitsAt(const std::vector<float>& logits, size_t row) {
  return std::span(logits).subspan(row * 256, 256);
}

TEST_CASE("the model writes what golden.json says, its logits within 1e-3", "[model]") {
  std::ifstream file(std::string(kModelDir) + "/golden.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  REQUIRE(golden["prompts"].size() == 8);
  for (const nlohmann::json& prompt : golden["prompts"]) {
    CAPTURE(prompt["domain"].get<std::string>(), prompt["offset"].get<int>());
    const auto tokens = prompt["tokens"].get<std::vector<uint8_t>>();
    const auto greedy = prompt["greedy"].get<std::vector<uint8_t>>();
    KvCache cache(TinyMoe().config, static_cast<int>(tokens.size() + greedy.size()));
    Recorder recorder(*TinyMoe().dense, TinyMoe().config);
    std::vector<float> logits = Prefill(tokens, cache, recorder);
    CHECK(recorder.experts == prompt["experts"].get<std::vector<std::vector<std::vector<int>>>>());
    for (size_t i = 0; i < tokens.size(); ++i) {
      CHECK(static_cast<int>(Greedy(LogitsAt(logits, i))) == prompt["top1"][i].get<int>());
    }
    const auto expected = prompt["last_logits"].get<std::vector<float>>();
    for (size_t i = 0; i < 256; ++i) {
      REQUIRE(std::abs(logits[(tokens.size() - 1) * 256 + i] - expected[i]) < 1e-3f);
    }
    std::vector<uint8_t> written;
    while (written.size() < greedy.size()) {
      written.push_back(Greedy(LogitsAt(logits, logits.size() / 256 - 1)));
      logits = Prefill({written.back()}, cache, recorder, static_cast<int>(tokens.size() + written.size()) - 1);
    }
    CHECK(written == greedy);
  }
}

TEST_CASE("a row's logits are the same bits however rows are batched", "[model]") {
  const uint64_t seed = GENERATE(range(uint64_t{1}, uint64_t{6}));
  CAPTURE(seed);
  Rng rng(seed);
  std::vector<std::vector<uint8_t>> texts(5);
  for (auto& text : texts) {
    text.resize(1 + rng.Below(60));
    for (uint8_t& byte : text) byte = static_cast<uint8_t>(rng.Below(256));
  }
  std::vector<std::vector<float>> alone;
  for (const auto& text : texts) {
    KvCache cache(TinyMoe().config, 64);
    alone.push_back(Prefill(text, cache, *TinyMoe().dense));
  }
  std::vector<KvCache> caches(texts.size(), KvCache(TinyMoe().config, 60));
  std::vector<size_t> done(texts.size());
  Model::Workspace workspace;
  for (bool more = true; more;) {
    std::vector<Model::Row> rows;
    std::vector<std::pair<size_t, size_t>> origin;
    for (size_t s = 0; s < texts.size(); ++s) {
      for (uint64_t count = rng.Below(9); count > 0 && done[s] < texts[s].size(); --count, ++done[s]) {
        rows.push_back({&caches[s], static_cast<int>(done[s]), texts[s][done[s]]});
        origin.emplace_back(s, done[s]);
      }
    }
    std::vector<float> logits(rows.size() * 256);
    REQUIRE(TinyMoe().model->Forward(rows, *TinyMoe().dense, workspace, logits.data()).ok());
    for (size_t r = 0; r < rows.size(); ++r) {
      const auto& [s, position] = origin[r];
      REQUIRE(std::memcmp(&logits[r * 256], &alone[s][position * 256], 256 * sizeof(float)) == 0);
    }
    more = false;
    for (size_t s = 0; s < texts.size(); ++s) more |= done[s] < texts[s].size();
  }
}

TEST_CASE("an expert that answers otherwise changes the logits", "[model]") {
  class Zeros final : public ExpertBackend {
   public:
    absl::Status Run(const MoeBatch& batch, float* outputs) override {
      if (const absl::Status status = TinyMoe().dense->Run(batch, outputs); !status.ok()) return status;
      if (batch.layer == 2) std::fill_n(outputs, 128, 0.0f);
      return absl::OkStatus();
    }
  } zeros;
  KvCache cache(TinyMoe().config, 8), other(TinyMoe().config, 8);
  CHECK(Prefill({65, 66}, cache, *TinyMoe().dense) != Prefill({65, 66}, other, zeros));
}

TEST_CASE("a configuration of another form is refused by the name of its field", "[config]") {
  std::ifstream file(std::string(kModelDir) + "/config.json");
  const nlohmann::json good = nlohmann::json::parse(file);
  CHECK(ParseConfig(good.dump()).value() == TinyMoe().config);
  const auto message_with = [&](const char* field, const nlohmann::json& value) {
    nlohmann::json bad = good;
    if (value.is_null()) {
      bad.erase(field);
    } else {
      bad[field] = value;
    }
    const auto result = ParseConfig(bad.dump());
    REQUIRE_FALSE(result.ok());
    return std::string(result.status().message());
  };
  using Catch::Contains;
  CHECK_THAT(message_with("hidden_size", 100), Contains("hidden_size"));
  CHECK_THAT(message_with("hidden_size", nullptr), Contains("hidden_size"));
  CHECK_THAT(message_with("num_experts", -1), Contains("num_experts"));
  CHECK_THAT(message_with("num_experts_per_tok", 65), Contains("num_experts_per_tok"));
  CHECK_THAT(message_with("head_dim", 64), Contains("head_dim"));
  CHECK_THAT(message_with("hidden_act", "gelu"), Contains("hidden_act"));
  CHECK_THAT(message_with("shared_experts", nullptr), Contains("shared_experts"));
  CHECK_THAT(message_with("model_type", 3), Contains("model_type"));
  CHECK_THAT(message_with("num_key_value_heads", 2), Contains("grouped"));
  CHECK_THAT(message_with("rope_theta", 0), Contains("rope_theta"));
  CHECK_THAT(message_with("rms_norm_eps", "small"), Contains("rms_norm_eps"));
  CHECK_FALSE(ParseConfig("[1]").ok());
  CHECK_FALSE(ParseConfig("{").ok());
  CHECK(ReadConfig("/nonexistent/config.json").status().code() == absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace evenkeel::engine
