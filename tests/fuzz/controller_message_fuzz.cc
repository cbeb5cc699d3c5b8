// SPDX-License-Identifier: Apache-2.0
//
// What a controller sends to its agents: what is taken is rendered to what is taken again.
#include "absl/status/statusor.h"
#include "google/protobuf/stubs/logging.h"

#include "proto/convert_controller.h"
#include "proto/evenkeel/v1/agent.pb.h"
#include "tests/fuzz/fuzz.h"
#include "tests/proto/examples.h"

namespace evenkeel::fuzz {

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  for (const ControllerMessage& value :
       {ControllerMessage(proto::ExampleOrder()), ControllerMessage(proto::ExampleMaps()),
        ControllerMessage(ViewUpdate{.view = proto::ExampleAttach().view})}) {
    v1::ControllerMessage message;
    proto::ToProto(value, &message);
    seeds.push_back(message.SerializeAsString());
  }
  return seeds;
}

}  // namespace evenkeel::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenkeel;
  static const google::protobuf::LogSilencer silencer;
  static const GroupInfo group = proto::ExampleGroup();
  v1::ControllerMessage message;
  if (!message.ParseFromArray(data, static_cast<int>(size))) return 0;
  const absl::StatusOr<ControllerMessage> value = proto::FromProto(message, group);
  if (!value.ok()) return 0;
  v1::ControllerMessage again;
  proto::ToProto(*value, &again);
  FUZZ_CHECK(proto::FromProto(again, group).ok());
  return 0;
}
