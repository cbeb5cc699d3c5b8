// SPDX-License-Identifier: Apache-2.0
//
// The conductor with a store that fails on order, and the planner that answers it.
#include "controller/conductor.h"

#include <spdlog/spdlog.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "catch2/catch.hpp"

#include "algos/policies/registry.h"
#include "controller/planner.h"
#include "controller/store.h"
#include "runtime/strand.h"

namespace evenkeel::controller {
namespace {

class FailingStore : public Store {
 public:
  absl::StatusOr<uint32_t> LoadTerm() override { return term; }
  absl::Status SaveTerm(uint32_t new_term) override {
    if (!term_fault.ok()) return term_fault;
    term = new_term;
    return absl::OkStatus();
  }
  absl::Status SaveOperation(const OperationProgress& operation) override {
    if (operation_fault.ok()) saved.push_back(operation);
    return operation_fault;
  }
  absl::StatusOr<std::vector<OperationProgress>> LoadOperations() override { return operations; }

  uint32_t term = 7;
  std::vector<OperationProgress> operations;  // newest first
  std::vector<OperationProgress> saved;
  absl::Status term_fault;
  absl::Status operation_fault;
};

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
  explicit Conducted(FailingStore& store) {
    spdlog::set_level(spdlog::level::off);
    CoordinatorSettings settings;
    settings.listen_interval = absl::ZeroDuration();
    conductor =
        std::make_unique<Conductor>(strand, *Conductor::Recall(settings, store), store,
                                    Conductor::Outlets{.send = [](SessionId, const SharedMessage&) {},
                                                       .close = [](SessionId) {},
                                                       .plan = [](ComputePlan) {},
                                                       .end = [this](absl::Status why) { ends.push_back(why); }});
  }
  void Step(const Event& event) {
    On(strand, [&] {
      conductor->AssertHeld();
      conductor->Step(event);
    });
  }

  runtime::Strand strand{{.name = "test"}};
  std::vector<absl::Status> ends;
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

TEST_CASE("a term is taken above the stored one and stored before anything else", "[conductor]") {
  FailingStore store;
  Conducted conducted(store);
  conducted.Step(Tick{});
  CHECK(store.term == 8);
  CHECK(conducted.ends.empty());
}

TEST_CASE("a term that cannot be stored ends the controller, once", "[conductor]") {
  FailingStore store;
  store.term_fault = absl::ResourceExhaustedError("store: disk is full");
  Conducted conducted(store);
  conducted.Step(Tick{});
  conducted.Step(Tick{});
  REQUIRE(conducted.ends.size() == 1);
  CHECK(conducted.ends[0] == store.term_fault);
  On(conducted.strand, [&] {
    conducted.conductor->AssertHeld();
    CHECK(conducted.conductor->NextWakeup() == absl::InfiniteFuture());
  });
}

TEST_CASE("operations that an earlier controller left unfinished are closed, stored and told", "[conductor]") {
  FailingStore store;
  store.operations = {Unfinished("newer", 2), Unfinished("older", 1)};
  Conducted conducted(store);
  std::vector<std::string> told;
  On(conducted.strand, [&] {
    conducted.conductor->AssertHeld();
    conducted.conductor->Watch([&](const OperationProgress& operation) { told.push_back(operation.id); });
  });
  conducted.Step(Tick{});
  REQUIRE(store.saved.size() == 2);
  for (const OperationProgress& operation : store.saved) CHECK(operation.state == OperationState::kSuperseded);
  CHECK(told == std::vector<std::string>{store.saved[0].id, store.saved[1].id});
  On(conducted.strand, [&] {
    conducted.conductor->AssertHeld();
    const auto listed = conducted.conductor->coordinator().ListOperations("chat");
    REQUIRE(listed.size() == 2);
    CHECK(listed[0].id == "newer");
  });
}

TEST_CASE("operations that cannot be stored are counted, and the controller goes on", "[conductor]") {
  FailingStore store;
  store.operations = {Unfinished("a", 1)};
  store.operation_fault = absl::ResourceExhaustedError("store: disk is full");
  Conducted conducted(store);
  conducted.Step(Tick{});
  CHECK(conducted.ends.empty());
  CHECK(store.term == 8);
  On(conducted.strand, [&] {
    conducted.conductor->AssertHeld();
    CHECK(conducted.conductor->num_store_failures() == 1);
  });
}

TEST_CASE("a known request id starts nothing, whatever else is asked", "[conductor]") {
  FailingStore store;
  OperationProgress done = Unfinished("mine", 1);
  done.state = OperationState::kDone;
  store.operations = {done};
  Conducted conducted(store);
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
