// SPDX-License-Identifier: Apache-2.0
//
// Whole groups of reference engines, each a process of its own, without agents or a controller.
#include <signal.h>
#include <sys/wait.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "catch2/catch.hpp"
#include "nlohmann/json.hpp"

#include "tests/engine/engine_group.h"

namespace evenkeel::engine {
namespace {

TEST_CASE("four engines serve the right text by the default placement and leave nothing behind", "[engine]") {
  const char* redundant = GENERATE("--redundant=8", "--redundant=0");
  CAPTURE(redundant);
  EngineGroup group(4);
  group.StartAll({"--lanes=2", redundant});
  REQUIRE(group.Await([&] {
    for (int rank = 0; rank < 4; ++rank) {
      if (group.Count(rank, "checked_tokens") < 300) return false;
    }
    return true;
  }));
  CHECK(group.StopAll() == std::vector<int>{0, 0, 0, 0});
  CHECK(group.Total("mismatched_tokens") == 0);
  CHECK(group.Total("stale_slot_uses") == 0);
  CHECK(group.Total("dropped_tokens") == 0);
  CHECK(group.Total("calls_that_waited") == 0);
  CHECK(group.Total("library_calls") > group.Total("steps"));
  CHECK(group.Total("served_rows") > 0);
  CHECK(group.Remains() == std::vector<std::string>{});
  for (int rank = 0; rank < 4; ++rank) {
    const nlohmann::json status = group.Status(rank);
    CHECK(status["state"] == "ended");
    CHECK(status["epoch"] == "0.0");
    CHECK(status["step_ms_p50"].get<double>() > 0);
    CHECK(status["step_ms_p99"].get<double>() >= status["step_ms_p50"].get<double>());
    CAPTURE(group.Log(rank));
    CHECK(group.Log(rank).empty());
  }
}

TEST_CASE("wrong answers of one rank are counted by the others as mismatched tokens", "[engine]") {
  EngineGroup group(3);
  group.StartAll({"--fail-rank=1", "--fail-after-steps=20", "--fail-as=zeros"});
  REQUIRE(
      group.Await([&] { return group.Count(0, "mismatched_tokens") > 0 && group.Count(2, "mismatched_tokens") > 0; }));
  CHECK(group.Count(1, "mismatched_tokens") == 0);
  CHECK(group.StopAll() == std::vector<int>{1, 0, 1});
  CHECK_THAT(group.Log(0), Catch::Contains("checked tokens mismatched"));
}

TEST_CASE("a rank that ends in the middle of a step blocks nobody for ever, and its successor is served", "[engine]") {
  EngineGroup group(3);
  group.StartAll({"--fail-rank=1", "--fail-after-steps=10", "--fail-as=exit", "--answer_seconds=0.5"});
  CHECK(group.Wait(1) == 3);
  CHECK(group.Await([&] { return group.WaitingFor(0) == 1 && group.WaitingFor(2) == 1; }));
  CHECK(group.Await([&] { return group.Count(0, "aborted_steps") > 0; }));
  const uint64_t tokens = group.Count(0, "tokens");
  group.Start(1);
  CHECK(group.Await([&] { return group.Count(0, "tokens") > tokens + 100 && group.Count(1, "checked_tokens") > 100; }));
  CHECK(group.StopAll() == std::vector<int>{0, 0, 0});
  CHECK(group.Total("mismatched_tokens") == 0);
  CHECK(group.Total("stale_slot_uses") == 0);
}

TEST_CASE("a rank that hangs or cuts its sockets is waited for by name, and the others still end at SIGTERM",
          "[engine]") {
  const char* how = GENERATE("hang", "cut");
  CAPTURE(how);
  EngineGroup group(3);
  group.StartAll({"--fail-rank=2", "--fail-after-steps=10", absl::StrCat("--fail-as=", how)});
  CHECK(group.Await([&] { return group.WaitingFor(0) == 2 && group.WaitingFor(1) == 2; }));
  group.Signal(0, SIGTERM);
  group.Signal(1, SIGTERM);
  CHECK(group.Wait(0) == 0);
  CHECK(group.Wait(1) == 0);
  group.Signal(2, SIGKILL);
  CHECK(group.Wait(2) == 128 + SIGKILL);
  CHECK(group.Total("mismatched_tokens") == 0);
}

TEST_CASE("a slow or stopped rank delays the others and changes no text", "[engine]") {
  EngineGroup group(3);
  group.StartAll({"--fail-rank=1", "--fail-after-steps=20", "--fail-as=slow"});
  REQUIRE(group.Await([&] { return group.Count(0, "checked_tokens") > 100; }));
  group.Signal(2, SIGSTOP);
  CHECK(group.Await([&] { return group.WaitingFor(0) == 2; }));
  group.Signal(2, SIGCONT);
  const uint64_t tokens = group.Count(0, "tokens");
  CHECK(group.Await([&] { return group.Count(0, "tokens") > tokens; }));
  CHECK(group.StopAll() == std::vector<int>{0, 0, 0});
  CHECK(group.Total("mismatched_tokens") == 0);
  CHECK(group.Total("stale_slot_uses") == 0);
}

TEST_CASE("an engine that cannot start says why", "[engine]") {
  using Catch::Contains;
  EngineGroup group(2);
  const auto error = [&](int status, const std::vector<std::string>& extra) {
    group.Start(0, extra);
    CHECK(group.Wait(0) == status);
    CHECK(group.Remains().empty());
    return group.Log(0);
  };
  CHECK_THAT(error(1, {"--startup_seconds=0.3"}), Contains("for rank 1 of 2"));
  CHECK_THAT(error(2, {"--rank=2"}), Contains("--rank 2 of 2"));
  CHECK_THAT(error(2, {"--ranks=0"}), Contains("--ranks is 0"));
  CHECK_THAT(error(2, {"--slots_per_rank=31"}), Contains("31 slots on each of 2 ranks for 64 experts"));
  CHECK_THAT(error(2, {"--run_dir="}), Contains("--run_dir is needed"));
  CHECK_THAT(error(1, {"--run_dir=/nonexistent"}), Contains("/nonexistent"));
  CHECK_THAT(error(1, {"--region_dir=/nonexistent"}), Contains("/nonexistent"));
  CHECK_THAT(error(1, {"--model_dir=/nonexistent"}), Contains("/nonexistent/config.json"));
  CHECK_THAT(error(2, {"--prompt_bytes=200", "--decode_bytes=100"}), Contains("257"));
  CHECK_THAT(error(2, {"--mix=latin:3"}), Contains("no domain latin"));
  CHECK_THAT(error(2, {"--check=maybe"}), Contains("--check"));
  CHECK_THAT(error(2, {"--lanes=0"}), Contains("--lanes"));
  CHECK_THAT(error(2, {"--fail-rank=0", "--fail-as=explode"}), Contains("no failure explode"));
  CHECK_THAT(error(2, {"stray"}), Contains("stray"));
}

TEST_CASE("engines of another shape end alike, whoever comes first, and each says what differs", "[engine]") {
  using Catch::Contains;
  const std::vector<int> order =
      GENERATE(std::vector<int>{0, 1, 2}, std::vector<int>{1, 0, 2}, std::vector<int>{2, 1, 0});
  const bool at_once = GENERATE(true, false);
  CAPTURE(order, at_once);
  EngineGroup group(3);
  for (const int rank : order) {
    group.Start(rank, {rank == 1 ? "--slots_per_rank=34" : "--slots_per_rank=33", "--startup_seconds=20"});
    // Its socket is there and looked at before anybody else comes.
    if (!at_once) REQUIRE(group.Await([&] { return rank == order[2] || group.Status(rank).contains("state"); }));
  }
  for (int rank = 0; rank < 3; ++rank) {
    CHECK(group.Wait(rank) == 1);
    CAPTURE(rank, group.Log(rank));
    CHECK_THAT(group.Log(rank), Contains("cannot work with rank") && Contains("has slots a rank 3"));
  }
  CHECK(group.Remains().empty());
}

TEST_CASE("one rank has one engine", "[engine]") {
  using Catch::Contains;
  EngineGroup whole(2);
  whole.StartAll();
  REQUIRE(whole.Await([&] { return whole.Count(0, "tokens") > 0; }));
  const pid_t first = whole.Status(0)["pid"].get<pid_t>();
  whole.Start(0);
  CHECK(whole.Wait(0) == 1);
  CHECK_THAT(whole.Log(0), Contains("an engine of rank 0 is serving"));
  kill(first, SIGTERM);
  CHECK(waitpid(first, nullptr, 0) == first);
}

}  // namespace
}  // namespace evenkeel::engine
