// SPDX-License-Identifier: Apache-2.0
//
// large_group: a controller in this process and the agents of one large group, which only report: what the web page's
// test and the bench of the HTTP port look at. Serves until SIGTERM.
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "algos/placement.h"
#include "controller/daemon.h"
#include "proto/convert_agent.h"
#include "proto/convert_common.h"
#include "proto/evenkeel/v1/agent.grpc.pb.h"

ABSL_FLAG(int, ranks, 320, "ranks of the group");
ABSL_FLAG(int, layers, 61, "its layers");
ABSL_FLAG(int, experts, 256, "experts of each layer");
ABSL_FLAG(int, slots_per_rank, 1, "slots of each rank and layer");
ABSL_FLAG(int, report_ms, 500, "between the reports of an agent");

namespace evenkeel::controller {
namespace {

constexpr int kChannels = 8;

GroupInfo LargeGroup() {
  GroupInfo group;
  group.name = "large";
  group.model = "deepseek-v3-shaped";
  group.weights_version = 1;
  group.manifest_digest = 2;
  group.shape = {.num_experts = absl::GetFlag(FLAGS_experts),
                 .num_ranks = absl::GetFlag(FLAGS_ranks),
                 .slots_per_rank = absl::GetFlag(FLAGS_slots_per_rank)};
  group.num_layers = absl::GetFlag(FLAGS_layers);
  group.num_nodes = 1;
  group.expert_bytes = 44 << 20;
  group.count_place = CountPlace::kAfterDispatch;
  group.routing = Routing::kSender;
  return group;
}

// A stream of one rank: attaches, reports at its rate, drops what it hears.
class Agent {
 public:
  Agent(const GroupInfo& group, int rank, const std::shared_ptr<grpc::Channel>& channel)
      : group_(group), rank_(rank), stub_(v1::AgentService::NewStub(channel)), stream_(stub_->Attach(&context_)) {
    Attach attach;
    attach.group = group_;
    attach.member = {RankId(rank), static_cast<uint64_t>(rank) + 1};
    const algos::Placement placement = algos::DefaultPlacement(group_.shape);
    for (int layer = 0; layer < group_.num_layers; ++layer) {
      for (int local = 0; local < group_.shape.slots_per_rank; ++local) {
        const SlotIdx slot = group_.shape.SlotAt(RankId(rank), local);
        const ExpertId expert = placement.expert_of_slot[slot.idx()];
        attach.slots.push_back({SlotState::kVerified, expert, 1, static_cast<uint64_t>(expert.value()) + 1});
        entries_.push_back({LayerId(layer), slot, expert, 0});
      }
    }
    Send(AgentMessage(std::move(attach)));
    reader_ = std::thread([this] {
      v1::ControllerMessage heard;
      while (stream_->Read(&heard)) {
      }
    });
  }
  ~Agent() {
    context_.TryCancel();
    reader_.join();
    stream_->Finish();
  }

  void Report(uint64_t step) {
    LoadReport report;
    report.time = absl::Now();
    report.first_step = report.last_step = step;
    for (LoadReport::Entry entry : entries_) {
      // A few hot experts in every layer, which wander slowly.
      const uint64_t place = (static_cast<uint64_t>(entry.expert.value()) * 37 +
                              static_cast<uint64_t>(entry.layer.value()) * 11 + step / 20) %
                             256;
      entry.tokens = 20'000 / (1 + place);
      report.entries.push_back(entry);
    }
    Send(AgentMessage(std::move(report)));
    EngineStatus status;
    status.alive = true;
    status.num_steps = step;
    status.called_begin_step = status.called_end_step = status.called_route = true;
    Send(AgentMessage(std::move(status)));
  }

 private:
  void Send(const AgentMessage& message) {
    v1::AgentMessage wire;
    proto::ToProto(message, &wire);
    stream_->Write(wire);
  }

  const GroupInfo group_;
  const int rank_;
  std::vector<LoadReport::Entry> entries_;
  grpc::ClientContext context_;
  const std::unique_ptr<v1::AgentService::Stub> stub_;
  const std::unique_ptr<grpc::ClientReaderWriter<v1::AgentMessage, v1::ControllerMessage>> stream_;
  std::thread reader_;
};

int Run() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  spdlog::set_level(spdlog::level::warn);
  ControllerSettings settings;
  settings.listen = settings.http_listen = "127.0.0.1:0";
  settings.coordinator.defaults.shares_enabled = settings.coordinator.defaults.placement_enabled = false;
  auto daemon = Daemon::Start({.settings = settings, .on_end = [](const absl::Status&) {}});
  if (!daemon.ok()) {
    std::fprintf(stderr, "large_group: %s\n", daemon.status().ToString().c_str());
    return 1;
  }
  const GroupInfo group = LargeGroup();
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int i = 0; i < kChannels; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(proto::kMessageBytesMax);
    channels.push_back(grpc::CreateCustomChannel((*daemon)->address(), grpc::InsecureChannelCredentials(), arguments));
  }
  std::vector<std::unique_ptr<Agent>> agents;
  for (int rank = 0; rank < group.shape.num_ranks; ++rank) {
    agents.push_back(std::make_unique<Agent>(group, rank, channels[static_cast<size_t>(rank % kChannels)]));
  }
  absl::Notification ending;
  std::thread reporter([&] {
    for (uint64_t step = 1; !ending.WaitForNotificationWithTimeout(absl::Milliseconds(absl::GetFlag(FLAGS_report_ms)));
         ++step) {
      for (const auto& agent : agents) agent->Report(step);
    }
  });
  std::printf("%s\n", (*daemon)->http_address().c_str());
  std::fflush(stdout);
  int signal = 0;
  sigwait(&signals, &signal);
  ending.Notify();
  reporter.join();
  agents.clear();
  (*daemon)->Stop();
  return 0;
}

}  // namespace
}  // namespace evenkeel::controller

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return evenkeel::controller::Run();
}
