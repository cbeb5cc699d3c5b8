// SPDX-License-Identifier: Apache-2.0
#include "cli/load/load_run.h"

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "catch2/catch.hpp"
#include "nlohmann/json.hpp"

#include "engine/reference/request_server.h"
#include "engine/reference/requests.h"

namespace evenkeel::cli {
namespace {

// A rank that answers with its prompt, in capitals of its rank.
class EchoRank {
 public:
  explicit EchoRank(int rank) : requests_(64, 1000) {
    auto server = engine::RequestServer::Start({.rank = rank}, requests_);
    REQUIRE(server.ok());
    server_ = *std::move(server);
    lane_ = std::thread([this, rank] {
      while (!stop_) {
        requests_.Await(absl::Milliseconds(50));
        while (const auto next = requests_.Take()) next->Finish(absl::StrCat(rank, ":", next->prompt()));
      }
    });
  }
  ~EchoRank() {
    stop_ = true;
    requests_.Close("over");
    lane_.join();
  }
  const std::string& url() const { return server_->url(); }
  engine::Requests& requests() { return requests_; }

 private:
  engine::Requests requests_;
  std::unique_ptr<engine::RequestServer> server_;
  std::atomic<bool> stop_ = false;
  std::thread lane_;
};

TEST_CASE("every rank answers its turn, and the totals count it", "[load]") {
  EchoRank zero(0), one(1);
  const std::vector<Prompt> prompts = {{"a", {}}, {"b", 5}};
  const auto urls = RankUrls::Parse(absl::StrCat("0=", zero.url(), ",1=", one.url()));
  REQUIRE(urls.ok());
  Ranks ranks;
  ranks.Set({0, 1});
  int num_told = 0;
  const auto records = RunLoad({.concurrency = 1, .num_requests = 6},
                               {&prompts, &*urls, &ranks, [&](const LoadRecord&) { ++num_told; }});
  REQUIRE(records.size() == 6);
  CHECK(num_told == 6);
  CHECK(records[0].text == "0:a");
  CHECK(records[1].text == "1:b");
  const LoadTotals totals = TotalsOf(records, 2.5);
  CHECK(totals.num_ok == 6);
  CHECK(totals.num_ok_at_once == 6);
  CHECK(totals.ok_of_rank == std::map<int, int>{{0, 3}, {1, 3}});
  CHECK(totals.min_seconds <= totals.p50_seconds);
  CHECK(totals.p99_seconds == totals.max_seconds);
  const auto json = ToJson(totals, records);
  CHECK(json["totals"]["requests"] == 6);
  CHECK(json["totals"]["ok_of_rank"]["1"] == 3);
  CHECK(json["requests"][1]["attempts"][0]["status"] == 200);
}

TEST_CASE("a request that failed is sent once more, to another rank", "[load]") {
  EchoRank zero(0), one(1);
  one.requests().Close("rank 1 drains");
  const std::vector<Prompt> prompts = {{"a", {}}};
  const auto urls = RankUrls::Parse(absl::StrCat("0=", zero.url(), ",1=", one.url(), ",2=http://127.0.0.1:1"));
  REQUIRE(urls.ok());
  Ranks ranks;
  ranks.Set({0, 1});
  auto records = RunLoad({.concurrency = 3, .num_requests = 20}, {&prompts, &*urls, &ranks, {}});
  LoadTotals totals = TotalsOf(records, 1);
  CHECK(totals.num_ok == 20);
  CHECK(totals.num_ok_at_once < 20);
  CHECK(totals.ok_of_rank == std::map<int, int>{{0, 20}});
  for (const LoadRecord& record : records) {
    if (record.attempts.size() == 2) CHECK(record.attempts[0].error == "HTTP 503: rank 1 drains");
  }
  ranks.Set({1, 2});
  records = RunLoad({.concurrency = 2, .num_requests = 4}, {&prompts, &*urls, &ranks, {}});
  totals = TotalsOf(records, 1);
  CHECK(totals.num_failed == 4);
  CHECK(totals.mean_seconds == 0);
  for (const LoadRecord& record : records) CHECK(record.attempts.size() == 2);
  ranks.Set({1});
  records = RunLoad({.concurrency = 2, .num_requests = 2, .retry = false}, {&prompts, &*urls, &ranks, {}});
  for (const LoadRecord& record : records) CHECK(record.attempts.size() == 1);
}

}  // namespace
}  // namespace evenkeel::cli
