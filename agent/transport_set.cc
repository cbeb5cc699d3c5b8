// SPDX-License-Identifier: Apache-2.0
#include "agent/transport_set.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"

#include "agent/faulty_transport.h"
#include "agent/local_transport.h"
#include "agent/stores/held_experts.h"
#include "agent/stores/pool_reader.h"
#include "agent/stores/remote_pool.h"
#include "agent/stores/snapshot_reader.h"
#include "agent/stores/store_transport.h"
#include "agent/throttle.h"
#include "agent/ucx_transport.h"
#include "agent/weights_table.h"
#include "algos/base/status_macros.h"

namespace evenkeel::agent {

namespace {

constexpr int kPoolCost = 30;
constexpr int kSnapshotCost = 50;

// Those of this host's pool, of other hosts' where there is `ucx`, and of the snapshot.
void AddStores(const engine::AgentRegion& region, const std::string& host, const std::shared_ptr<Throttle>& throttle,
               Transport* ucx, std::vector<std::unique_ptr<Transport>>& transports) {
  const StoreIdentity identity = IdentityOf(region);
  transports.push_back(std::make_unique<StoreTransport>(StoreTransport::Options{
      .name = "pool",
      .host = host,
      .cost = kPoolCost,
      .throttle = throttle,
      .open = [identity](const TransferRequest& request) { return OpenPoolReader(identity, request); }}));
  if (ucx != nullptr) {
    transports.push_back(
        std::make_unique<RemotePool>(RemotePool::Options{.host = host, .identity = identity, .ucx = ucx}));
  }
  transports.push_back(std::make_unique<StoreTransport>(StoreTransport::Options{.name = "snapshot",
                                                                                .host = host,
                                                                                .cost = kSnapshotCost,
                                                                                .throttle = throttle,
                                                                                .open = SnapshotOpener(identity)}));
}

}  // namespace

absl::StatusOr<std::vector<std::unique_ptr<Transport>>> MakeTransports(const engine::AgentRegion& region,
                                                                       const TransportOptions& options) {
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<Fault> faults, ParseFaults(options.fault));
  const std::string& forced = options.forced;
  const std::string host = options.host.empty() ? HostIdentity() : options.host;
  const auto throttle = std::make_shared<Throttle>();
  std::vector<std::unique_ptr<Transport>> transports;
  Transport* offered_ucx = nullptr;
  if (forced.empty() || forced == "local") {
    transports.push_back(std::make_unique<LocalTransport>(
        LocalTransport::Options{.host = host, .region_path = region.path(), .throttle = throttle}));
  }
  if (forced.empty() || forced == "ucx") {
    absl::StatusOr<std::unique_ptr<UcxTransport>> ucx = UcxTransport::Create({.member = region.member(),
                                                                              .host = host,
                                                                              .tls = "",
                                                                              .table = TableOf(region),
                                                                              .memory = SegmentOf(region),
                                                                              .throttle = throttle});
    if (ucx.ok()) {
      offered_ucx = ucx->get();
      transports.push_back(*std::move(ucx));
    } else if (!forced.empty()) {
      return ucx.status();
    } else {
      spdlog::warn("rank {} goes without ucx: {}", region.member().rank.value(), ucx.status().ToString());
    }
  }
  if (transports.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--transport is ", forced, ": local and ucx are known"));
  }
  AddStores(region, host, throttle, offered_ucx, transports);
  if (!faults.empty()) {
    for (auto& transport : transports) transport = std::make_unique<FaultyTransport>(std::move(transport), faults);
  }
  return transports;
}

}  // namespace evenkeel::agent
