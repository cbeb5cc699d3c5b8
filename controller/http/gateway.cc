// SPDX-License-Identifier: Apache-2.0
#include "controller/http/gateway.h"

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "httplib.h"

#include "algos/base/status_macros.h"
#include "controller/http/fastdeploy.h"
#include "controller/http/http_error.h"
#include "controller/http/http_server.h"
#include "controller/page/page.h"

namespace evenkeel::controller {

namespace {

constexpr char kJson[] = "application/json";
constexpr char kEvents[] = "text/event-stream";
constexpr char kLines[] = "application/x-ndjson";
constexpr char kPrometheusText[] = "text/plain; version=0.0.4; charset=utf-8";

// Methods that change nothing may be asked by GET.
bool OnlyLooks(const std::string& method) {
  for (const char* verb : {"Get", "List", "Check", "Watch"}) {
    if (absl::StartsWith(method, verb)) return true;
  }
  return false;
}

void Answer(const absl::Status& status, httplib::Response& response) {
  response.status = HttpStatusOf(status.code());
  response.set_content(ErrorJson(status), kJson);
}

// As gRPC's metadata must be.
std::string Printable(std::string text) {
  for (char& c : text) {
    if (c < 0x20 || c >= 0x7F) c = '?';
  }
  return text;
}

// `caller`: as the gate knows it.
Transcoder::Metadata MetadataOf(const httplib::Request& request, const std::string& pass, const std::string& caller) {
  Transcoder::Metadata metadata = {{"evenkeel-pass", pass}};
  if (!caller.empty()) metadata["evenkeel-caller"] = Printable(caller);
  if (request.has_header("Authorization"))
    metadata["authorization"] = Printable(request.get_header_value("Authorization"));
  // For the record of who asked for what (Operation.requested_by).
  if (request.has_header("Evenkeel-User"))
    metadata["evenkeel-user"] = Printable(request.get_header_value("Evenkeel-User"));
  metadata["evenkeel-peer"] = Printable(absl::StrCat(request.remote_addr, ":", request.remote_port));
  return metadata;
}

// What a browser sends of itself where another site's page makes it ask: that page did not have to know a token.
bool IsOfOtherSite(const httplib::Request& request) {
  if (!request.has_header("Origin")) return false;
  const std::string origin = request.get_header_value("Origin");
  const size_t scheme = origin.find("://");
  return scheme == std::string::npos || origin.substr(scheme + 3) != request.get_header_value("Host");
}

// What a browser calls this host by itself. Another name may have been made by somebody else to lead here, so that a page of
// his is of the same site.
bool IsOwnName(const std::string& host) {
  const std::string name = host.substr(0, host.find_last_not_of("0123456789") + 1);
  const std::string plain = absl::EndsWith(name, ":") ? name.substr(0, name.size() - 1) : host;
  return plain.empty() || plain == "localhost" || plain.front() == '[' ||
         plain.find_first_not_of("0123456789.") == std::string::npos;
}

bool IsLoopback(const std::string& address) {
  return absl::StartsWith(address, "127.") || absl::StartsWith(address, "localhost:") ||
         absl::StartsWith(address, "[::1]");
}

struct Address {
  std::string host;
  int port = 0;
};

absl::StatusOr<Address> ParseAddress(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  Address address;
  if (colon == std::string::npos || colon == 0 || !absl::SimpleAtoi(listen.substr(colon + 1), &address.port) ||
      address.port < 0 || address.port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("http_listen is '", listen, "': HOST:PORT wanted"));
  }
  address.host = listen.substr(0, colon);
  return address;
}

}  // namespace

struct Gateway::State {
  State(Options the_options, Transcoder the_transcoder)
      : options(std::move(the_options)),
        transcoder(std::move(the_transcoder)),
        fastdeploy(options.fastdeploy,
                   [this](const std::string& method, const std::string& json) { return CallOrFirst(method, json); }) {}

  // Who asks, where the gate lets it; answered otherwise.
  using Route = std::function<void(const httplib::Request&, httplib::Response&, const Caller& caller)>;

  absl::Status Listen();
  // What the gate knows the route by.
  void Get(const std::string& pattern, std::string method, Route route);
  void Post(const std::string& pattern, std::string method, Route route);
  httplib::Server::Handler Guarded(std::string method, Route route);
  void RouteAll();
  void RouteCalls();
  void SetUp();
  void RouteFastDeploy();
  // What a call answers; of a stream, its first message, and then nobody listens any more.
  Transcoder::Metadata FromFastDeploy() const {
    return {{"evenkeel-pass", options.gate.pass()}, {"evenkeel-user", "fastdeploy"}};
  }
  absl::StatusOr<std::string> CallOrFirst(const std::string& method, const std::string& json);
  void Ask(const std::string& method, const absl::StatusOr<std::string>& json, const httplib::Request& request,
           httplib::Response& response, const Caller& caller);
  void Stream(const std::string& method, const std::string& json, const httplib::Request& request,
              httplib::Response& response, const Caller& caller);

  const Options options;
  const Transcoder transcoder;
  FastDeploy fastdeploy;
  std::unique_ptr<httplib::Server> http;
  std::string address;
  std::thread thread;
  absl::Notification ended;  // the thread listens no more
  std::atomic<bool> stopping = false;
  std::atomic<int> num_streams = 0;
};

void Gateway::State::Ask(const std::string& method, const absl::StatusOr<std::string>& json,
                         const httplib::Request& request, httplib::Response& response, const Caller& caller) {
  if (!json.ok()) return Answer(json.status(), response);
  if (transcoder.IsStream(method)) return Stream(method, *json, request, response, caller);
  const absl::StatusOr<std::string> answer =
      transcoder.Call(method, *json, MetadataOf(request, options.gate.pass(), caller.name), kCallDeadline);
  if (!answer.ok()) return Answer(answer.status(), response);
  response.set_content(*answer, kJson);
}

void Gateway::State::Stream(const std::string& method, const std::string& json, const httplib::Request& request,
                            httplib::Response& response, const Caller& caller) {
  if (++num_streams > kStreamsMax || stopping) {
    --num_streams;
    return Answer(options.gate.Refuse(Refusal::kWatches, absl::StrCat("already ", kStreamsMax, " streams")), response);
  }
  const auto leave = [this](bool) { --num_streams; };
  absl::StatusOr<std::unique_ptr<Transcoder::Stream>> opened =
      transcoder.Open(method, json, MetadataOf(request, options.gate.pass(), caller.name));
  if (!opened.ok()) {
    leave(false);
    return Answer(opened.status(), response);
  }
  const std::shared_ptr<Transcoder::Stream> stream = *std::move(opened);
  const bool events = OnlyLooks(method) || absl::StrContains(request.get_header_value("Accept"), kEvents);
  // What steers answers at once; that it is refused is a status, as of any call.
  absl::StatusOr<std::optional<std::string>> first = std::optional<std::string>();
  if (!events) {
    first = stream->Next([this] { return !stopping; });
    if (!first.ok() || !first->has_value()) {
      leave(false);
      return Answer(first.ok() ? absl::UnavailableError(absl::StrCat(method, " told nothing")) : first.status(),
                    response);
    }
  }
  response.set_header("Cache-Control", "no-store");
  response.set_chunked_content_provider(
      events ? kEvents : kLines,
      [this, stream, events, first = *first](size_t, httplib::DataSink& sink) {
        const auto write = [&](const std::string& text) { return sink.write(text.data(), text.size()); };
        const auto framed = [&](const char* name, const std::string& message) {
          return events ? absl::StrCat(name, "data: ", message, "\n\n") : message + "\n";
        };
        const auto goes_on = [&] { return !stopping && sink.is_writable() && (!events || write(":\n\n")); };
        bool open = !first.has_value() || write(framed("", *first));
        while (open && !stopping) {
          const absl::StatusOr<std::optional<std::string>> next = stream->Next(goes_on);
          if (!next.ok() && sink.is_writable()) write(framed("event: error\n", ErrorJson(next.status())));
          open = next.ok() && next->has_value() && write(framed("", **next));
        }
        sink.done();
        return true;
      },
      leave);
}

absl::StatusOr<std::string> Gateway::State::CallOrFirst(const std::string& method, const std::string& json) {
  if (!transcoder.IsStream(method)) return transcoder.Call(method, json, FromFastDeploy(), kCallDeadline);
  const absl::Time end = absl::Now() + kCallDeadline;
  EVENKEEL_ASSIGN_OR_RETURN(const auto stream, transcoder.Open(method, json, FromFastDeploy()));
  EVENKEEL_ASSIGN_OR_RETURN(std::optional<std::string> first,
                            stream->Next([&] { return !stopping && absl::Now() < end; }));
  if (first.has_value()) return *std::move(first);
  return absl::UnavailableError(absl::StrCat(method, " told nothing"));
}

void Gateway::State::RouteFastDeploy() {
  const std::pair<const char*, FastDeploy::Reply (FastDeploy::*)(const std::string&)> routes[] = {
      {"/rearrange_experts", &FastDeploy::RearrangeExperts},
      {"/get_per_expert_tokens_stats", &FastDeploy::TokensStats},
      {"/check_redundant", &FastDeploy::CheckRedundant}};
  for (const auto& [path, route] : routes) {
    Post(path, absl::StrCat("POST ", path), [this, route = route](const auto& request, auto& response, const Caller&) {
      const FastDeploy::Reply reply = (fastdeploy.*route)(request.body);
      response.status = reply.http_status;
      response.set_content(reply.body, kJson);
    });
  }
}

httplib::Server::Handler Gateway::State::Guarded(std::string method, Route route) {
  return [this, method = std::move(method), route = std::move(route)](const httplib::Request& request,
                                                                      httplib::Response& response) {
    const std::string name = method.empty() ? std::string(request.matches[1]) : method;
    const bool foreign_name =
        IsLoopback(address) && !options.gate.tells_apart() && !IsOwnName(request.get_header_value("Host"));
    if (foreign_name || IsOfOtherSite(request)) {
      return Answer(
          options.gate.Refuse(Refusal::kOtherSite,
                              absl::StrCat(name, " asked for by ",
                                           Printable(request.get_header_value(foreign_name ? "Host" : "Origin")))),
          response);
    }
    const absl::StatusOr<Caller> caller = options.gate.Admit(CredentialsOf(request), name);
    if (caller.ok()) return route(request, response, *caller);
    if (absl::IsUnauthenticated(caller.status()) && options.gate.takes_tokens()) {
      response.set_header("WWW-Authenticate", "Basic realm=\"evenkeel: any name, a token as password\"");
    }
    Answer(caller.status(), response);
  };
}

void Gateway::State::Get(const std::string& pattern, std::string method, Route route) {
  http->Get(pattern, Guarded(std::move(method), std::move(route)));
}

void Gateway::State::Post(const std::string& pattern, std::string method, Route route) {
  http->Post(pattern, Guarded(std::move(method), std::move(route)));
}

void Gateway::State::RouteCalls() {
  const auto known = [this](const std::string& method, httplib::Response& response) {
    if (transcoder.Has(method)) return true;
    Answer(absl::NotFoundError(absl::StrCat("no method ", method)), response);
    return false;
  };
  // The gate knows them by their own names.
  Post(R"(/v1/(\w+))", "", [=, this](const auto& request, auto& response, const Caller& caller) {
    const std::string method = request.matches[1];
    if (known(method, response)) Ask(method, request.body, request, response, caller);
  });
  Get(R"(/v1/(\w+))", "", [=, this](const auto& request, auto& response, const Caller& caller) {
    const std::string method = request.matches[1];
    if (!known(method, response)) return;
    if (!OnlyLooks(method)) {
      response.set_header("Allow", "POST");
      response.status = 405;
      return response.set_content(ErrorJson(absl::UnimplementedError(absl::StrCat(method, " needs POST"))), kJson);
    }
    Ask(method, transcoder.RequestOf(method, {request.params.begin(), request.params.end()}), request, response,
        caller);
  });
}

void Gateway::State::RouteAll() {
  Get("/healthz", "GET /healthz",
      [](const auto&, auto& response, const Caller&) { response.set_content("ok\n", "text/plain"); });
  Get("/readyz", "GET /readyz", [this](const auto&, auto& response, const Caller&) {
    if (options.ready()) return response.set_content("ok\n", "text/plain");
    Answer(absl::UnavailableError("the controller does not lead yet"), response);
  });
  Get("/metrics", "GET /metrics", [this](const auto&, auto& response, const Caller&) {
    if (options.metrics) return response.set_content(options.metrics(), kPrometheusText);
    Answer(absl::NotFoundError("no metrics"), response);
  });
  RouteCalls();
  RouteFastDeploy();
  for (const PageFile& file : PageFiles()) {
    const auto serve = [&file](const auto&, auto& response, const Caller&) {
      response.set_header("Cache-Control", "no-cache");
      response.set_content(file.bytes.data(), file.bytes.size(), std::string(file.type));
    };
    Get(absl::StrCat("/", std::string(file.name)), "GET /page", serve);
    if (file.name == "index.html") Get("/", "GET /page", serve);
  }
}

void Gateway::State::SetUp() {
  http->new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  http->set_payload_max_length(options.body_bytes_max);
  http->set_keep_alive_max_count(100);
  http->set_keep_alive_timeout(2);  // an idle connection holds a thread
  http->set_read_timeout(10);
  http->set_write_timeout(10);
  http->set_default_headers({{"X-Content-Type-Options", "nosniff"},
                             {"X-Frame-Options", "DENY"},
                             {"Content-Security-Policy", "default-src 'self'; style-src 'self' 'unsafe-inline'"}});
  http->set_error_handler([this](const httplib::Request& request, httplib::Response& response) {
    if (!response.body.empty()) return;
    const std::string what = absl::StrCat(request.method, " ", request.path);
    response.set_content(
        ErrorJson(response.status == 413
                      ? options.gate.Refuse(Refusal::kMessageBytes,
                                            absl::StrCat(what, ": more than ", options.body_bytes_max, " bytes"))
                      : absl::NotFoundError("nothing at " + what)),
        kJson);
  });
  // By default the library shares ports among processes.
  http->set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
}

absl::Status Gateway::State::Listen() {
  const absl::StatusOr<Address> wanted = ParseAddress(options.listen);
  if (!wanted.ok()) return wanted.status();
  http = MakeHttpServer(options.certificate,
                        options.gate.takes_certificates() ? CallersShow::kCertificate : CallersShow::kNoCertificate);
  SetUp();
  RouteAll();
  const int port = wanted->port == 0 ? http->bind_to_any_port(wanted->host.c_str())
                                     : (http->bind_to_port(wanted->host.c_str(), wanted->port) ? wanted->port : -1);
  if (port < 0) {
    return absl::UnavailableError(
        absl::StrCat("listen for HTTP on ", options.listen, ": the address is not ours, or already in use"));
  }
  address = absl::StrCat(wanted->host, ":", port);
  thread = std::thread([this] {
    http->listen_after_bind();
    ended.Notify();
  });
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Gateway>> Gateway::Start(Options options, Transcoder transcoder) {
  auto state = std::make_unique<State>(std::move(options), std::move(transcoder));
  if (absl::Status status = state->Listen(); !status.ok()) return status;
  return std::unique_ptr<Gateway>(new Gateway(std::move(state)));
}

Gateway::Gateway(std::unique_ptr<State> state) : state_(std::move(state)) {}

Gateway::~Gateway() { Stop(); }

const std::string& Gateway::address() const { return state_->address; }

void Gateway::Stop() {
  if (state_->stopping.exchange(true)) return;
  // Stopping a server that has not begun to listen would not be noticed.
  while (!state_->http->is_running() && !state_->ended.WaitForNotificationWithTimeout(absl::Milliseconds(1))) {
  }
  state_->http->stop();
  state_->thread.join();
}

}  // namespace evenkeel::controller
