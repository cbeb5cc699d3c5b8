// SPDX-License-Identifier: Apache-2.0
//
// The conductor with a store that fails on order, and the planner that answers it.
#include "controller/conductor.h"

#include <spdlog/spdlog.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/synchronization/notification.h"
#include "catch2/catch.hpp"

#include "algos/policies/registry.h"
#include "controller/keeper.h"
#include "controller/planner.h"
#include "controller/sqlite_store.h"
#include "runtime/clock.h"
#include "runtime/strand.h"
#include "tests/controller/fake_agent.h"
#include "tests/controller/faulty_store.h"

namespace evenkeel::controller {
namespace {

// Runs `task` on the strand and waits for it. Catch's checks are for one thread at a time: so none before the wait.
template <typename Task>
void On(runtime::Strand& strand, Task task) {
  absl::Notification done;
  const absl::Status posted = strand.Post([&] {
    task();
    done.Notify();
  });
  if (posted.ok()) done.WaitForNotification();
  REQUIRE(posted.ok());
}

struct Conducted {
  explicit Conducted(Store& store, Keeper::Limits limits = {}) {
    spdlog::set_level(spdlog::level::off);
    CoordinatorSettings settings;
    settings.listen_interval = absl::ZeroDuration();
    settings.defaults.placement_enabled = false;
    conductor =
        std::make_unique<Conductor>(strand, *Conductor::Recall(settings, store), store,
                                    Conductor::Outlets{.send = [this](SessionId, const SharedMessage&) { ++num_sent; },
                                                       .close = [](SessionId) {},
                                                       .plan = [](ComputePlan) {},
                                                       .end = [this](absl::Status why) { ends.push_back(why); }},
                                    limits);
    On(strand, [this] {
      strand.AssertHeld();
      conductor->AssertHeld();
      conductor->Watch([this](const OperationProgress& operation) { told.push_back(operation.id); });
      strand.SetTimer({.next_wakeup =
                           [this] {
                             conductor->AssertHeld();
                             return conductor->NextWakeup();
                           },
                       .on_wakeup =
                           [this] {
                             conductor->AssertHeld();
                             conductor->Wake(runtime::MonotonicNow());
                           }});
    });
  }
  ~Conducted() { Stop(); }
  void Stop() {
    strand.Stop();
    conductor->Stop();
  }
  void Step(const Event& event) {
    On(strand, [&] {
      conductor->AssertHeld();
      conductor->Step(event);
    });
  }
  // Waits until `condition` holds on the strand.
  void Until(const std::function<bool()>& condition) {
    const absl::Time deadline = runtime::MonotonicNow() + absl::Seconds(60);
    bool holds = false;
    while (!holds) {
      REQUIRE(runtime::MonotonicNow() < deadline);
      On(strand, [&] { holds = condition(); });
    }
  }
  // A group of FakeGroup's four ranks under a term.
  void Form() {
    for (int rank = 0; rank < 4; ++rank) {
      Step(AgentMessageReceived{static_cast<SessionId>(rank + 1), FakeAttach(FakeGroup("chat"), rank)});
    }
    Until([this] {
      conductor->AssertHeld();
      const auto group = conductor->coordinator().GetGroup("chat", runtime::MonotonicNow());
      return num_sent > 0 && group.ok() && !group->forming;
    });
  }
  // Asks for a rearrangement; what is kept of it comes to `kept`.
  void Rearrange(const std::string& id) {
    On(strand, [&] {
      conductor->AssertHeld();
      started =
          conductor->Rearrange({.operation_id = id, .group = "chat", .policy = "", .layers = {}, .dry_run = false})
              .status();
      conductor->WhenKept(id, [this](absl::Status status) { kept.push_back(std::move(status)); });
    });
    REQUIRE(started.ok());
  }
  std::string problem() {
    std::string text;
    On(strand, [&] {
      conductor->AssertHeld();
      text = conductor->store_problem();
    });
    return text;
  }

  runtime::Strand strand{{.name = "test"}};
  std::vector<absl::Status> ends;
  std::vector<absl::Status> kept;
  std::vector<std::string> told;  // operations that changed
  absl::Status started;
  int num_sent = 0;
  std::unique_ptr<Conductor> conductor;
};

OperationProgress Unfinished(const std::string& id, int64_t changed_us) {
  OperationProgress operation;
  operation.id = id;
  operation.group = "chat";
  operation.state = OperationState::kRunning;
  operation.changed = absl::FromUnixMicros(changed_us);
  return operation;
}

constexpr Keeper::Limits kHasty{.stalled_after = absl::Milliseconds(20), .wait_max = absl::Milliseconds(60)};

TEST_CASE("nothing is sent under a term before the store has it, and the strand goes on", "[conductor]") {
  MemoryStore memory;
  FaultyStore store(memory);
  store.Stall(true);
  Conducted conducted(store);
  for (int rank = 0; rank < 4; ++rank) {
    conducted.Step(AgentMessageReceived{static_cast<SessionId>(rank + 1), FakeAttach(FakeGroup("chat"), rank)});
  }
  On(conducted.strand, [&] {
    conducted.conductor->AssertHeld();
    CHECK(conducted.conductor->coordinator().term() == 8);
    CHECK(conducted.num_sent == 0);
  });
  store.Stall(false);
  conducted.Until([&] { return conducted.num_sent > 0; });
  CHECK(*store.LoadTerm() == 8);
  CHECK(conducted.ends.empty());
}

TEST_CASE("a term that cannot be stored ends the controller, once", "[conductor]") {
  MemoryStore memory;
  FaultyStore store(memory);
  store.FailTerms(absl::ResourceExhaustedError("store: disk is full"));
  Conducted conducted(store);
  conducted.Step(Tick{});
  conducted.Until([&] { return !conducted.ends.empty(); });
  conducted.Step(Tick{});
  REQUIRE(conducted.ends.size() == 1);
  CHECK(conducted.ends[0] == absl::ResourceExhaustedError("store: disk is full"));
  CHECK(conducted.num_sent == 0);
  On(conducted.strand, [&] {
    conducted.conductor->AssertHeld();
    CHECK(conducted.conductor->NextWakeup() == absl::InfiniteFuture());
  });
}

TEST_CASE("a term that the store does not take in time ends the controller", "[conductor]") {
  MemoryStore memory;
  FaultyStore store(memory);
  store.Stall(true);
  Conducted conducted(store, {.term_wait_max = absl::Milliseconds(50)});
  conducted.Step(Tick{});
  conducted.Until([&] { return !conducted.ends.empty(); });
  CHECK(conducted.ends[0].code() == absl::StatusCode::kDeadlineExceeded);
  store.Stall(false);
}

TEST_CASE("operations that an earlier controller left unfinished are closed, stored and told", "[conductor]") {
  MemoryStore memory;
  memory.operations = {Unfinished("newer", 2), Unfinished("older", 1)};
  FaultyStore store(memory);
  Conducted conducted(store);
  conducted.Step(Tick{});
  conducted.Until([&] {
    return store.Has("newer", OperationState::kSuperseded) && store.Has("older", OperationState::kSuperseded);
  });
  CHECK(conducted.told == std::vector<std::string>{"older", "newer"});
  On(conducted.strand, [&] {
    conducted.conductor->AssertHeld();
    const auto listed = conducted.conductor->coordinator().ListOperations("chat");
    REQUIRE(listed.size() == 2);
    CHECK(listed[0].id == "newer");
  });
}

TEST_CASE("who asks for an operation hears of it when the store has it; a stalled one is told", "[conductor]") {
  MemoryStore memory;
  FaultyStore store(memory);
  Conducted conducted(store, kHasty);
  conducted.Form();
  store.Stall(true);
  conducted.Rearrange("r1");
  conducted.Until([&] { return !conducted.kept.empty(); });
  CHECK(conducted.kept[0].code() == absl::StatusCode::kDeadlineExceeded);
  CHECK(absl::StrContains(conducted.problem(), "the store has not answered"));
  CHECK_FALSE(conducted.ends.size() > 0);
  conducted.Rearrange("r1");  // asked again: it is the same
  store.Stall(false);
  conducted.Until([&] { return conducted.kept.size() == 2; });
  if (conducted.kept[1].ok()) CHECK(store.Has("r1", OperationState::kPlanning));
  conducted.Until([&] {
    conducted.conductor->AssertHeld();
    return store.Has("r1", OperationState::kPlanning) && conducted.conductor->store_problem().empty();
  });
}

TEST_CASE("what a full disk did not take is stored once there is room, without anybody's doing", "[conductor]") {
  MemoryStore memory;
  FaultyStore store(memory);
  Conducted conducted(store, {.retry = absl::Milliseconds(10)});
  conducted.Form();
  store.FailOperations(absl::ResourceExhaustedError("store: disk is full"));
  conducted.Rearrange("r1");
  conducted.Until([&] { return !conducted.kept.empty(); });
  CHECK(conducted.kept[0] == absl::ResourceExhaustedError("store: disk is full"));
  CHECK(conducted.problem() == "store: disk is full");
  CHECK_FALSE(store.Has("r1", OperationState::kPlanning));
  store.FailOperations(absl::OkStatus());
  conducted.Until([&] { return store.Has("r1", OperationState::kPlanning); });
  conducted.Until([&] {
    conducted.conductor->AssertHeld();
    return conducted.conductor->store_problem().empty();
  });
  CHECK(conducted.ends.empty());
}

TEST_CASE("a real store that stalls loses nothing that was acknowledged, nor what waited at the end", "[conductor]") {
  const std::string path = std::string(std::getenv("TEST_TMPDIR")) + "/stalling.db";
  {
    auto sqlite = SqliteStore::Open({.path = path});
    REQUIRE(sqlite.ok());
    FaultyStore store(**sqlite);
    Conducted conducted(store);
    conducted.Form();
    conducted.Rearrange("r1");
    conducted.Until([&] { return !conducted.kept.empty(); });
    CHECK(conducted.kept[0].ok());
    CHECK(store.Has("r1", OperationState::kPlanning));
    store.Stall(true);
    conducted.Step(CancelRequested{"r1"});
    CHECK_FALSE(conducted.ends.size() > 0);
    conducted.strand.Stop();
    store.Stall(false);
    conducted.conductor->Stop();
  }
  auto again = SqliteStore::Open({.path = path});
  REQUIRE(again.ok());
  CHECK(*(*again)->LoadTerm() == 1);
  const auto operations = (*again)->LoadOperations();
  REQUIRE(operations.ok());
  REQUIRE(operations->size() == 1);
  CHECK(operations->front().id == "r1");
  CHECK(operations->front().state == OperationState::kCancelled);
}

TEST_CASE("a known request id starts nothing, whatever else is asked", "[conductor]") {
  MemoryStore memory;
  OperationProgress done = Unfinished("mine", 1);
  done.state = OperationState::kDone;
  memory.operations = {done};
  Conducted conducted(memory);
  conducted.Step(Tick{});
  On(conducted.strand, [&] {
    conducted.conductor->AssertHeld();
    const auto id = conducted.conductor->Rearrange(
        {.operation_id = "mine", .group = "gone", .policy = "magic", .layers = {}, .dry_run = false});
    REQUIRE(id.ok());
    CHECK(*id == "mine");
    const auto bad = conducted.conductor->Rearrange(
        {.operation_id = "with space", .group = "", .policy = "", .layers = {}, .dry_run = false});
    CHECK(bad.status().code() == absl::StatusCode::kInvalidArgument);
  });
}

std::shared_ptr<const algos::Problem> SmallProblem() {
  auto problem = std::make_shared<algos::Problem>();
  problem->shape = {.num_experts = 4, .num_ranks = 2, .slots_per_rank = 3};
  problem->num_layers = 1;
  problem->episodes.push_back({.num_layers = 1, .num_experts = 4, .tokens = {9, 1, 1, 1}});
  return problem;
}

TEST_CASE("a plan comes back with its id, an unknown policy as an error", "[planner]") {
  Planner planner;
  absl::Notification done;
  std::vector<PlanComputed> plans;
  planner.Compute({.plan_id = 4, .policy = "greedy", .problem = SmallProblem()},
                  [&](PlanComputed plan) { plans.push_back(std::move(plan)); });
  planner.Compute({.plan_id = 5, .policy = "magic", .problem = SmallProblem()}, [&](PlanComputed plan) {
    plans.push_back(std::move(plan));
    done.Notify();
  });
  done.WaitForNotification();
  REQUIRE(plans.size() == 2);
  CHECK(plans[0].plan_id == 4);
  REQUIRE(plans[0].plans.ok());
  CHECK(algos::Validate(plans[0].plans->at(0).placement, SmallProblem()->shape).ok());
  CHECK(plans[1].plan_id == 5);
  CHECK_FALSE(plans[1].plans.ok());
}

TEST_CASE("plans are the same on one thread, two and three", "[planner]") {
  auto problem = std::make_shared<algos::Problem>();
  problem->shape = {.num_experts = 16, .num_ranks = 4, .slots_per_rank = 5};
  problem->num_layers = 9;
  for (uint64_t step = 0; step < 4; ++step) {
    algos::Load& load = problem->episodes.emplace_back();
    load = {.num_layers = 9, .num_experts = 16, .tokens = {}};
    for (uint64_t i = 0; i < 9 * 16; ++i) load.tokens.push_back((i * i + 7 * step) % 101);
  }
  for (const char* policy : {"flashlb", "greedy", "vllm"}) {
    CAPTURE(policy);
    const auto whole = algos::PlanBy(policy, *problem);
    REQUIRE(whole.ok());
    for (int num_threads : {1, 2, 3}) {
      CAPTURE(num_threads);
      Planner planner(num_threads);
      absl::Notification done;
      PlanComputed computed;
      planner.Compute({.plan_id = 1, .policy = policy, .problem = problem}, [&](PlanComputed plan) {
        computed = std::move(plan);
        done.Notify();
      });
      done.WaitForNotification();
      REQUIRE(computed.plans.ok());
      CHECK(*computed.plans == *whole);
    }
  }
}

TEST_CASE("after its end a planner still answers, with an error", "[planner]") {
  Planner planner;
  planner.Stop();
  planner.Stop();
  std::vector<PlanComputed> plans;
  planner.Compute({.plan_id = 4, .policy = "greedy", .problem = SmallProblem()},
                  [&](PlanComputed plan) { plans.push_back(std::move(plan)); });
  REQUIRE(plans.size() == 1);
  CHECK(plans[0].plans.status().code() == absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace evenkeel::controller
