// SPDX-License-Identifier: Apache-2.0
//
// The real controller in this process, on port zero, and what the tests of its services do with it.
#pragma once

#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "catch2/catch.hpp"

#include "algos/placement.h"
#include "controller/daemon.h"
#include "proto/evenkeel/v1/control.grpc.pb.h"
#include "tests/controller/fake_agent.h"

namespace evenkeel::controller {

using std::chrono::system_clock;

inline ControllerSettings QuickSettings() {
  ControllerSettings settings;
  settings.listen = "127.0.0.1:0";
  settings.coordinator.listen_interval = absl::Milliseconds(20);
  settings.coordinator.defaults.shares_interval = absl::Milliseconds(50);
  settings.coordinator.defaults.window = absl::Milliseconds(50);
  settings.coordinator.defaults.placement_enabled = false;
  return settings;
}

// A running controller and a client of its Control service.
struct Running {
  explicit Running(ControllerSettings settings = QuickSettings()) {
    spdlog::set_level(spdlog::level::off);
    auto started = Daemon::Start({.settings = std::move(settings), .on_end = [this](absl::Status why) {
                                    end = std::move(why);
                                    ended.Notify();
                                  }});
    INFO(started.status().ToString());
    REQUIRE(started.ok());
    daemon = *std::move(started);
    // Its own connections: another test's controller may have had the same port.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    control = v1::Control::NewStub(
        grpc::CreateCustomChannel(daemon->address(), grpc::InsecureChannelCredentials(), arguments));
  }

  absl::Notification ended;
  absl::Status end;
  std::unique_ptr<Daemon> daemon;
  std::unique_ptr<v1::Control::Stub> control;
};

inline std::unique_ptr<grpc::ClientContext> Context(int seconds = 60) {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(system_clock::now() + std::chrono::seconds(seconds));
  context->set_wait_for_ready(true);
  return context;
}

inline v1::ListGroupsResponse ListGroups(Running& running) {
  v1::ListGroupsResponse response;
  REQUIRE(running.control->ListGroups(Context().get(), {}, &response).ok());
  return response;
}

inline v1::Group GetGroup(Running& running, const std::string& name) {
  v1::Group group;
  v1::GetGroupRequest request;
  request.set_group(name);
  const grpc::Status status = running.control->GetGroup(Context().get(), request, &group);
  INFO(status.error_message());
  REQUIRE(status.ok());
  return group;
}

// The status of a rearrangement, and the operation it told of last; `told`: all that it told.
inline std::pair<grpc::Status, v1::Operation> Rearrange(Running& running, const v1::RearrangeRequest& request,
                                                        std::vector<v1::Operation>* told = nullptr) {
  const auto context = Context();
  const auto reader = running.control->Rearrange(context.get(), request);
  v1::Operation operation, last;
  while (reader->Read(&operation)) {
    last = operation;
    if (told != nullptr) told->push_back(operation);
  }
  return {reader->Finish(), last};
}

// A whole group that serves; its loads are skewed towards experts 1 and 5, which have one replica each.
class ServingGroup {
 public:
  ServingGroup(Running& running, const std::string& name) : group_(FakeGroup(name)), served_(4) {
    for (int rank = 0; rank < 4; ++rank) {
      agents_.push_back(std::make_unique<FakeAgent>(running.daemon->address()));
      REQUIRE(agents_.back()->Send(FakeAttach(group_, rank)));
    }
    for (size_t rank = 0; rank < 4; ++rank) {
      threads_.emplace_back([this, rank] { served_[rank] = ServeRank(*agents_[rank], group_); });
    }
    threads_.emplace_back([this] {
      while (!joining_.WaitForNotificationWithTimeout(absl::Milliseconds(10))) Report();
    });
    const auto deadline = system_clock::now() + std::chrono::seconds(60);
    while (GetGroup(running, name).forming()) REQUIRE(system_clock::now() < deadline);
    // Nothing may be asked for before the term is stored; that no pause is there to be ended tells that it is.
    v1::ResumeRequest resume;
    resume.set_group(name);
    v1::Operation none;
    while (running.control->Resume(Context().get(), resume, &none).error_code() == grpc::StatusCode::UNAVAILABLE) {
      REQUIRE(system_clock::now() < deadline);
    }
  }

  // After the daemon has stopped, or the streams have ended otherwise.
  int Join() {
    joining_.Notify();
    int num_moves = 0;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    for (const ServedRank& served : served_) num_moves += served.num_moves;
    return num_moves;
  }

 private:
  void Report() {
    const algos::Placement placement = algos::DefaultPlacement(group_.shape);
    for (int rank = 0; rank < 4; ++rank) {
      LoadReport report{.time = absl::Now(), .first_step = 1, .last_step = 1, .entries = {}, .num_unrouted_tokens = 0};
      for (int i = 0; i < 6; ++i) {
        const SlotIdx slot = group_.shape.SlotAt(RankId(rank), i % 3);
        const ExpertId expert = placement.expert_of_slot[slot.idx()];
        report.entries.push_back({LayerId(i / 3), slot, expert, expert.value() % 4 == 1 ? 1000u : 10u});
      }
      agents_[static_cast<size_t>(rank)]->Send(report);
    }
  }

  const GroupInfo group_;
  absl::Notification joining_;
  std::vector<ServedRank> served_;
  std::vector<std::unique_ptr<FakeAgent>> agents_;
  std::vector<std::thread> threads_;
};

}  // namespace evenkeel::controller
