// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/slots.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

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

absl::StatusOr<std::unique_ptr<CudaMemory>> OpenDevice(const std::string& device, int rank) {
  if (device != "cuda") return nullptr;
  std::string error;
  std::unique_ptr<CudaMemory> memory = CudaMemory::Open(rank, &error);
  if (memory == nullptr) return absl::FailedPreconditionError(error);
  return memory;
}

uint64_t Slots::WeightsBytes(const ModelConfig& config, int slots_per_rank) {
  const uint64_t matrix = static_cast<uint64_t>(config.expert_matrix_size()) * sizeof(float);
  return static_cast<uint64_t>(config.num_layers) * static_cast<uint64_t>(slots_per_rank) *
         (kMatrices * matrix + 2 * sizeof(PaddedStamp));
}

Slots::Slots(evenkeel_region* region, const ModelConfig& config, int slots_per_rank, uint64_t weights_version,
             CudaMemory* device)
    : region_(region),
      config_(config),
      slots_per_rank_(slots_per_rank),
      weights_version_(weights_version),
      device_(device) {}

absl::StatusOr<void*> Slots::Allocate(uint64_t bytes) {
  if (device_ != nullptr) {
    std::string error;
    if (void* memory = device_->Allocate(bytes, &error); memory != nullptr) return memory;
    return absl::ResourceExhaustedError(error);
  }
  if (void* memory = evenkeel_alloc_weights(region_, bytes); memory != nullptr) return memory;
  return absl::ResourceExhaustedError("no room in the region");
}

absl::Status Slots::Put(void* to, const void* from, uint64_t bytes) {
  if (device_ == nullptr) {
    std::memcpy(to, from, bytes);
    return absl::OkStatus();
  }
  std::string error;
  return device_->Fill(to, from, bytes, &error) ? absl::OkStatus() : absl::InternalError(error);
}

absl::StatusOr<std::unique_ptr<Slots>> Slots::Create(evenkeel_region* region, const ModelConfig& config,
                                                     int slots_per_rank, uint64_t weights_version, CudaMemory* device) {
  std::unique_ptr<Slots> slots(new Slots(region, config, slots_per_rank, weights_version, device));
  const uint64_t matrix = static_cast<uint64_t>(config.expert_matrix_size()) * sizeof(float);
  for (int layer_idx = 0; layer_idx < config.num_layers; ++layer_idx) {
    const auto add = [&](const char* name, const char* dtype, uint64_t bytes, uint64_t stride,
                         auto*& data) -> absl::Status {
      EVENKEEL_ASSIGN_OR_RETURN(void* const memory, slots->Allocate(stride * static_cast<uint64_t>(slots_per_rank)));
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

absl::Status Slots::Fill(int layer, int local_slot, int expert, const ExpertTensors& tensors) {
  const Layer& memory = layers_[static_cast<size_t>(layer)];
  const ptrdiff_t at = ptrdiff_t{local_slot} * config_.expert_matrix_size();
  const Stamp stamp = StampOf(layer, expert);
  const auto put = [this](float* to, const std::vector<float>& from) {
    return Put(to, from.data(), from.size() * sizeof(float));
  };
  EVENKEEL_RETURN_IF_ERROR(Put(&memory.head[local_slot].stamp, &stamp, sizeof(stamp)));
  EVENKEEL_RETURN_IF_ERROR(put(memory.gate + at, tensors.gate));
  EVENKEEL_RETURN_IF_ERROR(put(memory.up + at, tensors.up));
  EVENKEEL_RETURN_IF_ERROR(put(memory.down + at, tensors.down));
  return Put(&memory.tail[local_slot].stamp, &stamp, sizeof(stamp));
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
  // In device memory the stamps are looked at there.
  if (device_ != nullptr) return held == expert && verified != 0;
  __sync_synchronize();
  const Layer& memory = layers_[static_cast<size_t>(layer)];
  const Stamp head = read(memory.head[local_slot].stamp), tail = read(memory.tail[local_slot].stamp);
  __sync_synchronize();
  return held == expert && verified != 0 && head == StampOf(layer, expert) && tail == head;
}

bool Slots::Compute(int layer, int local_slot, int expert, Rows x, float* y, std::vector<float>& scratch) const {
  uint64_t before = 0, after = 0;
  bool held = Holds(layer, local_slot, expert, before);
  if (device_ != nullptr) {
    held = ComputeOnDevice(layer, local_slot, expert, x, y) && held;
    return Holds(layer, local_slot, expert, after) && held && before == after;
  }
  const Layer& memory = layers_[static_cast<size_t>(layer)];
  const ptrdiff_t at = ptrdiff_t{local_slot} * config_.expert_matrix_size();
  ComputeExpert(config_, {memory.gate + at, memory.up + at, memory.down + at}, x, y, scratch);
  return Holds(layer, local_slot, expert, after) && held && before == after;
}

bool Slots::ComputeOnDevice(int layer, int local_slot, int expert, Rows x, float* y) const {
  std::unique_ptr<CudaRows> rows;
  {
    absl::MutexLock lock(&mutex_);
    if (!resting_.empty()) {
      rows = std::move(resting_.back());
      resting_.pop_back();
    }
  }
  std::string error;
  if (rows == nullptr) rows = CudaRows::Create(device_->ordinal(), config_.hidden_size, config_.expert_width, &error);
  const Layer& memory = layers_[static_cast<size_t>(layer)];
  const ptrdiff_t at = ptrdiff_t{local_slot} * config_.expert_matrix_size();
  const Stamp stamp = StampOf(layer, expert);
  bool fits = false;
  if (rows == nullptr || !rows->Compute({.head = &memory.head[local_slot].stamp.magic,
                                         .gate = memory.gate + at,
                                         .up = memory.up + at,
                                         .down = memory.down + at,
                                         .tail = &memory.tail[local_slot].stamp.magic},
                                        &stamp.magic, x.data, x.rows, x.stride, y, &fits, &error)) {
    std::fprintf(stderr, "layer %d slot %d: %s\n", layer, local_slot, error.c_str());
    std::abort();
  }
  absl::MutexLock lock(&mutex_);
  resting_.push_back(std::move(rows));
  return fits;
}

}  // namespace evenkeel::engine
