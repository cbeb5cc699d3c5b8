// SPDX-License-Identifier: Apache-2.0
#include "agent/run_agent.h"

#include <sys/stat.h>
#include <algorithm>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"

#include "agent/daemon.h"
#include "agent/local_transport.h"
#include "agent/stores/host_pool.h"
#include "agent/stores/store_keeper.h"
#include "agent/transport_set.h"
#include "algos/base/hash.h"
#include "algos/base/ids.h"
#include "algos/base/status_macros.h"
#include "algos/protocol/identity.h"
#include "engine/region/agent_region.h"
#include "runtime/client_credentials.h"

namespace evenkeel::agent {

namespace {

constexpr absl::Duration kLookAgain = absl::Milliseconds(100);

constexpr int kRanksMax = 65'536;

// Engines of other groups cannot be: their library refuses them likewise.
bool MayBeInGroupName(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_'; }

absl::Status Check(const AgentOptions& options) {
  if (options.controller.empty()) return absl::InvalidArgumentError("--controller is missing");
  if (const size_t colon = options.controller.rfind(':');
      colon == std::string::npos || colon + 1 == options.controller.size()) {
    return absl::InvalidArgumentError(absl::StrCat("--controller is '", options.controller, "': HOST:PORT wanted"));
  }
  if (options.group.empty()) return absl::InvalidArgumentError("--group is missing");
  if (!std::ranges::all_of(options.group, MayBeInGroupName)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--group is ", options.group, ": only letters, digits, '-' and '_' may be in it"));
  }
  if (options.rank < 0 || options.rank >= kRanksMax) {
    return absl::InvalidArgumentError(absl::StrCat("--rank is ", options.rank, ": 0 to ", kRanksMax - 1, " wanted"));
  }
  if (options.region.empty()) return absl::InvalidArgumentError("--region is missing");
  return absl::OkStatus();
}

absl::StatusOr<runtime::ClientCredentials> CredentialsOf(const AgentOptions& options) {
  absl::StatusOr<runtime::ClientCredentials> credentials = runtime::ReadClientCredentials(options.credentials);
  absl::Status status = credentials.status();
  if (status.ok()) status = CheckTokenStaysHere(*credentials, options.controller);
  if (status.ok()) return credentials;
  return absl::InvalidArgumentError(absl::StrCat("--credentials: ", status.message()));
}

bool IsDirectory(const std::string& path) {
  struct stat found = {};
  return ::stat(path.c_str(), &found) == 0 && S_ISDIR(found.st_mode);
}

// Attends to the region at `path` until its engine ends (OK) or resumes (kAborted) or the agent is to end (kCancelled).
// The hold on the host's pool of experts outlasts the engine.
absl::Status AttendUntilResumed(const AgentOptions& options, const std::string& path,
                                const runtime::ClientCredentials& credentials, const StopWithin& stop_within,
                                std::unique_ptr<HostPool>& pool) {
  EVENKEEL_ASSIGN_OR_RETURN(std::unique_ptr<engine::AgentRegion> region, engine::AgentRegion::Open(path));
  const Member member = region->member();
  if (region->group().name != options.group || member.rank != RankId(options.rank)) {
    return absl::InvalidArgumentError(absl::StrCat("open ", path, ": it is of group ", region->group().name, " rank ",
                                                   member.rank.value(), ", wanted group ", options.group, " rank ",
                                                   options.rank));
  }
  EVENKEEL_ASSIGN_OR_RETURN(std::vector<std::unique_ptr<Transport>> transports,
                            MakeTransports(*region, {options.transport, options.fault, options.host_name}));
  StoreKeeper::Options stores;
  stores.host = options.host_name.empty() ? HostIdentity() : options.host_name;
  stores.offers_ucx = options.transport != "local";
  stores.pool = std::move(pool);
  Daemon::Options daemon_options;
  daemon_options.controller = options.controller;
  daemon_options.credentials = credentials;
  daemon_options.transport = options.transport;
  daemon_options.bytes_per_second_max = options.bytes_per_second;
  daemon_options.seed = MixBits(member.incarnation ^ static_cast<uint64_t>(options.rank));
  EVENKEEL_ASSIGN_OR_RETURN(std::unique_ptr<Daemon> daemon, Daemon::Start(std::move(daemon_options), std::move(region),
                                                                          std::move(transports), std::move(stores)));
  // An engine's end is seen at once: its memory is to be given back (protocol, rule 20).
  absl::Status status;
  while (status.ok() && !daemon->WaitOver(kLookAgain / 2)) {
    if (stop_within(absl::ZeroDuration())) status = absl::CancelledError("told to end");
  }
  if (status.ok()) status = daemon->outcome();
  daemon->Stop();
  pool = daemon->TakePool();
  return status;
}

// What the engine made of its slots while it was suspended is taken over as from an agent before.
absl::Status Attend(const AgentOptions& options, const std::string& path, const runtime::ClientCredentials& credentials,
                    const StopWithin& stop_within, std::unique_ptr<HostPool>& pool) {
  absl::Status status;
  do {
    status = AttendUntilResumed(options, path, credentials, stop_within, pool);
  } while (absl::IsAborted(status));
  return status;
}

// Whether looking again later may find what is not there yet.
bool MayCome(const absl::Status& status) {
  return absl::IsNotFound(status) || absl::IsUnavailable(status) || absl::IsFailedPrecondition(status);
}

}  // namespace

ExitStatus ExitStatusOf(const absl::Status& status) {
  if (status.ok()) return kExitOk;
  if (absl::IsInvalidArgument(status)) return kExitWrongOption;
  return absl::IsAlreadyExists(status) ? kExitOtherAgent : kExitFailed;
}

namespace {

absl::Status AttendToAll(const AgentOptions& options, const StopWithin& stop_within, std::unique_ptr<HostPool>& pool) {
  EVENKEEL_ASSIGN_OR_RETURN(const auto credentials, CredentialsOf(options));
  spdlog::info("controller {} group {} rank {} region {} transport {} bytes_per_second {}", options.controller,
               options.group, options.rank, options.region, options.transport.empty() ? "best" : options.transport,
               options.bytes_per_second);
  if (!IsDirectory(options.region)) {
    const absl::Status status = Attend(options, options.region, credentials, stop_within, pool);
    if (status.ok()) spdlog::info("region {}: the engine has ended", options.region);
    return absl::IsCancelled(status) ? absl::OkStatus() : status;
  }
  std::string trouble;  // the last one logged
  do {
    absl::StatusOr<std::string> path = engine::FindRegion(options.region, options.group, RankId(options.rank));
    absl::Status status = path.ok() ? Attend(options, *path, credentials, stop_within, pool) : path.status();
    if (absl::IsCancelled(status)) return absl::OkStatus();
    if (status.ok()) {
      spdlog::info("region {}: the engine has ended; waiting for the next", *path);
      trouble.clear();
    } else if (!MayCome(status)) {
      return status;
    } else if (std::string now = status.ToString(); now != trouble) {
      spdlog::info("waiting for the engine: {}", now);
      trouble = std::move(now);
    }
  } while (!stop_within(kLookAgain));
  return absl::OkStatus();
}

}  // namespace

absl::Status RunAgent(const AgentOptions& options, const StopWithin& stop_within) {
  EVENKEEL_RETURN_IF_ERROR(Check(options));
  std::unique_ptr<HostPool> pool;
  const absl::Status status = AttendToAll(options, stop_within, pool);
  if (pool != nullptr) pool->RemoveIfLast();
  return status;
}

}  // namespace evenkeel::agent
