// SPDX-License-Identifier: Apache-2.0
#include "tests/agent/fake_controller.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "catch2/catch.hpp"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"

#include "proto/convert_agent.h"
#include "proto/convert_controller.h"
#include "proto/evenkeel/v1/agent.grpc.pb.h"

namespace evenkeel::agent {

class FakeController::Service : public v1::AgentService::Service {
 public:
  explicit Service(FakeController& owner) : owner_(owner) {}

  grpc::Status Attach(grpc::ServerContext*,
                      grpc::ServerReaderWriter<v1::ControllerMessage, v1::AgentMessage>* stream) override {
    int number = 0;
    {
      absl::MutexLock lock(&owner_.mutex_);
      number = ++owner_.num_streams_;
      owner_.say_ = [stream](const ControllerMessage& message) {
        v1::ControllerMessage wire;
        proto::ToProto(message, &wire);
        return stream->Write(wire);
      };
    }
    std::optional<GroupInfo> group;
    v1::AgentMessage wire;
    while (stream->Read(&wire)) {
      const absl::StatusOr<AgentMessage> message = proto::FromProto(wire, group ? &*group : nullptr);
      if (!message.ok()) return {grpc::StatusCode::INVALID_ARGUMENT, std::string(message.status().message())};
      if (const auto* attach = std::get_if<evenkeel::Attach>(&*message)) group = attach->group;
      absl::MutexLock lock(&owner_.mutex_);
      owner_.heard_.push_back(*message);
    }
    absl::MutexLock lock(&owner_.mutex_);
    if (owner_.num_streams_ == number) owner_.say_ = nullptr;
    return grpc::Status::OK;
  }

 private:
  FakeController& owner_;
};

FakeController::FakeController(int port) : service_(std::make_unique<Service>(*this)) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(absl::StrCat("127.0.0.1:", port), grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(service_.get());
  server_ = builder.BuildAndStart();
  REQUIRE(server_ != nullptr);
  REQUIRE(port_ != 0);
}

FakeController::~FakeController() { Stop(); }

void FakeController::Stop() {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_ = nullptr;
}

std::string FakeController::address() const { return absl::StrCat("127.0.0.1:", port_); }

void FakeController::Rewind() {
  absl::MutexLock lock(&mutex_);
  looked_at_ = 0;
}

int FakeController::num_streams() const {
  absl::MutexLock lock(&mutex_);
  return num_streams_;
}

bool FakeController::Say(const ControllerMessage& message) {
  absl::MutexLock lock(&mutex_);
  return say_ != nullptr && say_(message);
}

}  // namespace evenkeel::agent
