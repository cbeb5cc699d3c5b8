// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/slots.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"

namespace evenkeel::engine {
namespace {

constexpr uint64_t kMagic = 0x706D617453454F4Du;
constexpr uint64_t kMatrices = 3;

absl::Status FromC(int code, absl::string_view what, const evenkeel_error& error) {
  if (code == EVENKEEL_OK) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(what, ": ", error.message));
}

}  // namespace

uint64_t Slots::WeightsBytes(const ModelConfig& config, int slots_per_rank) {
  const uint64_t matrix = static_cast<uint64_t>(config.expert_matrix_size()) * sizeof(float);
  return static_cast<uint64_t>(config.num_layers) * static_cast<uint64_t>(slots_per_rank) *
         (kMatrices * matrix + 2 * sizeof(PaddedStamp));
}

Slots::Slots(evenkeel_region* region, const ModelConfig& config, int slots_per_rank, uint64_t weights_version)
    : region_(region), config_(config), slots_per_rank_(slots_per_rank), weights_version_(weights_version) {}

absl::StatusOr<std::unique_ptr<Slots>> Slots::Create(evenkeel_region* region, const ModelConfig& config,
                                                     int slots_per_rank, uint64_t weights_version) {
  std::unique_ptr<Slots> slots(new Slots(region, config, slots_per_rank, weights_version));
  const uint64_t matrix = static_cast<uint64_t>(config.expert_matrix_size()) * sizeof(float);
  for (int layer_idx = 0; layer_idx < config.num_layers; ++layer_idx) {
    const auto add = [&](const char* name, const char* dtype, uint64_t bytes, uint64_t stride,
                         auto*& data) -> absl::Status {
      void* memory = evenkeel_alloc_weights(region, stride * static_cast<uint64_t>(slots_per_rank));
      if (memory == nullptr) return absl::ResourceExhaustedError(absl::StrCat("no room for tensor ", name));
      data = static_cast<std::remove_reference_t<decltype(data)>>(memory);
      evenkeel_error error = {};
      return FromC(evenkeel_add_tensor(region, layer_idx, name, dtype, memory, bytes, stride, &error), name, error);
    };
    Layer& layer = slots->layers_.emplace_back();
    EVENKEEL_RETURN_IF_ERROR(add("stamp_head", "uint64", sizeof(Stamp), sizeof(PaddedStamp), layer.head));
    EVENKEEL_RETURN_IF_ERROR(add("gate_proj", "float32", matrix, matrix, layer.gate));
    EVENKEEL_RETURN_IF_ERROR(add("up_proj", "float32", matrix, matrix, layer.up));
    EVENKEEL_RETURN_IF_ERROR(add("down_proj", "float32", matrix, matrix, layer.down));
    EVENKEEL_RETURN_IF_ERROR(add("stamp_tail", "uint64", sizeof(Stamp), sizeof(PaddedStamp), layer.tail));
  }
  return slots;
}

bool Slots::InRange(int layer, int local_slot) const {
  return layer >= 0 && layer < config_.num_layers && local_slot >= 0 && local_slot < slots_per_rank_;
}

Slots::Stamp Slots::StampOf(int layer, int expert) const {
  return {kMagic, static_cast<uint64_t>(layer), static_cast<uint64_t>(expert), weights_version_};
}

void Slots::Fill(int layer, int local_slot, int expert, const ExpertTensors& tensors) {
  const Layer& memory = layers_[static_cast<size_t>(layer)];
  const ptrdiff_t at = ptrdiff_t{local_slot} * config_.expert_matrix_size();
  memory.head[local_slot].stamp = StampOf(layer, expert);
  std::copy(tensors.gate.begin(), tensors.gate.end(), memory.gate + at);
  std::copy(tensors.up.begin(), tensors.up.end(), memory.up + at);
  std::copy(tensors.down.begin(), tensors.down.end(), memory.down + at);
  memory.tail[local_slot].stamp = StampOf(layer, expert);
}

bool Slots::Holds(int layer, int local_slot, int expert, uint64_t& generation) const {
  int32_t held = -1, verified = 0;
  if (evenkeel_slot_content(region_, layer, local_slot, &held, &generation, &verified) != EVENKEEL_OK) return false;
  // Another process may write these words: each is read once, and not before or after its turn (the fences, in a
  // form that the thread sanitizer lets pass).
  const auto read = [](const Stamp& stamp) {
    const volatile Stamp& words = stamp;
    return Stamp{words.magic, words.layer, words.expert, words.version};
  };
  __sync_synchronize();
  const Layer& memory = layers_[static_cast<size_t>(layer)];
  const Stamp head = read(memory.head[local_slot].stamp), tail = read(memory.tail[local_slot].stamp);
  __sync_synchronize();
  return held == expert && verified != 0 && head == StampOf(layer, expert) && tail == head;
}

bool Slots::Compute(int layer, int local_slot, int expert, Rows x, float* y, std::vector<float>& scratch) const {
  uint64_t before = 0, after = 0;
  const bool held = Holds(layer, local_slot, expert, before);
  const Layer& memory = layers_[static_cast<size_t>(layer)];
  const ptrdiff_t at = ptrdiff_t{local_slot} * config_.expert_matrix_size();
  ComputeExpert(config_, {memory.gate + at, memory.up + at, memory.down + at}, x, y, scratch);
  return Holds(layer, local_slot, expert, after) && held && before == after;
}

}  // namespace evenkeel::engine
