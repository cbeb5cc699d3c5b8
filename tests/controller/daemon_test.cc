// SPDX-License-Identifier: Apache-2.0
#include "controller/daemon.h"

#include <cstdlib>
#include <fstream>
#include <string>
#include <variant>

#include "catch2/catch.hpp"

#include "tests/controller/fake_agent.h"
#include "tests/controller/running_daemon.h"

namespace evenkeel::controller {
namespace {

// Of localhost, signed by itself, for this test alone.
constexpr char kCertificate[] = R"(-----BEGIN CERTIFICATE-----
MIIBnDCCAUGgAwIBAgIUblxhcyke31TFrM3IWL5K1yxy++YwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMjIwNTIwNloYDzIxMjYxMDI5
MjA1MjA2WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASmIrsaX9cEqywEOatTK8HWRyWYcsO6bVSfIpi4JOxkJV1q+Adj4qNr
WGRra8LxGBSJR/hI0c7vQh7md/z9WPmYo28wbTAdBgNVHQ4EFgQUKrQrZDgXHVis
sBH294Cs3XQWhBwwHwYDVR0jBBgwFoAUKrQrZDgXHVissBH294Cs3XQWhBwwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSQAwRgIhANzNjirpjETkd2kMnPLMJI9GrO59eZbMGvja8ZrSw8FkAiEA
n7v28QzSuuGeAj/WObmzN87NcIb/EnP9VW8IAOaffOc=
-----END CERTIFICATE-----
)";
constexpr char kKey[] = R"(-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjOlamlD93I7TJt5T
vQRrHVMBharEiUf3MkT9LDOLTvyhRANCAASmIrsaX9cEqywEOatTK8HWRyWYcsO6
bVSfIpi4JOxkJV1q+Adj4qNrWGRra8LxGBSJR/hI0c7vQh7md/z9WPmY
-----END PRIVATE KEY-----
)";

std::string Write(const std::string& name, const char* text) {
  const std::string path = std::string(std::getenv("TEST_TMPDIR")) + "/" + name;
  std::ofstream(path) << text;
  return path;
}

TEST_CASE("with a certificate only those who speak TLS and trust it are served", "[daemon]") {
  ControllerSettings settings = QuickSettings();
  settings.tls_certificate = Write("certificate.pem", kCertificate);
  settings.tls_key = Write("key.pem", kKey);
  Running running(settings);  // its own client speaks plainly
  v1::ListGroupsResponse response;
  const auto impatient = Context();
  impatient->set_wait_for_ready(false);
  CHECK(running.control->ListGroups(impatient.get(), {}, &response).error_code() == grpc::StatusCode::UNAVAILABLE);

  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto trusting =
      grpc::SslCredentials({.pem_root_certs = kCertificate, .pem_private_key = {}, .pem_cert_chain = {}});
  const auto control = v1::Control::NewStub(grpc::CreateCustomChannel(running.daemon->address(), trusting, arguments));
  CHECK(control->ListGroups(Context().get(), {}, &response).ok());

  settings.tls_key = "/nowhere/key.pem";
  CHECK(Daemon::Start({.settings = settings, .on_end = {}}).status().message() ==
        "tls_key: cannot read /nowhere/key.pem");
}

TEST_CASE("a controller's successor takes a higher term and knows the operations", "[daemon]") {
  ControllerSettings settings = QuickSettings();
  settings.store = std::string(std::getenv("TEST_TMPDIR")) + "/successor.db";
  const GroupInfo group = FakeGroup("chat");
  for (uint32_t term : {1u, 2u, 3u}) {
    Running running(settings);
    FakeAgent agent(running.daemon->address());
    REQUIRE(agent.Send(FakeAttach(group, 0)));
    const auto welcome = agent.Read(group);
    REQUIRE(welcome.has_value());
    CHECK(std::get<Welcome>(*welcome).term == term);
  }
}

TEST_CASE("a controller that hears a higher term ends and remembers it", "[daemon]") {
  ControllerSettings settings = QuickSettings();
  settings.store = std::string(std::getenv("TEST_TMPDIR")) + "/step-down.db";
  const GroupInfo group = FakeGroup("chat");
  {
    Running running(settings);
    while (ListGroups(running).term() == 0) {
    }
    FakeAgent agent(running.daemon->address());
    Attach attach = FakeAttach(group, 0);
    attach.term_obeyed = 41;
    REQUIRE(agent.Send(attach));
    REQUIRE(running.ended.WaitForNotificationWithTimeout(absl::Seconds(60)));
    CHECK(running.end.message() == "another controller leads with term 41");
  }
  Running running(settings);
  while (ListGroups(running).term() == 0) {
  }
  CHECK(ListGroups(running).term() == 42);
}

TEST_CASE("a second controller on the same port or store does not start", "[daemon]") {
  ControllerSettings settings = QuickSettings();
  settings.store = std::string(std::getenv("TEST_TMPDIR")) + "/second.db";
  Running running(settings);
  settings.listen = running.daemon->address();
  settings.store.clear();
  const auto same_port = Daemon::Start({.settings = settings, .on_end = {}});
  CHECK(same_port.status().message() ==
        "listen on " + settings.listen + ": the address is not ours, or already in use");
  settings.listen = "127.0.0.1:0";
  settings.store = std::string(std::getenv("TEST_TMPDIR")) + "/second.db";
  const auto same_store = Daemon::Start({.settings = settings, .on_end = {}});
  CHECK(same_store.status().code() == absl::StatusCode::kUnavailable);
}

TEST_CASE("stopping ends streams and calls with unavailable, and may be repeated", "[daemon]") {
  Running running;
  FakeAgent agent(running.daemon->address());
  const GroupInfo group = FakeGroup("chat");
  REQUIRE(agent.Send(FakeAttach(group, 0)));
  REQUIRE(agent.Read(group).has_value());
  running.daemon->Stop();
  running.daemon->Stop();
  const grpc::Status end = agent.End();
  CHECK(end.error_code() == grpc::StatusCode::UNAVAILABLE);
  CHECK(end.error_message() == "the controller ends");
}

}  // namespace
}  // namespace evenkeel::controller
