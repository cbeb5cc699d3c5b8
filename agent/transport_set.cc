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
#include "kernels/cuda_memory.h"

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

std::vector<std::unique_ptr<Transport>> WithFaults(std::vector<std::unique_ptr<Transport>> transports,
                                                   const std::vector<Fault>& faults) {
  if (faults.empty()) return transports;
  for (auto& transport : transports) transport = std::make_unique<FaultyTransport>(std::move(transport), faults);
  return transports;
}

// Tensors in device memory are read and written by this GPU's copies alone.
absl::StatusOr<std::vector<std::unique_ptr<Transport>>> MakeDeviceTransports(const engine::AgentRegion& region,
                                                                             const std::string& host,
                                                                             const std::string& forced) {
  if (!forced.empty() && forced != "ipc") {
    return absl::InvalidArgumentError(absl::StrCat(
        "--transport is ", forced, ": the engine's weights are in device memory, which goes by ipc alone"));
  }
  std::unique_ptr<kernels::CudaDevice> device;
  if (const auto opened = kernels::CudaDevice::Open(region.device(), &device); !opened.ok()) {
    return absl::FailedPreconditionError(opened.text);
  }
  std::vector<std::unique_ptr<Transport>> transports;
  transports.push_back(
      std::make_unique<LocalTransport>(LocalTransport::Options{.host = host,
                                                               .region_path = region.path(),
                                                               .throttle = std::make_shared<Throttle>(),
                                                               .device = std::move(device)}));
  return transports;
}

}  // namespace

absl::StatusOr<std::vector<std::unique_ptr<Transport>>> MakeTransports(const engine::AgentRegion& region,
                                                                       const TransportOptions& options) {
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<Fault> faults, ParseFaults(options.fault));
  const std::string& forced = options.forced;
  const std::string host = options.host.empty() ? HostIdentity() : options.host;
  if (region.on_device()) {
    EVENKEEL_ASSIGN_OR_RETURN(auto transports, MakeDeviceTransports(region, host, forced));
    return WithFaults(std::move(transports), faults);
  }
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
    return absl::InvalidArgumentError(
        absl::StrCat("--transport is ", forced,
                     forced == "ipc" ? ": the engine's weights are in host memory" : ": local, ucx and ipc are known"));
  }
  AddStores(region, host, throttle, offered_ucx, transports);
  return WithFaults(std::move(transports), faults);
}

}  // namespace evenkeel::agent
