// SPDX-License-Identifier: Apache-2.0
#include <signal.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "spdlog/spdlog.h"

#include "agent/run_agent.h"
#include "runtime/client_credentials.h"
#include "runtime/command_line.h"
#include "runtime/logging.h"

ABSL_FLAG(std::string, controller, "127.0.0.1:7400", "host:port of the controller");
ABSL_FLAG(std::string, group, "", "name of the group, as the engine gave it");
ABSL_FLAG(int, rank, -1, "rank of the engine in its group");
ABSL_FLAG(std::string, region, "/dev/shm", "the engine's region, or the directory where engines make them");
ABSL_FLAG(
    std::string, credentials, "",
    "file with lines ca, certificate, key, token_file and server_name: whom to trust and as whom to speak; empty: "
    "no TLS, no token");
ABSL_FLAG(bool, trust_network, false,
          "offer weights beyond loopback although without TLS to the controller: whoever sees that network reads the "
          "secrets by which readers of weights are known");
ABSL_FLAG(std::string, transport, "", "force this transport (local, ucx, ipc); empty: the best for each pair");
ABSL_FLAG(uint64_t, bytes_per_second, 0, "bounds the moves into this rank; 0: as the controller says");
ABSL_FLAG(std::string, host_name, "", "in place of this host's identity, by which ranks know who shares memory");
ABSL_FLAG(std::string, fault, "", "for tests: what goes wrong with transfers, see agent/faulty_transport.h");
ABSL_FLAG(std::string, log_level, "info", "trace, debug, info, warning, error or off");
ABSL_FLAG(std::string, log_format, "text", "text or json");

namespace {

constexpr char kUsage[] =
    R"(--group=NAME --rank=N [--controller=HOST:PORT] [--region=FILE|DIRECTORY] [--credentials=FILE]

Attends to one rank of an expert-parallel group for the evenkeel controller.

Exit status:
  0  told to end, or the engine of the region given by path has ended
  1  failed; starting it again may help
  2  a wrong option, or a region of another group or rank: starting it again does not help
  3  a copy did not end: a new agent is to be started, which takes the rank over
  4  another agent has this rank and goes on: not to be started again (systemd: RestartPreventExitStatus=2 4))";

}  // namespace

int main(int argc, char** argv) {
  if (const absl::Status read = evenkeel::runtime::ParseCommandLine(argc, argv, kUsage, "agent/main.cc"); !read.ok()) {
    std::fprintf(stderr, "evenkeel-agent: %s\n", std::string(read.message()).c_str());
    return evenkeel::agent::kExitWrongOption;
  }

  // Blocked in every thread; taken by sigtimedwait below.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  // A file that may not grow is an error of the snapshot, not the agent's end.
  std::signal(SIGXFSZ, SIG_IGN);

  evenkeel::agent::AgentOptions options;
  options.controller = absl::GetFlag(FLAGS_controller);
  options.group = absl::GetFlag(FLAGS_group);
  options.rank = absl::GetFlag(FLAGS_rank);
  options.region = absl::GetFlag(FLAGS_region);
  options.credentials = absl::GetFlag(FLAGS_credentials);
  options.transport = absl::GetFlag(FLAGS_transport);
  options.bytes_per_second = absl::GetFlag(FLAGS_bytes_per_second);
  options.host_name = absl::GetFlag(FLAGS_host_name);
  options.fault = absl::GetFlag(FLAGS_fault);

  // What UCX listens on is read from its environment; no other thread runs yet.
  const auto credentials = evenkeel::runtime::ReadClientCredentials(options.credentials);
  if (credentials.ok() && !credentials->speaks_tls() && !absl::GetFlag(FLAGS_trust_network)) {
    setenv("UCX_NET_DEVICES", "lo", /*overwrite=*/1);
  }

  const std::string name = absl::StrCat("agent rank ", options.rank);
  const absl::Status logs =
      evenkeel::runtime::SetUpLogging(name, absl::GetFlag(FLAGS_log_level), absl::GetFlag(FLAGS_log_format));
  if (!logs.ok()) {
    std::fprintf(stderr, "evenkeel-agent: %s\n", logs.ToString().c_str());
    return evenkeel::agent::kExitWrongOption;
  }
  const absl::Status status = evenkeel::agent::RunAgent(options, [&signals](absl::Duration at_most) {
    const timespec timeout = absl::ToTimespec(at_most);
    return sigtimedwait(&signals, nullptr, &timeout) > 0;
  });
  if (!status.ok()) spdlog::error("{}", status.ToString());
  return evenkeel::agent::ExitStatusOf(status);
}
