// SPDX-License-Identifier: Apache-2.0
//
// How many load reports a controller takes in, and how fast agents attach, over real gRPC on loopback.
//
// 64 agents of one group, 58 layers, 9 local slots each, as a DeepSeek-V3-shaped group on 64 ranks has. The plain
// reference is a gRPC server that reads the same streams and counts messages, in the same process and run. With --tls a
// third run has the controller and its agents speak TLS, both with certificates that are checked (it needs openssl).
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/time/clock.h"

#include "controller/daemon.h"
#include "proto/convert_agent.h"
#include "proto/evenkeel/v1/agent.grpc.pb.h"
#include "proto/evenkeel/v1/control.grpc.pb.h"
#include "runtime/client_credentials.h"

namespace evenkeel {
namespace {

constexpr int kAgents = 64;
constexpr int kLayers = 58;
constexpr int kSlotsPerRank = 9;
constexpr int kExperts = 256;
constexpr double kReportsPerSecond = 20'000;
constexpr double kSeconds = 10;
constexpr double kPatience = 60;  // seconds until a server that does not count everything is given up

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

GroupInfo BenchGroup() {
  GroupInfo group;
  group.name = "bench";
  group.model = "deepseek-v3-shaped";
  group.manifest_digest = 1;
  group.shape = {.num_experts = kExperts, .num_ranks = kAgents, .slots_per_rank = kSlotsPerRank};
  group.num_layers = kLayers;
  group.expert_bytes = 44 << 20;
  return group;
}

// Calls `visit` with every slot of a rank and the expert it begins with.
void ForEachSlot(int rank, const std::function<void(LayerId, SlotIdx, ExpertId)>& visit) {
  const algos::Shape shape = BenchGroup().shape;
  const algos::Placement placement = algos::DefaultPlacement(shape);
  for (int layer = 0; layer < kLayers; ++layer) {
    for (int local = 0; local < kSlotsPerRank; ++local) {
      const SlotIdx slot = shape.SlotAt(RankId(rank), local);
      visit(LayerId(layer), slot, placement.expert_of_slot[slot.idx()]);
    }
  }
}

v1::AgentMessage AttachOf(int rank) {
  Attach attach;
  attach.group = BenchGroup();
  attach.member = {RankId(rank), static_cast<uint64_t>(rank) + 1};
  ForEachSlot(rank, [&](LayerId, SlotIdx, ExpertId expert) {
    attach.slots.push_back({SlotState::kVerified, expert, 1, expert.idx() + 1});
  });
  v1::AgentMessage message;
  proto::ToProto(AgentMessage(std::move(attach)), &message);
  return message;
}

v1::AgentMessage ReportOf(int rank) {
  LoadReport report;
  report.time = absl::Now();
  ForEachSlot(rank, [&](LayerId layer, SlotIdx slot, ExpertId expert) {
    report.entries.push_back({layer, slot, expert, 100 + slot.idx()});
  });
  v1::AgentMessage message;
  proto::ToProto(AgentMessage(std::move(report)), &message);
  return message;
}

class CountingService final : public v1::AgentService::Service {
 public:
  std::atomic<uint64_t> num_reports{0};

  grpc::Status Attach(grpc::ServerContext*,
                      grpc::ServerReaderWriter<v1::ControllerMessage, v1::AgentMessage>* stream) override {
    v1::AgentMessage message;
    if (!stream->Read(&message) || !stream->Write(v1::ControllerMessage())) return grpc::Status::OK;
    while (stream->Read(&message)) ++num_reports;
    return grpc::Status::OK;
  }
};

// All agents, a thread each: they attach, send at the asked rate, and stay until they are let go.
class Load {
 public:
  Load(std::string address, runtime::ClientCredentials credentials)
      : address_(std::move(address)), credentials_(std::move(credentials)) {
    for (int rank = 0; rank < kAgents; ++rank) {
      threads_.emplace_back([this, rank] { RunAgent(rank); });
    }
  }
  ~Load() {
    stage_ = kLeave;
    stage_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  // Each waits for the slowest agent.
  double Attach() {
    const auto begin = Clock::now();
    while (num_attached_ < kAgents) std::this_thread::yield();
    return SecondsSince(begin);
  }
  uint64_t Send() {
    stage_ = kSend;
    stage_.notify_all();
    while (num_done_ < kAgents) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return num_sent_;
  }

 private:
  enum Stage { kAttach, kSend, kLeave };

  void RunAgent(int rank) {
    // A connection each, as real agents have.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto stub =
        v1::AgentService::NewStub(grpc::CreateCustomChannel(address_, MakeChannelCredentials(credentials_), arguments));
    grpc::ClientContext context;
    const auto stream = stub->Attach(&context);
    v1::ControllerMessage answer;
    if (!stream->Write(AttachOf(rank)) || !stream->Read(&answer)) std::abort();
    ++num_attached_;
    std::thread reader([&] {
      v1::ControllerMessage message;
      while (stream->Read(&message)) {
      }
    });
    stage_.wait(kAttach);
    const v1::AgentMessage report = ReportOf(rank);
    const auto started = Clock::now();
    for (double due = 0; due < kSeconds && stage_ == kSend; due += kAgents / kReportsPerSecond) {
      std::this_thread::sleep_until(started +
                                    std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(due)));
      if (stream->Write(report)) ++num_sent_;
    }
    ++num_done_;
    stage_.wait(kSend);
    context.TryCancel();
    reader.join();
  }

  const std::string address_;
  const runtime::ClientCredentials credentials_;
  std::atomic<Stage> stage_{kAttach};
  std::atomic<int> num_attached_{0};
  std::atomic<int> num_done_{0};
  std::atomic<uint64_t> num_sent_{0};
  std::vector<std::thread> threads_;
};

struct Outcome {
  double attach_seconds = 0;
  double reports_per_second = 0;
  uint64_t num_sent = 0;
  uint64_t num_counted = 0;
};

Outcome Measure(const std::string& address, const runtime::ClientCredentials& credentials,
                const std::function<uint64_t()>& num_counted) {
  Outcome outcome;
  Load load(address, credentials);
  outcome.attach_seconds = load.Attach();
  const auto begin = Clock::now();
  outcome.num_sent = load.Send();
  while ((outcome.num_counted = num_counted()) < outcome.num_sent && SecondsSince(begin) < kSeconds + kPatience) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  outcome.reports_per_second = static_cast<double>(outcome.num_counted) / SecondsSince(begin);
  return outcome;
}

void Print(const char* name, const Outcome& outcome) {
  std::printf("%-10s %d agents attached in %.3f s; %llu reports sent, %llu taken in, %.0f a second\n", name, kAgents,
              outcome.attach_seconds, static_cast<unsigned long long>(outcome.num_sent),
              static_cast<unsigned long long>(outcome.num_counted), outcome.reports_per_second);
}

Outcome MeasureReference() {
  CountingService service;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  return Measure("127.0.0.1:" + std::to_string(port), {}, [&] { return service.num_reports.load(); });
}

// One certificate for all: it names the host, the agents and a viewer, and is its own authority.
runtime::ClientCredentials MakeCertificate(const std::filesystem::path& folder) {
  const std::string certificate = folder / "all.pem", key = folder / "all.key";
  const std::string command =
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=bench -addext "
      "subjectAltName=IP:127.0.0.1,URI:evenkeel://group/bench,URI:evenkeel://viewer -keyout " +
      key + " -out " + certificate + " 2>/dev/null";
  if (std::system(command.c_str()) != 0) std::abort();
  return {.ca = certificate, .certificate = certificate, .key = key, .token = {}, .token_file = {}, .server_name = {}};
}

Outcome MeasureController(const runtime::ClientCredentials& credentials) {
  controller::Daemon::Options options;
  options.settings.listen = "127.0.0.1:0";
  options.settings.log_level = "warning";
  options.settings.coordinator.listen_interval = absl::ZeroDuration();
  options.settings.coordinator.defaults.placement_enabled = false;
  options.settings.tls_certificate = credentials.certificate;
  options.settings.tls_key = credentials.key;
  options.settings.access.authorities = credentials.ca;
  auto daemon = controller::Daemon::Start(std::move(options));
  if (!daemon.ok()) std::abort();
  const auto stub =
      v1::Control::NewStub(grpc::CreateChannel((*daemon)->address(), MakeChannelCredentials(credentials)));
  return Measure((*daemon)->address(), credentials, [&] {
    grpc::ClientContext context;
    v1::GetGroupRequest request;
    request.set_group("bench");
    v1::Group group;
    return stub->GetGroup(&context, request, &group).ok() ? group.totals().load_reports() : 0;
  });
}

}  // namespace
}  // namespace evenkeel

int main(int argc, char** argv) {
  using namespace evenkeel;
  std::printf("input      %d layers x %d local slots a report, %d agents, %.0f reports a second for %.0f s\n", kLayers,
              kSlotsPerRank, kAgents, kReportsPerSecond, kSeconds);
  const Outcome reference = MeasureReference();
  const Outcome ours = MeasureController({});
  Print("ours", ours);
  Print("reference", reference);
  std::printf("lost       %llu (goal 0)\nrate       %.2f of the goal; %.2f of a server that only counts\n",
              static_cast<unsigned long long>(ours.num_sent - ours.num_counted),
              ours.reports_per_second / kReportsPerSecond, ours.reports_per_second / reference.reports_per_second);
  if (argc < 2 || std::string_view(argv[1]) != "--tls") return 0;
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / ("bench-" + std::to_string(getpid()));
  std::filesystem::create_directory(folder);
  const Outcome tls = MeasureController(MakeCertificate(folder));
  std::filesystem::remove_all(folder);
  Print("tls", tls);
  std::printf("tls        %.3f of ours without (goal 0.8)\n", tls.reports_per_second / ours.reports_per_second);
  return 0;
}
