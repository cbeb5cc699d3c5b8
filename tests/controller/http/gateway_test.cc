// SPDX-License-Identifier: Apache-2.0
#include "controller/http/gateway.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "catch2/catch.hpp"
#include "httplib.h"
#include "nlohmann/json.hpp"

#include "proto/evenkeel/v1/control.grpc.pb.h"

namespace evenkeel::controller {
namespace {

// Knows the group "chat".
class FakeControl : public v1::Control::Service {
 public:
  grpc::Status GetGroup(grpc::ServerContext* context, const v1::GetGroupRequest* request, v1::Group* answer) override {
    const auto found = context->client_metadata().find("authorization");
    if (found != context->client_metadata().end()) token = std::string(found->second.data(), found->second.size());
    if (request->group() != "chat") {
      return grpc::Status(grpc::StatusCode::NOT_FOUND, absl::StrCat("unknown group ", request->group()));
    }
    answer->mutable_info()->set_name("chat");
    return grpc::Status::OK;
  }
  grpc::Status GetMap(grpc::ServerContext*, const v1::GetMapRequest* request, v1::GroupMaps*) override {
    map_request = *request;
    return grpc::Status::OK;
  }
  grpc::Status WatchOperations(grpc::ServerContext* context, const v1::WatchOperationsRequest* request,
                               grpc::ServerWriter<v1::Operation>* writer) override {
    ++num_watching;
    for (int i = 0; i < 3; ++i) {
      v1::Operation operation;
      operation.set_id(absl::StrCat("op-", i));
      writer->Write(operation);
    }
    const bool endless = request->group() == "endless";
    while (endless && !context->IsCancelled()) never.WaitForNotificationWithTimeout(absl::Milliseconds(5));
    --num_watching;
    return endless ? grpc::Status::OK : grpc::Status(grpc::StatusCode::UNAVAILABLE, "the controller ends");
  }
  grpc::Status Rearrange(grpc::ServerContext*, const v1::RearrangeRequest* request,
                         grpc::ServerWriter<v1::Operation>* writer) override {
    if (request->group() != "chat") return grpc::Status(grpc::StatusCode::NOT_FOUND, "no group " + request->group());
    v1::Operation operation;
    operation.set_id("r");
    writer->Write(operation);
    return grpc::Status::OK;
  }

  std::string token;
  v1::GetMapRequest map_request;
  std::atomic<int> num_watching = 0;
  absl::Notification never;
};

struct Fixture {
  Fixture() {
    grpc::ServerBuilder builder;
    builder.RegisterService(&control);
    server = builder.BuildAndStart();
    gate = *Gate::Open({});
    auto made = Gateway::Start({.listen = "127.0.0.1:0",
                                .gate = *gate,
                                .ready = [this] { return ready.load(); },
                                .metrics = [] { return std::string("evenkeel_up 1\n"); }},
                               Transcoder(server->InProcessChannel({}), "evenkeel.v1.Control"));
    REQUIRE(made.ok());
    gateway = *std::move(made);
    client = std::make_unique<httplib::Client>("http://" + gateway->address());
  }
  ~Fixture() {
    gateway->Stop();
    server->Shutdown();
  }

  nlohmann::json Post(const std::string& method, const std::string& body, int status) {
    const auto result = client->Post(("/v1/" + method).c_str(), body, "application/json");
    REQUIRE(result);
    CAPTURE(result->body);
    CHECK(result->status == status);
    return nlohmann::json::parse(result->body);
  }
  nlohmann::json Get(const std::string& path, int status) {
    const auto result = client->Get(path.c_str());
    REQUIRE(result);
    CAPTURE(result->body);
    CHECK(result->status == status);
    return nlohmann::json::parse(result->body);
  }

  FakeControl control;
  std::unique_ptr<grpc::Server> server;
  std::atomic<bool> ready = false;
  std::unique_ptr<Gate> gate;
  std::unique_ptr<Gateway> gateway;
  std::unique_ptr<httplib::Client> client;
};

TEST_CASE("a call by POST takes and gives JSON, with every field and the caller's token", "[gateway]") {
  Fixture f;
  f.client->set_bearer_token_auth("secret");
  const auto group = f.Post("GetGroup", R"({"group": "chat"})", 200);
  CHECK(group["info"]["name"] == "chat");
  CHECK(group["info"]["num_layers"] == 0);
  CHECK(f.control.token == "Bearer secret");
}

TEST_CASE("a call that only looks may be asked by GET, its fields in the query", "[gateway]") {
  Fixture f;
  CHECK(f.Get("/v1/GetGroup?group=chat", 200)["info"]["name"] == "chat");
  f.Get("/v1/GetMap?group=chat&layers=3&layers=5", 200);
  REQUIRE(f.control.map_request.layers_size() == 2);
  CHECK(f.control.map_request.layers(1) == 5);
  CHECK(f.Get("/v1/GetMap?group=chat&window=3", 400)["message"] == "GetMapRequest has no field window");
  CHECK(f.Get("/v1/GetMap?group=chat&group=x", 400)["message"] == "field group is given twice");
  CHECK(f.Get("/v1/Rearrange?group=chat", 405)["message"] == "Rearrange needs POST");
}

TEST_CASE("errors keep their code, name and message", "[gateway]") {
  Fixture f;
  const auto unknown = f.Post("GetGroup", R"({"group": "x"})", 404);
  CHECK(unknown["code"] == 5);
  CHECK(unknown["status"] == "NOT_FOUND");
  CHECK(unknown["message"] == "unknown group x");
  CHECK(f.Post("Nonsense", "{}", 404)["message"] == "no method Nonsense");
  for (const char* body : {"{", "[]", R"({"groop": "chat"})", R"({"group": 7})", "\xFF"}) {
    CAPTURE(body);
    CHECK(f.Post("GetGroup", body, 400)["status"] == "INVALID_ARGUMENT");
  }
  CHECK(f.Get("/nothing", 404)["message"] == "nothing at GET /nothing");
}

TEST_CASE("a watch comes as server-sent events, and its end as an event too", "[gateway]") {
  Fixture f;
  const auto result = f.client->Get("/v1/WatchOperations?group=chat");
  REQUIRE(result);
  CHECK(result->status == 200);
  CHECK(result->get_header_value("Content-Type") == "text/event-stream");
  CHECK(absl::StrContains(result->body, "data: {\"id\":\"op-0\""));
  CHECK(absl::StrContains(result->body, "data: {\"id\":\"op-2\""));
  CHECK(absl::StrContains(result->body, "event: error\ndata: {\"code\":14,\"status\":\"UNAVAILABLE\""));
}

TEST_CASE("a stream that was posted comes as lines", "[gateway]") {
  Fixture f;
  const auto result = f.client->Post("/v1/Rearrange", R"({"group": "chat"})", "application/json");
  REQUIRE(result);
  CHECK(result->get_header_value("Content-Type") == "application/x-ndjson");
  CHECK(nlohmann::json::parse(result->body)["id"] == "r");
}

TEST_CASE("a stream that is refused at once has the status of any call", "[gateway]") {
  Fixture f;
  CHECK(f.Post("Rearrange", R"({"group": "nope"})", 404)["message"] == "no group nope");
  CHECK(f.Post("Rearrange", R"({"group": 7})", 400)["status"] == "INVALID_ARGUMENT");
}

TEST_CASE("a watch ends soon after its reader has gone, and all end with the gateway", "[gateway]") {
  Fixture f;
  const auto watch = [&](int num_bytes) {
    httplib::Client client("http://" + f.gateway->address());
    client.set_read_timeout(60);
    int taken = 0;
    client.Get("/v1/WatchOperations?group=endless", [&](const char*, size_t length) {
      taken += static_cast<int>(length);
      return taken < num_bytes;
    });
  };
  const auto await = [&](int num) {
    const absl::Time end = absl::Now() + absl::Seconds(30);
    while (f.control.num_watching != num && absl::Now() < end)
      f.control.never.WaitForNotificationWithTimeout(absl::Milliseconds(5));
    return f.control.num_watching == num;
  };
  watch(1);
  CHECK(await(0));
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) readers.emplace_back([&] { watch(1 << 30); });
  CHECK(await(3));
  f.gateway->Stop();
  for (std::thread& reader : readers) reader.join();
  CHECK(await(0));
}

TEST_CASE("the web page comes from the binary alone", "[gateway]") {
  Fixture f;
  const auto page = f.client->Get("/");
  REQUIRE(page);
  CHECK(page->status == 200);
  CHECK(page->get_header_value("Content-Type") == "text/html; charset=utf-8");
  CHECK(absl::StrContains(page->body, "<title>Evenkeel</title>"));
  CHECK(f.client->Get("/page.js")->get_header_value("Content-Type") == "text/javascript");
  CHECK(f.client->Get("/page.css")->status == 200);
  CHECK(f.client->Get("/../gateway.cc")->status == 404);
}

TEST_CASE("health, readiness and metrics answer by themselves", "[gateway]") {
  Fixture f;
  CHECK(f.client->Get("/healthz")->status == 200);
  CHECK(f.Get("/readyz", 503)["message"] == "the controller does not lead yet");
  f.ready = true;
  CHECK(f.client->Get("/readyz")->status == 200);
  CHECK(f.client->Get("/metrics")->body == "evenkeel_up 1\n");
}

TEST_CASE("an address that is wrong or taken is named", "[gateway]") {
  Fixture f;
  const auto start = [&](const std::string& listen) {
    return Gateway::Start({.listen = listen, .gate = *f.gate, .ready = [] { return true; }, .metrics = {}},
                          Transcoder(f.server->InProcessChannel({}), "evenkeel.v1.Control"))
        .status();
  };
  CHECK(start("7401").message() == "http_listen is '7401': HOST:PORT wanted");
  CHECK(start(f.gateway->address()).code() == absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace evenkeel::controller
