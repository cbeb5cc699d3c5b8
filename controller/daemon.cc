// SPDX-License-Identifier: Apache-2.0
#include "controller/daemon.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

#include "algos/base/status_macros.h"
#include "controller/access/certificates.h"
#include "controller/access/gate.h"
#include "controller/agent_service.h"
#include "controller/conductor.h"
#include "controller/control_service.h"
#include "controller/convert_operation.h"
#include "controller/http/gateway.h"
#include "controller/http/metrics.h"
#include "controller/http/transcoder.h"
#include "controller/planner.h"
#include "controller/sqlite_store.h"
#include "runtime/clock.h"
#include "runtime/strand.h"

namespace evenkeel::controller {
namespace {

// Calls get so long to end by themselves.
constexpr std::chrono::seconds kShutdownGrace{1};
// A strand that is busy for longer answers no scrape.
constexpr absl::Duration kMetricsDeadline = absl::Seconds(2);
constexpr unsigned int kLookAtFilesSeconds = 1;
// A peer that answers no ping is gone.
constexpr int kKeepaliveMs = 5000;

// The files are read again when they change. TLS proves that a caller has the key of the certificate it shows; whether that
// is trusted is the gate's to say, which can tell the caller why not.
std::shared_ptr<grpc::ServerCredentials> MakeCredentials(const ControllerSettings& settings) {
  if (settings.tls_certificate.empty()) return grpc::InsecureServerCredentials();
  grpc::experimental::TlsServerCredentialsOptions tls(
      std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(settings.tls_key, settings.tls_certificate,
                                                                           kLookAtFilesSeconds));
  tls.watch_identity_key_cert_pairs();
  tls.set_cert_request_type(settings.access.authorities.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                                                : GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_BUT_DONT_VERIFY);
  return grpc::experimental::TlsServerCredentials(tls);
}

}  // namespace

// In order of construction; destroyed in reverse, after Stop.
struct Daemon::State {
  State(ControllerSettings the_settings, std::unique_ptr<Gate> the_gate, std::unique_ptr<SqliteStore> the_store,
        std::function<void(absl::Status)> on_end);

  absl::Status Listen();
  absl::Status ListenForHttp();
  // From any thread; what the strand says, or nothing where it does not answer in time.
  std::optional<MetricsSource> AskForMetrics(GroupDetail detail);
  void Begin();

  const ControllerSettings settings;
  const std::unique_ptr<Gate> gate;
  std::unique_ptr<OwnCertificate> certificate;  // for HTTP; null: no TLS
  const std::unique_ptr<SqliteStore> store;
  runtime::Strand strand;
  Planner planner;
  AgentService agents;
  Conductor conductor;
  ControlService control;
  std::unique_ptr<grpc::Server> server;
  int port = 0;
  std::string address;
  std::unique_ptr<Gateway> gateway;
  bool stopped = false;
};

Daemon::State::State(ControllerSettings the_settings, std::unique_ptr<Gate> the_gate,
                     std::unique_ptr<SqliteStore> the_store, std::function<void(absl::Status)> on_end)
    : settings(std::move(the_settings)),
      gate(std::move(the_gate)),
      store(std::move(the_store)),
      strand({.name = "controller"}),
      agents(strand, *gate,
             {.on_message =
                  [this](SessionId session, AgentMessage message) {
                    conductor.AssertHeld();
                    conductor.Step(AgentMessageReceived{session, std::move(message)});
                  },
              .on_detached =
                  [this](SessionId session) {
                    conductor.AssertHeld();
                    conductor.Step(AgentDetached{session});
                  }},
             {.agents_max = settings.access.agents_max}),
      conductor(strand, settings.coordinator, *store,
                {.send = [this](SessionId session, const SharedMessage& m) { agents.Send(session, m); },
                 .close = [this](SessionId session) { agents.Close(session); },
                 .plan =
                     [this](ComputePlan plan) {
                       planner.Compute(std::move(plan), [this](PlanComputed computed) {
                         // Refused only when the strand has ended, and then nobody waits for plans.
                         (void)strand.PostEssential([this, computed = std::move(computed)] {
                           conductor.AssertHeld();
                           conductor.Step(computed);
                         });
                       });
                     },
                 .end = std::move(on_end)}),
      control(strand, conductor, settings.coordinator.defaults.policy, {*gate, settings.access.watches_max}) {}

absl::Status Daemon::State::Listen() {
  if (!settings.tls_certificate.empty()) {
    EVENKEEL_ASSIGN_OR_RETURN(certificate, OwnCertificate::Open(settings.tls_certificate, settings.tls_key));
  }
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.AddListeningPort(settings.listen, MakeCredentials(settings), &port);
  builder.SetMaxReceiveMessageSize(static_cast<int>(settings.access.message_bytes_max));
  // A second controller on the same port is an error, not a partner.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1000);
  builder.RegisterService(&agents.service());
  builder.RegisterService(&control.service());
  server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    return absl::UnavailableError(
        absl::StrCat("listen on ", settings.listen, ": the address is not ours, or already in use"));
  }
  address = absl::StrCat(settings.listen.substr(0, settings.listen.rfind(':')), ":", port);
  return absl::OkStatus();
}

absl::Status Daemon::State::ListenForHttp() {
  if (settings.http_listen.empty()) return absl::OkStatus();
  EVENKEEL_ASSIGN_OR_RETURN(
      gateway,
      Gateway::Start(
          {.listen = settings.http_listen,
           .gate = *gate,
           .certificate = certificate.get(),
           .body_bytes_max = settings.access.message_bytes_max,
           .ready =
               [this] {
                 const std::optional<MetricsSource> now = AskForMetrics(GroupDetail::kSummary);
                 return now.has_value() && now->leading;
               },
           .metrics = [this] { return MetricsText(AskForMetrics(GroupDetail::kAll).value_or(MetricsSource())); },
           .fastdeploy = settings.fastdeploy},
          Transcoder(server->InProcessChannel({}), "evenkeel.v1.Control")));
  return absl::OkStatus();
}

std::optional<MetricsSource> Daemon::State::AskForMetrics(GroupDetail detail) {
  struct Answer {
    absl::Notification given;
    MetricsSource source;
  };
  const auto answer = std::make_shared<Answer>();
  const absl::Status posted = strand.Post([this, answer, detail] {
    conductor.AssertHeld();
    const Coordinator& core = conductor.coordinator();
    answer->source.refused = gate->refused();
    answer->source.term = core.term();
    answer->source.leading = !core.listening() && !core.stepped_down();
    answer->source.num_store_failures = conductor.num_store_failures();
    answer->source.num_tasks_refused = strand.num_refused();
    answer->source.step_times = conductor.step_times();
    for (const auto& [ended, count] : conductor.ended()) {
      const auto& [group, cause, state] = ended;
      answer->source.operations_ended.push_back({group, NameOf(cause), NameOf(state), count});
    }
    for (const std::string& name : core.ListGroups()) {
      absl::StatusOr<GroupStatus> group = core.GetGroup(name, runtime::MonotonicNow(), detail);
      if (group.ok()) answer->source.groups.push_back(*std::move(group));
    }
    answer->given.Notify();
  });
  if (!posted.ok() || !answer->given.WaitForNotificationWithTimeout(kMetricsDeadline)) return std::nullopt;
  return std::move(answer->source);
}

void Daemon::State::Begin() {
  (void)strand.PostEssential([this] {
    strand.AssertHeld();
    conductor.AssertHeld();
    strand.SetTimer({.next_wakeup =
                         [this] {
                           conductor.AssertHeld();
                           return std::min({conductor.NextWakeup(), control.NextWakeup(), agents.NextWakeup()});
                         },
                     .on_wakeup =
                         [this] {
                           conductor.AssertHeld();
                           const absl::Time now = runtime::MonotonicNow();
                           conductor.Wake(now);
                           control.Wake(now);
                           agents.Wake(now);
                         }});
    // The coordinator learns the time at which it began to listen.
    conductor.Step(Tick{});
  });
}

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(Options options) {
  EVENKEEL_ASSIGN_OR_RETURN(
      std::unique_ptr<SqliteStore> store,
      SqliteStore::Open(
          {.path = options.settings.store, .num_operations_kept = options.settings.coordinator.num_operations_kept}));
  EVENKEEL_ASSIGN_OR_RETURN(options.settings.coordinator,
                            Conductor::Recall(std::move(options.settings.coordinator), *store));
  EVENKEEL_ASSIGN_OR_RETURN(std::unique_ptr<Gate> gate, Gate::Open(options.settings.access));
  auto state = std::make_unique<State>(std::move(options.settings), std::move(gate), std::move(store),
                                       std::move(options.on_end));
  std::unique_ptr<Daemon> daemon(new Daemon(std::move(state)));
  EVENKEEL_RETURN_IF_ERROR(daemon->state_->Listen());
  EVENKEEL_RETURN_IF_ERROR(daemon->state_->ListenForHttp());
  daemon->state_->Begin();
  return daemon;
}

Daemon::Daemon(std::unique_ptr<State> state) : state_(std::move(state)) {}

Daemon::~Daemon() { Stop(); }

const std::string& Daemon::address() const { return state_->address; }

int Daemon::port() const { return state_->port; }

std::string Daemon::http_address() const { return state_->gateway == nullptr ? "" : state_->gateway->address(); }

void Daemon::Stop() {
  if (std::exchange(state_->stopped, true)) return;
  const absl::Status why = absl::UnavailableError("the controller ends");
  state_->agents.CloseAll(why);
  state_->control.EndAll(why);
  if (state_->gateway != nullptr) state_->gateway->Stop();
  if (state_->server != nullptr) {
    state_->server->Shutdown(std::chrono::system_clock::now() + kShutdownGrace);
    state_->server->Wait();
  }
  state_->planner.Stop();
  state_->strand.Stop();
  state_->conductor.Stop();
}

}  // namespace evenkeel::controller
