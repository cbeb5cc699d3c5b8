// SPDX-License-Identifier: Apache-2.0
//
// evenkeel-controller and keelctl as processes: flags, exit statuses, signals, the port file.
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

namespace evenkeel::controller {
namespace {

constexpr char kController[] = "controller/evenkeel-controller";
constexpr char kKeelctl[] = "cli/keelctl";

// The programs lack what tells the thread sanitizer of Abseil's locks (tests/sanitizer): there they only run.
[[maybe_unused]] const int kQuiet = setenv("TSAN_OPTIONS", "report_bugs=0", 1);

std::string Scratch(const std::string& name) { return std::string(std::getenv("TEST_TMPDIR")) + "/" + name; }

struct Ran {
  int status;
  std::string output;  // stdout and stderr
};

Ran Run(const std::string& command) {
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string output;
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) output.append(buffer, n);
  return {WEXITSTATUS(pclose(pipe)), output};
}

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// A controller process; killed at the end unless it ended before.
class ControllerProcess {
 public:
  explicit ControllerProcess(const std::vector<std::string>& flags) {
    port_file_ = Scratch("port-" + std::to_string(getpid()));
    unlink(port_file_.c_str());
    pid_ = fork();
    if (pid_ == 0) {
      std::vector<std::string> arguments = {kController, "--listen=127.0.0.1:0", "--log_level=off",
                                            "--port_file=" + port_file_};
      arguments.insert(arguments.end(), flags.begin(), flags.end());
      std::vector<char*> pointers;
      for (std::string& argument : arguments) pointers.push_back(argument.data());
      pointers.push_back(nullptr);
      execv(kController, pointers.data());
      _exit(127);
    }
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (FirstLine(port_file_).empty()) REQUIRE(std::chrono::steady_clock::now() < deadline);
  }
  ~ControllerProcess() {
    if (pid_ > 0) End(SIGKILL);
  }

  std::string address() const { return FirstLine(port_file_); }

  // The exit status, or minus the signal that ended it.
  int End(int signal) {
    kill(pid_, signal);
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  pid_t pid_ = 0;
  std::string port_file_;
};

TEST_CASE("a wrong configuration ends the start with status 2 and the field's name", "[programs]") {
  const std::string config = Scratch("wrong.json");
  std::ofstream(config) << R"({"defaults": {"window_ms": 1}})";
  const Ran wrong = Run(std::string(kController) + " --config=" + config);
  CHECK(wrong.status == 2);
  CHECK(wrong.output == "evenkeel-controller: defaults.window_ms is 1: 10 to 3600000 wanted\n");
  CHECK(Run(std::string(kController) + " --config=/does/not/exist").status == 2);
  CHECK(Run(std::string(kController) + " surplus").status == 2);
}

TEST_CASE("a configuration can be checked without a start", "[programs]") {
  const Ran checked = Run(std::string(kController) + " --check_config --listen=127.0.0.1:1");
  CHECK(checked.status == 0);
  CHECK(checked.output.find(R"({"listen":"127.0.0.1:1")") == 0);
}

TEST_CASE("the policy and episodes of groups that name none can be given by flags", "[programs]") {
  const Ran checked = Run(std::string(kController) + " --check-config --policy=deepseek --episode-steps=50");
  CHECK(checked.status == 0);
  CHECK(checked.output.find(R"("policy":"deepseek")") != std::string::npos);
  CHECK(checked.output.find(R"("episode_steps":50)") != std::string::npos);
  const Ran wrong = Run(std::string(kController) + " --check_config --policy=magic");
  CHECK(wrong.status == 2);
  CHECK(wrong.output.find("defaults.policy: policy 'magic': there are ") != std::string::npos);
}

TEST_CASE("a store or an address that cannot be had ends the start with status 1", "[programs]") {
  const Ran store = Run(std::string(kController) + " --listen=127.0.0.1:0 --store=/does/not/exist/s.db");
  CHECK(store.status == 1);
  CHECK(store.output.find("store /does/not/exist/s.db") != std::string::npos);
  const ControllerProcess first({});
  const Ran second = Run(std::string(kController) + " --log_level=off --listen=" + first.address());
  CHECK(second.status == 1);
  CHECK(second.output.find("already in use") != std::string::npos);
}

TEST_CASE("a controller ends cleanly on SIGTERM and SIGINT", "[programs]") {
  ControllerProcess first({"--store=" + Scratch("signals.db")});
  CHECK(first.End(SIGTERM) == 0);
  ControllerProcess second({"--store=" + Scratch("signals.db")});
  CHECK(second.End(SIGINT) == 0);
}

TEST_CASE("a controller starts again from the store that a killed one left", "[programs]") {
  ControllerProcess first({"--store=" + Scratch("killed.db")});
  CHECK(first.End(SIGKILL) == -SIGKILL);
  ControllerProcess second({"--store=" + Scratch("killed.db")});
  CHECK(second.End(SIGTERM) == 0);
}

TEST_CASE("keelctl asks a running controller and names the address when there is none", "[programs]") {
  std::string address;
  {
    const std::string config = Scratch("at-once.txt");
    std::ofstream(config) << "listen_interval_ms: 0";
    ControllerProcess controller({"--config=" + config});
    address = controller.address();
    const std::string keelctl = std::string(kKeelctl) + " --controller=" + address + " ";
    CHECK(Run(keelctl + "groups").status == 0);
    const Ran rearrange = Run(keelctl + "rearrange --group=chat");
    CHECK(rearrange.status != 0);
    CHECK(rearrange.output.find("chat") != std::string::npos);
  }
  const Ran gone = Run(std::string(kKeelctl) + " --controller=" + address + " groups");
  CHECK(gone.status != 0);
  CHECK(gone.output.find(address) != std::string::npos);
}

}  // namespace
}  // namespace evenkeel::controller
