// SPDX-License-Identifier: Apache-2.0
//
// What an agent sends to the controller: what is taken is rendered to what is taken again.
#include "absl/status/statusor.h"
#include "google/protobuf/stubs/logging.h"

#include "proto/convert_agent.h"
#include "proto/evenkeel/v1/agent.pb.h"
#include "tests/fuzz/fuzz.h"
#include "tests/proto/examples.h"

namespace evenkeel::fuzz {

std::vector<std::string> Seeds() {
  Quiesced quiesced{.epoch = {3, 4}, .maps_digest = 5, .view_number = 6};
  std::vector<std::string> seeds;
  for (const AgentMessage& value :
       {AgentMessage(proto::ExampleAttach()), AgentMessage(proto::ExampleReport()), AgentMessage(quiesced),
        AgentMessage(EngineStatus()), AgentMessage(MoveFinished()), AgentMessage(SlotLost())}) {
    v1::AgentMessage message;
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
  v1::AgentMessage message;
  if (!message.ParseFromArray(data, static_cast<int>(size))) return 0;
  for (const GroupInfo* of : {static_cast<const GroupInfo*>(nullptr), &group}) {
    const absl::StatusOr<AgentMessage> value = proto::FromProto(message, of);
    if (!value.ok()) continue;
    v1::AgentMessage again;
    proto::ToProto(*value, &again);
    FUZZ_CHECK(proto::FromProto(again, of).ok());
  }
  return 0;
}
