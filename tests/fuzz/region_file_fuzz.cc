// SPDX-License-Identifier: Apache-2.0
//
// An engine's region as its agent finds it: it is refused, or all of it can be read.
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "engine/evenkeel.h"
#include "engine/region/agent_region.h"
#include "tests/fuzz/fuzz.h"

namespace evenkeel::fuzz {

std::vector<std::string> Seeds() {
  std::string directory = "/tmp/evenkeel-fuzz-XXXXXX";
  FUZZ_CHECK(::mkdtemp(directory.data()) != nullptr);
  evenkeel_options options = {};
  options.abi_version = EVENKEEL_ABI_VERSION;
  options.directory = directory.c_str();
  options.group = "fuzz";
  options.model = "model";
  options.num_ranks = 2;
  options.num_layers = 1;
  options.num_experts = 2;
  options.slots_per_rank = 2;
  options.weights_bytes = 4096;
  evenkeel_region* region = nullptr;
  evenkeel_error error = {};
  FUZZ_CHECK(evenkeel_create(&options, &region, &error) == EVENKEEL_OK);
  void* tensor = evenkeel_alloc_weights(region, 128);
  FUZZ_CHECK(evenkeel_add_tensor(region, 0, "w", "f32", tensor, 64, 64, &error) == EVENKEEL_OK);
  FUZZ_CHECK(evenkeel_ready(region, &error) == EVENKEEL_OK);
  std::vector<std::string> seeds;
  std::ifstream file(evenkeel_path(region), std::ios::binary);
  seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  evenkeel_destroy(region);
  std::filesystem::remove_all(directory);
  return seeds;
}

}  // namespace evenkeel::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenkeel;
  static const int fd = memfd_create("region", MFD_CLOEXEC);
  FUZZ_CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == static_cast<ssize_t>(size));
  const auto region = engine::AgentRegion::Open("/proc/self/fd/" + std::to_string(fd));
  if (region.ok()) (void)(*region)->ReadContent();
  return 0;
}
