// SPDX-License-Identifier: Apache-2.0
//
// FakeAgent: one agent's stream over real gRPC, driven by a test: what it sends is written by hand, what it hears
// is read one message at a time. A whole fake group serves by the maps it is sent and finishes its moves at once.
//
// Threads:   Send from any; the rest from one.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"

#include "algos/protocol/messages.h"
#include "proto/evenkeel/v1/agent.grpc.pb.h"

namespace evenkeel::controller {

// 4 ranks x 3 slots, 8 experts, 2 layers, after the default placement.
GroupInfo FakeGroup(const std::string& name);
Attach FakeAttach(const GroupInfo& group, int rank);

class FakeAgent {
 public:
  // `token`: that it bears; empty: none.
  explicit FakeAgent(const std::string& address, const std::string& token = {});
  // Cancels the stream.
  ~FakeAgent();

  bool Send(const AgentMessage& message);
  bool SendRaw(const v1::AgentMessage& message);

  // The next message, of a group of this shape; nothing if the stream ended.
  std::optional<ControllerMessage> Read(const GroupInfo& group);

  // What the stream ended with. Ends the test with a deadline error if it does not.
  grpc::Status End();

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::AgentService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::AgentMessage, v1::ControllerMessage>> stream_;
  absl::Mutex writing_;  // one write at a time
};

// Answers everything that the controller asks of one rank, until its stream ends: maps are taken and quiesced,
// moves finish with the fingerprint that was ordered.
struct ServedRank {
  Epoch epoch;  // of the newest maps
  int num_moves = 0;
};
ServedRank ServeRank(FakeAgent& agent, const GroupInfo& group);

}  // namespace evenkeel::controller
