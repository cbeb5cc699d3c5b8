// SPDX-License-Identifier: Apache-2.0
//
// Headers of snapshot files: one form for one value.
#include "agent/stores/snapshot_format.h"
#include "tests/fuzz/fuzz.h"

namespace evenkeel::fuzz {

std::vector<std::string> Seeds() {
  agent::StoreIdentity identity{.group = "chat",
                                .model = "model",
                                .weights_version = 3,
                                .manifest_digest = 4,
                                .num_layers = 2,
                                .num_experts = 8,
                                .tensor_bytes = {{4096, 64}, {4096, 64}}};
  return {agent::Encode(agent::HeaderOf(identity, {LayerId(0), {ExpertId(4), 3}}, {11, 12, 13})),
          agent::Encode(agent::HeaderOf(identity, {LayerId(1), {ExpertId(0), 8}}, {1, 2, 3, 4, 5, 6, 7, 8}))};
}

}  // namespace evenkeel::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenkeel;
  const std::string bytes(fuzz::TextOf(data, size));
  (void)agent::HeaderBytes(bytes.substr(0, agent::SnapshotHeader::kPreambleBytes));
  (void)agent::ParseSnapshotName(bytes);
  const auto header = agent::DecodeSnapshotHeader(bytes);
  if (header.ok()) FUZZ_CHECK(agent::Encode(*header) == bytes);
  return 0;
}
