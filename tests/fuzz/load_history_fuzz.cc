// SPDX-License-Identifier: Apache-2.0
//
// What a controller finds in its store of the load that its predecessor counted.
#include "google/protobuf/stubs/logging.h"

#include "controller/convert_load_history.h"
#include "proto/evenkeel/v1/store.pb.h"
#include "tests/fuzz/fuzz.h"

namespace evenkeel::fuzz {

std::vector<std::string> Seeds() {
  controller::LoadHistory load{
      .group = "chat", .model = "m", .num_layers = 2, .num_experts = 2, .kept_for = {}, .windows = {}};
  controller::KeptWindow window;
  window.span = {.from = absl::FromUnixSeconds(1), .to = absl::FromUnixSeconds(2), .first_step = 3, .last_step = 9};
  window.tokens = {.num_layers = 2, .num_experts = 2, .tokens = {1, 2, 1000, 7}};
  load.windows = {window, window};
  v1::LoadHistory message;
  controller::ToProto(load, &message);
  return {message.SerializeAsString()};
}

}  // namespace evenkeel::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenkeel;
  static const google::protobuf::LogSilencer silencer;
  v1::LoadHistory message;
  if (!message.ParseFromArray(data, static_cast<int>(size))) return 0;
  const absl::StatusOr<controller::LoadHistory> load = controller::LoadHistoryOf(message);
  if (!load.ok()) return 0;
  v1::LoadHistory again;
  controller::ToProto(*load, &again);
  const absl::StatusOr<controller::LoadHistory> back = controller::LoadHistoryOf(again);
  FUZZ_CHECK(back.ok() && back->windows.size() == load->windows.size());
  return 0;
}
