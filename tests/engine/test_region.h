// SPDX-License-Identifier: Apache-2.0
//
// TestRegion: an engine's region in a directory of its own, both gone with the object.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "engine/evenkeel.h"

namespace evenkeel::engine {

// A fresh directory in shared memory, or in the test's own where there is none.
class TestDirectory {
 public:
  TestDirectory() {
    std::string pattern =
        ::access("/dev/shm", W_OK) == 0 ? "/dev/shm/evenkeel-test-XXXXXX" : "/tmp/evenkeel-test-XXXXXX";
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;
  ~TestDirectory() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) names.push_back(entry.path().filename());
    return names;
  }

 private:
  std::string path_;
};

inline evenkeel_options SmallOptions(const TestDirectory& directory) {
  evenkeel_options options = {};
  options.abi_version = EVENKEEL_ABI_VERSION;
  options.directory = directory.path().c_str();
  options.group = "test";
  options.model = "model";
  options.weights_version = 7;
  options.rank = 1;
  options.num_ranks = 4;
  options.num_layers = 2;
  options.num_experts = 8;
  options.slots_per_rank = 3;
  options.weights_bytes = 1 << 16;
  return options;
}

class TestRegion {
 public:
  static constexpr uint64_t kExpertBytes = 200;
  static constexpr uint64_t kScaleBytes = 12;

  explicit TestRegion(const evenkeel_options& options) : options_(options) {
    evenkeel_error error = {};
    const int status = evenkeel_create(&options, &region_, &error);
    INFO(error.message);
    REQUIRE(status == EVENKEEL_OK);
  }
  TestRegion(const TestRegion&) = delete;
  TestRegion& operator=(const TestRegion&) = delete;
  ~TestRegion() { evenkeel_destroy(region_); }

  // Adds two tensors a layer, filled with bytes that tell layer and expert, and says ready.
  void MakeReady() {
    for (int layer = 0; layer < options_.num_layers; ++layer) {
      AddTensor(layer, "w13", "bf16", kExpertBytes, kExpertBytes + 8);
      AddTensor(layer, "scale", "f32", kScaleBytes, kScaleBytes);
    }
    evenkeel_error error = {};
    REQUIRE(evenkeel_ready(region_, &error) == EVENKEEL_OK);
  }

  evenkeel_region* get() const { return region_; }
  std::string path() const { return evenkeel_path(region_); }

 private:
  void AddTensor(int layer, const char* name, const char* dtype, uint64_t bytes, uint64_t stride) {
    const auto slots = static_cast<uint64_t>(options_.slots_per_rank);
    auto* data = static_cast<unsigned char*>(evenkeel_alloc_weights(region_, slots * stride));
    REQUIRE(data != nullptr);
    for (uint64_t slot = 0; slot < slots; ++slot) {
      const int expert = evenkeel_initial_expert(region_, layer, static_cast<int32_t>(slot));
      std::memset(data + slot * stride, 1 + layer * 64 + expert, bytes);
    }
    evenkeel_error error = {};
    REQUIRE(evenkeel_add_tensor(region_, layer, name, dtype, data, bytes, stride, &error) == EVENKEEL_OK);
  }

  const evenkeel_options options_;
  evenkeel_region* region_ = nullptr;
};

}  // namespace evenkeel::engine
