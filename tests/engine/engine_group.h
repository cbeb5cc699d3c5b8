// SPDX-License-Identifier: Apache-2.0
//
// EngineGroup: a group of reference engines, each a process of its own, in directories of its own. The end of the
// object ends and removes whatever is left.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "catch2/catch.hpp"
#include "nlohmann/json.hpp"

namespace evenkeel::engine {

class EngineGroup {
 public:
  explicit EngineGroup(int num_ranks) : num_ranks_(num_ranks) {
    const char* base = std::getenv("TEST_TMPDIR");
    run_dir_ = std::string(base != nullptr ? base : "/tmp") + "/engines.XXXXXX";
    REQUIRE(mkdtemp(run_dir_.data()) != nullptr);
    region_dir_ = run_dir_ + "/regions";
    std::filesystem::create_directory(region_dir_);
  }
  ~EngineGroup() {
    for (const auto& [rank, pid] : pids_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    std::filesystem::remove_all(run_dir_);
  }

  const std::string& region_dir() const { return region_dir_; }

  void Start(int rank, const std::vector<std::string>& extra = {}) {
    std::vector<std::string> arguments = {"engine/reference/reference_engine",
                                          absl::StrCat("--ranks=", num_ranks_),
                                          absl::StrCat("--rank=", rank),
                                          absl::StrCat("--run_dir=", run_dir_),
                                          absl::StrCat("--region_dir=", region_dir_),
                                          "--batch=4",
                                          "--prompt_bytes=24",
                                          "--decode_bytes=16",
                                          "--check=full"};
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, LogOf(rank).c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    pid_t pid = 0;
    REQUIRE(posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    pids_[rank] = pid;
  }
  void StartAll(const std::vector<std::string>& extra = {}) {
    for (int rank = 0; rank < num_ranks_; ++rank) Start(rank, extra);
  }

  // Of the newest status file; empty before the first.
  nlohmann::json Status(int rank) const {
    std::ifstream file(absl::StrCat(run_dir_, "/engine-", rank, ".json"));
    const nlohmann::json status = nlohmann::json::parse(file, nullptr, false);
    return status.is_object() ? status : nlohmann::json::object();
  }
  uint64_t Count(int rank, const char* key) const { return Status(rank).value(key, uint64_t{0}); }
  int WaitingFor(int rank) const { return Status(rank).value("waiting_for", -1); }
  uint64_t Total(const char* key) const {
    uint64_t total = 0;
    for (int rank = 0; rank < num_ranks_; ++rank) total += Count(rank, key);
    return total;
  }

  void Signal(int rank, int number) { kill(pids_.at(rank), number); }
  void SignalAll(int number) {
    for (const auto& [rank, pid] : pids_) kill(pid, number);
  }
  // The exit status, 128 + signal where killed, or -1 where it does not end.
  int Wait(int rank) {
    const absl::Time deadline = absl::Now() + kDeadline;
    int status = 0;
    while (absl::Now() < deadline) {
      if (waitpid(pids_.at(rank), &status, WNOHANG) > 0) {
        pids_.erase(rank);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      }
      poll(nullptr, 0, 5);
    }
    return -1;
  }
  std::vector<int> StopAll() {
    SignalAll(SIGTERM);
    std::vector<int> statuses;
    for (int rank = 0; rank < num_ranks_; ++rank) statuses.push_back(pids_.count(rank) != 0 ? Wait(rank) : 0);
    return statuses;
  }
  template <typename Condition>
  bool Await(Condition condition) const {
    const absl::Time deadline = absl::Now() + kDeadline;
    while (!condition()) {
      if (absl::Now() > deadline) return false;
      poll(nullptr, 0, 20);
    }
    return true;
  }

  std::string Log(int rank) const {
    std::ifstream file(LogOf(rank));
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  // Regions and sockets that are still there.
  std::vector<std::string> Remains() const {
    std::vector<std::string> remains;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(run_dir_)) {
      const std::string extension = entry.path().extension();
      if (!entry.is_directory() && extension != ".json" && extension != ".log") remains.push_back(entry.path());
    }
    return remains;
  }

 private:
  static constexpr absl::Duration kDeadline = absl::Seconds(60);

  std::string LogOf(int rank) const { return absl::StrCat(run_dir_, "/engine-", rank, ".log"); }

  const int num_ranks_;
  std::string run_dir_, region_dir_;
  std::map<int, pid_t> pids_;
};

}  // namespace evenkeel::engine
