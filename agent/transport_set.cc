// SPDX-License-Identifier: Apache-2.0
#include "agent/transport_set.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"

#include "agent/faulty_transport.h"
#include "agent/local_transport.h"
#include "agent/throttle.h"
#include "agent/ucx_transport.h"
#include "agent/weights_table.h"
#include "algos/base/status_macros.h"

namespace evenkeel::agent {

absl::StatusOr<std::vector<std::unique_ptr<Transport>>> MakeTransports(const engine::AgentRegion& region,
                                                                       const std::string& forced,
                                                                       const std::string& fault) {
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<Fault> faults, ParseFaults(fault));
  const auto throttle = std::make_shared<Throttle>();
  std::vector<std::unique_ptr<Transport>> transports;
  if (forced.empty() || forced == "local") {
    transports.push_back(std::make_unique<LocalTransport>(
        LocalTransport::Options{.host = HostIdentity(), .region_path = region.path(), .throttle = throttle}));
  }
  if (forced.empty() || forced == "ucx") {
    absl::StatusOr<std::unique_ptr<UcxTransport>> ucx = UcxTransport::Create({.member = region.member(),
                                                                              .host = HostIdentity(),
                                                                              .tls = "",
                                                                              .table = TableOf(region),
                                                                              .memory = SegmentOf(region),
                                                                              .throttle = throttle});
    if (ucx.ok()) {
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
  if (!faults.empty()) {
    for (auto& transport : transports) transport = std::make_unique<FaultyTransport>(std::move(transport), faults);
  }
  return transports;
}

}  // namespace evenkeel::agent
