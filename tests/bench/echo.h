// SPDX-License-Identifier: Apache-2.0
//
// Echo: the plain reference of the fast loop: a bare gRPC server on loopback that answers each message on all of its
// streams, and clients that read the answers.
#pragma once

#include <grpcpp/grpcpp.h>

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "proto/evenkeel/v1/agent.grpc.pb.h"

namespace evenkeel::bench {

class EchoServer final : public v1::AgentService::Service {
 public:
  explicit EchoServer(v1::ControllerMessage answer) : answer_(std::move(answer)) {}

  grpc::Status Attach(grpc::ServerContext*,
                      grpc::ServerReaderWriter<v1::ControllerMessage, v1::AgentMessage>* stream) override {
    {
      absl::MutexLock lock(&mutex_);
      streams_.push_back(stream);
    }
    v1::AgentMessage message;
    while (stream->Read(&message)) {
      absl::MutexLock lock(&mutex_);
      for (auto* one : streams_) one->Write(answer_);
    }
    absl::MutexLock lock(&mutex_);
    std::erase(streams_, stream);
    return grpc::Status::OK;
  }
  size_t num_streams() const {
    absl::MutexLock lock(&mutex_);
    return streams_.size();
  }

 private:
  const v1::ControllerMessage answer_;
  mutable absl::Mutex mutex_;
  std::vector<grpc::ServerReaderWriter<v1::ControllerMessage, v1::AgentMessage>*> streams_ ABSL_GUARDED_BY(mutex_);
};

class Echo {
 public:
  static constexpr int kStreams = 8;

  Echo(v1::AgentMessage question, const v1::ControllerMessage& answer)
      : question_(std::move(question)), service_(answer) {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    for (Client& client : clients_) {
      // A connection of its own, as an agent has.
      grpc::ChannelArguments arguments;
      arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
      client.stub = v1::AgentService::NewStub(grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port),
                                                                        grpc::InsecureChannelCredentials(), arguments));
      client.stream = client.stub->Attach(&client.context);
      client.reader = std::thread([this, &client] {
        v1::ControllerMessage message;
        while (client.stream->Read(&message)) ++num_read_;
      });
    }
    while (service_.num_streams() < kStreams) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ~Echo() {
    for (Client& client : clients_) client.context.TryCancel();
    for (Client& client : clients_) client.reader.join();
    server_->Shutdown(std::chrono::system_clock::now());
  }

  Echo(const Echo&) = delete;
  Echo& operator=(const Echo&) = delete;

  // One message in; ended once all clients have read its answer.
  void Begin() {
    num_read_ = 0;
    clients_[kStreams - 1].stream->Write(question_);
  }
  bool Ended() const { return num_read_ == kStreams; }

 private:
  struct Client {
    grpc::ClientContext context;
    std::unique_ptr<v1::AgentService::Stub> stub;
    std::unique_ptr<grpc::ClientReaderWriter<v1::AgentMessage, v1::ControllerMessage>> stream;
    std::thread reader;
  };

  const v1::AgentMessage question_;
  EchoServer service_;
  std::unique_ptr<grpc::Server> server_;
  std::atomic<int> num_read_{0};
  std::array<Client, kStreams> clients_;
};

}  // namespace evenkeel::bench
