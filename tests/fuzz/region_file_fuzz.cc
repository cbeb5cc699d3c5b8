// SPDX-License-Identifier: Apache-2.0
//
// An engine's region as its agent finds it: it is refused, or all of it can be read.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>

#include "absl/status/statusor.h"

#include "engine/evenkeel.h"
#include "engine/region/agent_region.h"
#include "engine/region/layout.h"
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
  FUZZ_CHECK(engine::AgentRegion::Open(evenkeel_path(region)).ok());
  evenkeel_destroy(region);
  std::filesystem::remove_all(directory);
  return seeds;
}

}  // namespace evenkeel::fuzz

namespace {

// One file, written anew for each input, gone with the process. Its engine's lock is held.
class RegionFile {
 public:
  RegionFile() {
    std::string name = std::string(::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp") + "/evenkeel-fuzz-XXXXXX";
    fd_ = ::mkstemp(name.data());
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    lock.l_start = evenkeel::engine::kEngineLockByte;
    lock.l_len = 1;
    FUZZ_CHECK(fd_ >= 0 && ::fcntl(fd_, F_OFD_SETLK, &lock) == 0);
    path_ = name;
  }
  ~RegionFile() {
    ::close(fd_);
    ::unlink(path_.c_str());
  }

  absl::StatusOr<std::unique_ptr<evenkeel::engine::AgentRegion>> Open(const uint8_t* data, size_t size) const {
    FUZZ_CHECK(::ftruncate(fd_, 0) == 0 && ::pwrite(fd_, data, size, 0) == static_cast<ssize_t>(size));
    return evenkeel::engine::AgentRegion::Open(path_);
  }

 private:
  std::string path_;
  int fd_ = -1;
};

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const RegionFile file;
  static const std::string seed = evenkeel::fuzz::Seeds()[0];
  static const bool taken = file.Open(reinterpret_cast<const uint8_t*>(seed.data()), seed.size()).ok();
  FUZZ_CHECK(taken);
  const auto region = file.Open(data, size);
  if (region.ok()) (void)(*region)->ReadContent();
  return 0;
}
