// SPDX-License-Identifier: Apache-2.0
//
// Configuration files of the controller, in text and JSON, and what engines' users write into their eplb_config.
#include "google/protobuf/stubs/logging.h"

#include "controller/config.h"
#include "controller/eplb_config.h"
#include "proto/evenkeel/v1/config.pb.h"
#include "tests/fuzz/fuzz.h"

namespace evenkeel::fuzz {

std::vector<std::string> Seeds() {
  return {R"(listen: "127.0.0.1:0" defaults { policy: "greedy" placement_interval_ms: 500 cost { per_expert: 40 } }
             groups { key: "chat" value { capacities: 1 capacities: 0.5 survive { ranks: 1 } } })",
          R"({"listen": "127.0.0.1:0", "defaults": {"episode_steps": 200, "policy_options": {"depth": 2},
              "pins": [{"layer": 1, "expert": 7, "rank": 0}]}, "groups": {"a": {"shares_enabled": false}}})",
          R"({"additional-config": {"eplb_config": {"dynamic_eplb": true, "step_interval": 300, "eplb_policy_type": 3,
              "eplb_heat_collection_stage": "decode", "layers_max": 2, "init_redundancy_expert": 16}}})"};
}

}  // namespace evenkeel::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenkeel;
  static const google::protobuf::LogSilencer silencer;
  const std::string text(fuzz::TextOf(data, size));
  const auto config = controller::ParseConfig(text, "file");
  if (config.ok()) (void)controller::SettingsOf(*config);
  v1::ControllerConfig laid_over;
  if (controller::ApplyEplbConfig(text, &laid_over).ok()) (void)controller::SettingsOf(laid_over);
  return 0;
}
