// SPDX-License-Identifier: Apache-2.0
//
// evenkeel-agent as a process: options, exit statuses, signals.
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

namespace evenkeel::agent {
namespace {

// The program lacks what tells the thread sanitizer of Abseil's locks (tests/sanitizer): there it only runs.
[[maybe_unused]] const int kQuiet = setenv("TSAN_OPTIONS", "report_bugs=0", 1);

std::string Scratch() { return std::getenv("TEST_TMPDIR"); }

// An agent with these arguments; killed at the end unless it ended before.
class AgentProcess {
 public:
  explicit AgentProcess(std::vector<std::string> arguments) {
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(ends[1], STDOUT_FILENO);
      dup2(ends[1], STDERR_FILENO);
      close(ends[0]);
      close(ends[1]);
      arguments.insert(arguments.begin(), "agent/evenkeel-agent");
      std::vector<char*> pointers;
      for (std::string& argument : arguments) pointers.push_back(argument.data());
      pointers.push_back(nullptr);
      execv(pointers[0], pointers.data());
      _exit(127);
    }
    close(ends[1]);
    output_ = fdopen(ends[0], "r");
  }
  ~AgentProcess() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    fclose(output_);
  }

  // Everything up to the line with `part`, or to the end of all output.
  std::string ReadUntil(const std::string& part) {
    std::string text;
    char line[4096];
    while (text.find(part) == std::string::npos && fgets(line, sizeof line, output_) != nullptr) text += line;
    return text;
  }

  void Signal(int signal) { kill(pid_, signal); }

  // The exit status, or minus the signal that ended it.
  int Wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  pid_t pid_ = 0;
  FILE* output_ = nullptr;
};

constexpr char kNever[] = "a line that no agent writes";

TEST_CASE("a wrong option ends the agent with status 2 and its name", "[programs]") {
  const auto [option, said] = GENERATE(table<std::string, std::string>({
      {"--rank=0", "--group is missing"},
      {"--group=chat", "--rank is -1: 0 to 65535 wanted"},
      {"--log_level=loud", "loud"},
  }));
  CAPTURE(option);
  AgentProcess agent({"--region=" + Scratch(), option});
  const std::string output = agent.ReadUntil(kNever);
  CHECK(agent.Wait() == 2);
  CHECK_THAT(output, Catch::Contains(said));
}

TEST_CASE("an agent of a region that is not there ends with status 1 and the path", "[programs]") {
  const std::string path = Scratch() + "/no-region";
  AgentProcess agent({"--group=chat", "--rank=0", "--region=" + path});
  const std::string output = agent.ReadUntil(kNever);
  CHECK(agent.Wait() == 1);
  CHECK_THAT(output, Catch::Contains("no-region"));
}

TEST_CASE("an agent that waits for its engine says with what, and ends well when told to", "[programs]") {
  const int signal = GENERATE(SIGTERM, SIGINT);
  CAPTURE(signal);
  AgentProcess agent({"--group=chat", "--rank=3", "--region=" + Scratch(), "--controller=127.0.0.1:1",
                      "--transport=local", "--bytes_per_second=4096"});
  CHECK_THAT(agent.ReadUntil("controller 127.0.0.1:1"),
             Catch::Contains("group chat rank 3") && Catch::Contains("transport local bytes_per_second 4096"));
  agent.Signal(signal);
  agent.ReadUntil(kNever);
  CHECK(agent.Wait() == 0);
}

}  // namespace
}  // namespace evenkeel::agent
