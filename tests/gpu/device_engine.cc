// SPDX-License-Identifier: Apache-2.0
//
// device_engine DIRECTORY RANK GPU KIND EXPERT_BYTES: an engine that holds experts in device memory and does nothing.
//
// One line: "ready PATH", or "refused WHY". Then it lives until it is killed. KIND: plain, async, mapped, managed.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "engine/evenkeel.h"
#include "tests/gpu/device_buffers.h"
#include "tests/gpu/device_rank.h"

namespace {

using namespace evenkeel::gpu;

[[noreturn]] void Say(const char* what, const char* text) {
  std::printf("%s %s\n", what, text);
  std::fflush(stdout);
  for (;;) ::pause();
}

Kind KindOf(const std::string& name) {
  if (name == "async") return Kind::kAsync;
  if (name == "mapped") return Kind::kMapped;
  return name == "managed" ? Kind::kManaged : Kind::kPlain;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  const int rank = std::atoi(argv[2]), gpu = std::atoi(argv[3]);
  const Kind kind = KindOf(argv[4]);
  const uint64_t bytes = std::strtoull(argv[5], nullptr, 10);
  evenkeel_options options = {};
  options.abi_version = EVENKEEL_ABI_VERSION;
  options.directory = argv[1];
  options.group = "device";
  options.model = "model";
  options.weights_version = kVersion;
  options.rank = rank;
  options.num_ranks = kRanks;
  options.num_layers = kLayers;
  options.num_experts = kExperts;
  options.slots_per_rank = kSlots;
  evenkeel_region* region = nullptr;
  evenkeel_error error = {};
  if (evenkeel_create(&options, &region, &error) != EVENKEEL_OK) Say("refused", error.message);
  for (int layer = 0; layer < kLayers; ++layer) {
    for (int tensor = 0; tensor < kTensors; ++tensor) {
      const uint64_t size = TensorBytes(tensor, bytes);
      void* memory = Take(gpu, kind, kSlots * size);
      if (memory == nullptr) Say("refused", "no such memory here");
      const std::string name = "tensor" + std::to_string(tensor);
      if (evenkeel_add_tensor(region, layer, name.c_str(), "u8", memory, size, size, &error) != EVENKEEL_OK) {
        Say("refused", error.message);
      }
      for (int slot = 0; slot < kSlots; ++slot) {
        const auto content = Content(layer, evenkeel_initial_expert(region, layer, slot), tensor, bytes);
        if (!Fill(static_cast<std::byte*>(memory) + static_cast<uint64_t>(slot) * size, content.data(), size)) {
          Say("refused", "memory cannot be filled");
        }
      }
    }
  }
  if (evenkeel_ready(region, &error) != EVENKEEL_OK) Say("refused", error.message);
  Say("ready", evenkeel_path(region));
}
