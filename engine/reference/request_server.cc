// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/request_server.h"

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "httplib.h"
#include "nlohmann/json.hpp"

namespace evenkeel::engine {

namespace {

constexpr char kJson[] = "application/json";
constexpr int kTokensByDefault = 32;

int HttpStatus(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return 400;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

std::string Render(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

void AnswerError(const absl::Status& status, httplib::Response& response) {
  response.status = HttpStatus(status);
  response.set_content(Render({{"error", std::string(status.message())}}), kJson);
}

absl::StatusOr<std::string> Complete(const std::string& body, Requests& requests) {
  const auto json = nlohmann::json::parse(body, nullptr, false);
  if (!json.is_object() || !json.contains("prompt") || !json["prompt"].is_string()) {
    return absl::InvalidArgumentError("wanted: {\"prompt\": text, \"max_tokens\": number}");
  }
  int64_t num_tokens = kTokensByDefault;
  if (json.contains("max_tokens")) {
    if (!json["max_tokens"].is_number_integer()) return absl::InvalidArgumentError("max_tokens is no whole number");
    num_tokens = json["max_tokens"].get<int64_t>();
  }
  if (num_tokens < 1 || num_tokens > INT32_MAX) {
    return absl::InvalidArgumentError(absl::StrCat("max_tokens is ", num_tokens));
  }
  return requests.Generate(json["prompt"].get_ref<const std::string&>(), static_cast<int>(num_tokens),
                           absl::Now() + RequestServer::kDeadline);
}

}  // namespace

struct RequestServer::Server {
  httplib::Server http;
  std::thread thread;
  absl::Notification ended;  // the thread listens no more
};

absl::StatusOr<std::unique_ptr<RequestServer>> RequestServer::Start(const Options& options, Requests& requests) {
  auto server = std::make_unique<Server>();
  httplib::Server& http = server->http;
  http.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  http.set_payload_max_length(kBodyBytesMax);
  http.set_keep_alive_max_count(1);  // an idle connection would hold a thread
  http.set_read_timeout(10);
  http.Post("/v1/completions", [options, &requests](const httplib::Request& request, httplib::Response& response) {
    const absl::StatusOr<std::string> text = Complete(request.body, requests);
    if (!text.ok()) return AnswerError(text.status(), response);
    response.set_content(Render({{"text", *text},
                                 {"rank", options.rank},
                                 {"incarnation", absl::StrCat(absl::Hex(options.incarnation, absl::kZeroPad16))}}),
                         kJson);
  });
  http.Get("/healthz", [&requests](const httplib::Request&, httplib::Response& response) {
    const std::string why = requests.closed();
    if (!why.empty()) return AnswerError(absl::UnavailableError(why), response);
    response.set_content("{}", kJson);
  });
  // By default the library shares ports among processes.
  http.set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
  const bool any = options.port == 0;
  const int port = any ? http.bind_to_any_port(options.host.c_str())
                       : (http.bind_to_port(options.host.c_str(), options.port) ? options.port : -1);
  if (port < 0) {
    return absl::UnavailableError(absl::StrCat("serve requests on ", options.host, ":", options.port, ": not free"));
  }
  server->thread = std::thread([server = server.get()] {
    server->http.listen_after_bind();
    server->ended.Notify();
  });
  return std::unique_ptr<RequestServer>(
      new RequestServer(std::move(server), absl::StrCat("http://", options.host, ":", port)));
}

RequestServer::RequestServer(std::unique_ptr<Server> server, std::string url)
    : server_(std::move(server)), url_(std::move(url)) {}

RequestServer::~RequestServer() {
  // Stopping a server that has not begun to listen would not be noticed.
  while (!server_->http.is_running() && !server_->ended.WaitForNotificationWithTimeout(absl::Milliseconds(1))) {
  }
  server_->http.stop();
  server_->thread.join();
}

}  // namespace evenkeel::engine
