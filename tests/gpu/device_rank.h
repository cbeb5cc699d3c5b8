// SPDX-License-Identifier: Apache-2.0
//
// What a device_engine holds, and DeviceRank: one as a process of its own, killed with the object.
#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace evenkeel::gpu {

inline constexpr int kRanks = 2, kLayers = 2, kExperts = 4, kSlots = 3;
inline constexpr int kTensors = 9;  // three large ones, and small ones such as scales
inline constexpr uint64_t kVersion = 7;

inline uint64_t TensorBytes(int tensor, uint64_t expert_bytes) {
  return tensor < 3 ? expert_bytes / 3 / 8 * 8 : 4096 + 16 * static_cast<uint64_t>(tensor) - 4;
}

// Bytes that tell layer, expert and tensor.
inline std::vector<std::byte> Content(int layer, int expert, int tensor, uint64_t expert_bytes) {
  std::vector<std::byte> bytes(TensorBytes(tensor, expert_bytes));
  uint64_t state = static_cast<uint64_t>((layer * kExperts + expert) * kTensors + tensor) * 0x9E3779B97F4A7C15u + 1;
  for (std::byte& byte : bytes) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<std::byte>(state >> 56);
  }
  return bytes;
}

// In shared memory, gone with the object.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    if (::mkdtemp(path_.data()) == nullptr) std::abort();
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }

 private:
  std::string path_ = "/dev/shm/evenkeel-gpu-XXXXXX";
};

class DeviceRank {
 public:
  DeviceRank(const std::string& directory, int rank, int gpu, const std::string& kind, uint64_t expert_bytes) {
    int ends[2] = {};
    if (::pipe(ends) != 0) std::abort();
    const std::string engine = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "device_engine";
    const std::string rank_text = std::to_string(rank), gpu_text = std::to_string(gpu);
    const std::string bytes_text = std::to_string(expert_bytes);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      ::execl(engine.c_str(), engine.c_str(), directory.c_str(), rank_text.c_str(), gpu_text.c_str(), kind.c_str(),
              bytes_text.c_str(), static_cast<char*>(nullptr));
      std::_Exit(127);
    }
    ::close(ends[1]);
    std::FILE* answers = ::fdopen(ends[0], "r");
    char line[1024] = "";
    if (std::fgets(line, sizeof(line), answers) == nullptr) line[0] = 0;
    std::fclose(answers);
    std::string said = line;
    if (!said.empty() && said.back() == '\n') said.pop_back();
    const size_t space = said.find(' ');
    ready_ = said.substr(0, space) == "ready";
    text_ = space == std::string::npos ? "it said nothing" : said.substr(space + 1);
  }
  DeviceRank(const DeviceRank&) = delete;
  DeviceRank& operator=(const DeviceRank&) = delete;
  ~DeviceRank() { Kill(); }

  void Kill() {
    if (const pid_t pid = std::exchange(pid_, 0); pid > 0) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
  }

  bool ready() const { return ready_; }
  // Path of the region, or why it was refused.
  const std::string& text() const { return text_; }

 private:
  pid_t pid_ = 0;
  bool ready_ = false;
  std::string text_;
};

}  // namespace evenkeel::gpu
