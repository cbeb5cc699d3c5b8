// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/request_server.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "catch2/catch.hpp"
#include "httplib.h"
#include "nlohmann/json.hpp"

#include "engine/reference/requests.h"

namespace evenkeel::engine {
namespace {

constexpr absl::Duration kLong = absl::Seconds(30);

// Writes the prompt backwards, as a lane would.
std::thread Lane(Requests& requests, int num_requests) {
  return std::thread([&requests, num_requests] {
    for (int done = 0; done < num_requests;) {
      requests.Await(kLong);
      const std::shared_ptr<Request> next = requests.Take();
      if (next == nullptr) continue;
      next->Finish(std::string(next->prompt().rbegin(), next->prompt().rend()));
      ++done;
    }
  });
}

struct Answer {
  int status = 0;
  nlohmann::json body;
};

Answer Post(const std::string& url, const std::string& body) {
  httplib::Client client(url);
  const httplib::Result result = client.Post("/v1/completions", body, "application/json");
  REQUIRE(result);
  return {result->status, nlohmann::json::parse(result->body)};
}

TEST_CASE("a request comes back with what a lane wrote, and who wrote it", "[request_server]") {
  Requests requests(4, 100);
  const auto server = RequestServer::Start({.rank = 3, .incarnation = 0xAB}, requests);
  REQUIRE(server.ok());
  std::thread lane = Lane(requests, 2);
  const Answer answer = Post((*server)->url(), R"({"prompt": "abc", "max_tokens": 3})");
  CHECK(answer.status == 200);
  CHECK(answer.body["text"] == "cba");
  CHECK(answer.body["rank"] == 3);
  CHECK(answer.body["incarnation"] == "00000000000000ab");
  // Bytes that are no UTF-8 do not break the answer.
  CHECK(Post((*server)->url(), "{\"prompt\": \"\xC3\xA4\"}").body["text"] == "\xEF\xBF\xBD\xEF\xBF\xBD");
  lane.join();
}

TEST_CASE("what is sent wrong is answered with what is wanted", "[request_server]") {
  Requests requests(4, 100);
  const auto server = RequestServer::Start({}, requests);
  REQUIRE(server.ok());
  const std::string& url = (*server)->url();
  for (const char* body :
       {"", "{", "[]", "{}", R"({"prompt": 7})", R"({"prompt": "a", "max_tokens": 0})",
        R"({"prompt": "a", "max_tokens": "b"})", R"({"prompt": ""})", R"({"prompt": "a", "max_tokens": 100})",
        R"({"prompt": "a", "max_tokens": 99999999999999})"}) {
    CAPTURE(body);
    const Answer answer = Post(url, body);
    CHECK(answer.status == 400);
    CHECK(!answer.body["error"].get<std::string>().empty());
  }
  httplib::Client client(url);
  const auto large = client.Post("/v1/completions", std::string(RequestServer::kBodyBytesMax + 1, 'a'), "text/plain");
  REQUIRE(large);
  CHECK(large->status == 413);
}

TEST_CASE("requests beyond those that may wait are refused at once", "[requests]") {
  Requests requests(1, 100);
  absl::StatusOr<std::string> first;
  std::thread asker([&] { first = requests.Generate("a", 1, absl::Now() + kLong); });
  requests.Await(kLong);
  CHECK(absl::IsResourceExhausted(requests.Generate("b", 1, absl::Now() + kLong).status()));
  Lane(requests, 1).join();
  asker.join();
  CHECK(first == absl::StatusOr<std::string>("a"));
}

TEST_CASE("a request that nobody waits for any more is not handed to a lane", "[requests]") {
  Requests requests(2, 100);
  CHECK(absl::IsDeadlineExceeded(requests.Generate("a", 1, absl::InfinitePast()).status()));
  CHECK(requests.Take() == nullptr);
}

TEST_CASE("closing refuses those that wait and those that come, with the reason", "[requests]") {
  Requests requests(2, 100);
  const auto server = RequestServer::Start({}, requests);
  REQUIRE(server.ok());
  absl::Status waiting;
  std::thread asker([&] { waiting = requests.Generate("a", 1, absl::Now() + kLong).status(); });
  requests.Await(kLong);
  requests.Close("rank 2 drains");
  asker.join();
  CHECK(waiting == absl::UnavailableError("rank 2 drains"));
  CHECK(Post((*server)->url(), R"({"prompt": "a"})").status == 503);
  httplib::Client client((*server)->url());
  auto health = client.Get("/healthz");
  REQUIRE(health);
  CHECK(health->status == 503);
  requests.Close("");
  health = client.Get("/healthz");
  REQUIRE(health);
  CHECK(health->status == 200);
}

TEST_CASE("a port that is taken is refused with its number", "[request_server]") {
  Requests requests(2, 100);
  const auto first = RequestServer::Start({}, requests);
  REQUIRE(first.ok());
  const int port = std::stoi((*first)->url().substr((*first)->url().rfind(':') + 1));
  const auto second = RequestServer::Start({.port = port}, requests);
  CHECK(second.status().message() == absl::StrCat("serve requests on 127.0.0.1:", port, ": not free"));
}

}  // namespace
}  // namespace evenkeel::engine
