// SPDX-License-Identifier: Apache-2.0
//
// evenkeel-controller: keeps the groups that attach to it evenly loaded. `--help` lists its flags.
#include <signal.h>
#include <spdlog/spdlog.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

#include "controller/config.h"
#include "controller/daemon.h"
#include "runtime/command_line.h"
#include "runtime/logging.h"

ABSL_FLAG(std::string, config, "", "configuration file, protobuf text or JSON; see proto/evenkeel/v1/config.proto");
ABSL_FLAG(std::string, listen, "", "HOST:PORT to serve on, instead of the configuration's; port 0: any free one");
ABSL_FLAG(std::optional<std::string>, http_listen, std::nullopt,
          "HOST:PORT of the HTTP port, instead of the configuration's; empty: none");
ABSL_FLAG(std::string, store, "", "file of the SQLite store, instead of the configuration's");
ABSL_FLAG(std::string, log_level, "", "trace, debug, info, warning, error or off, instead of the configuration's");
ABSL_FLAG(std::string, log_format, "", "text or json, instead of the configuration's");
ABSL_FLAG(std::string, policy, "",
          "policy of groups that name none themselves, instead of the configuration's `defaults`; 'keelctl policies' "
          "lists them");
ABSL_FLAG(
    std::optional<uint32_t>, episode_steps, std::nullopt,
    "engine steps of an episode, in whole windows, instead of the configuration's `defaults`; 0: each window is one");
ABSL_FLAG(std::optional<bool>, enable_eplb, std::nullopt,
          "balance; false: the mode of groups that name none themselves is off, and so it is with --eplb_config alone");
ABSL_FLAG(
    std::string, eplb_config, "",
    "JSON object, or a file that holds one, with the keys of vLLM's, vllm-ascend's or FastDeploy's eplb_config or of "
    "the configuration's `defaults`, over these; docs/operator.md lists them");
ABSL_FLAG(bool, trust_network, false,
          "serve on other addresses than loopback although without TLS, or without telling callers apart: whoever "
          "reaches a port may do everything, and whoever sees the network reads all of it");
ABSL_FLAG(std::string, port_file, "", "write the HOST:PORT that is served into this file once it is");
ABSL_FLAG(std::string, http_port_file, "", "write the HOST:PORT of the HTTP port into this file once it is served");
ABSL_FLAG(bool, check_config, false, "check the configuration, print what would be in force, and end");

namespace {

constexpr int kExitConfig = 2;
constexpr int kExitCannotGoOn = 3;

constexpr char kUsage[] =
    "[--config=FILE] [--listen=HOST:PORT] [--store=FILE] [--policy=NAME] [--episode-steps=N]\n\n"
    "Keeps the ranks of Mixture-of-Experts expert-parallel groups evenly loaded. Agents attach to it and are told\n"
    "everything else; operators ask it through keelctl. It ends on SIGTERM or SIGINT; engines go on without it.\n"
    "Exit status: 0 ended by signal, 1 cannot start, 2 the configuration is wrong, 3 cannot go on (another\n"
    "controller leads, or the store cannot be written).";

// Written under another name and renamed, so that a reader never sees half of it.
absl::Status WritePortFile(const std::string& path, const std::string& address) {
  const std::string temporary = absl::StrCat(path, ".", getpid());
  {
    std::ofstream file(temporary);
    file << address << "\n";
    file.close();
    if (!file) return absl::UnavailableError(absl::StrCat("write the port file ", temporary));
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    return absl::UnavailableError(absl::StrCat("rename the port file to ", path));
  }
  return absl::OkStatus();
}

int Fail(int code, const absl::Status& status) {
  fprintf(stderr, "evenkeel-controller: %s\n", std::string(status.message()).c_str());
  return code;
}

// Why the controller ended by itself; OK: it did not.
struct Ending {
  absl::Mutex mutex;
  absl::Status why ABSL_GUARDED_BY(mutex);
};

}  // namespace

int main(int argc, char** argv) {
  using namespace evenkeel;  // NOLINT
  if (const absl::Status read = runtime::ParseCommandLine(argc, argv, kUsage, "controller/main.cc"); !read.ok()) {
    return Fail(kExitConfig, read);
  }
  const absl::StatusOr<controller::ControllerSettings> settings =
      controller::LoadSettings({.config_path = absl::GetFlag(FLAGS_config),
                                .listen = absl::GetFlag(FLAGS_listen),
                                .http_listen = absl::GetFlag(FLAGS_http_listen),
                                .store = absl::GetFlag(FLAGS_store),
                                .log_level = absl::GetFlag(FLAGS_log_level),
                                .log_format = absl::GetFlag(FLAGS_log_format),
                                .policy = absl::GetFlag(FLAGS_policy),
                                .episode_steps = absl::GetFlag(FLAGS_episode_steps),
                                .eplb_config = absl::GetFlag(FLAGS_eplb_config),
                                .enable_eplb = absl::GetFlag(FLAGS_enable_eplb),
                                .trust_network = absl::GetFlag(FLAGS_trust_network)});
  if (!settings.ok()) return Fail(kExitConfig, settings.status());
  if (const absl::Status status = controller::CheckCertificates(*settings); !status.ok()) {
    return Fail(kExitConfig, status);
  }
  if (absl::GetFlag(FLAGS_check_config)) {
    for (const std::string& warning : settings->warnings) fprintf(stderr, "warning: %s\n", warning.c_str());
    printf("%s\n", controller::EffectiveConfig(*settings).c_str());
    return 0;
  }
  if (absl::Status status = runtime::SetUpLogging("controller", settings->log_level, settings->log_format);
      !status.ok()) {
    return Fail(kExitConfig, status);
  }

  // Blocked in every thread, taken by sigwait below.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  Ending ending;
  auto daemon = controller::Daemon::Start({.settings = *settings, .on_end = [&ending](absl::Status why) {
                                             absl::MutexLock lock(&ending.mutex);
                                             ending.why = std::move(why);
                                             kill(getpid(), SIGTERM);
                                           }});
  if (!daemon.ok()) return Fail(1, daemon.status());
  for (const std::string& warning : settings->warnings) spdlog::warn("{}", warning);
  spdlog::info("settings {}", controller::EffectiveConfig(*settings));
  spdlog::info("listening on {}", (*daemon)->address());
  if (!(*daemon)->http_address().empty()) spdlog::info("serving HTTP on {}", (*daemon)->http_address());
  if (const std::string path = absl::GetFlag(FLAGS_port_file); !path.empty()) {
    if (absl::Status status = WritePortFile(path, (*daemon)->address()); !status.ok()) return Fail(1, status);
  }
  if (const std::string path = absl::GetFlag(FLAGS_http_port_file); !path.empty()) {
    if (absl::Status status = WritePortFile(path, (*daemon)->http_address()); !status.ok()) return Fail(1, status);
  }

  int signal = 0;
  sigwait(&signals, &signal);
  spdlog::info("signal {} received; ending", signal);
  (*daemon)->Stop();
  absl::MutexLock lock(&ending.mutex);
  return ending.why.ok() ? 0 : Fail(kExitCannotGoOn, ending.why);
}
