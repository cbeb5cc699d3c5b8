// SPDX-License-Identifier: Apache-2.0
//
// Control.Plan of a running controller, which no group has attached to.
#include "controller/stateless_plan.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "catch2/catch.hpp"

#include "algos/base/rng.h"
#include "algos/placement.h"
#include "controller/control_service.h"
#include "tests/controller/running_daemon.h"

namespace evenkeel::controller {
namespace {

// 8 experts on 4 ranks of 3 slots, 2 layers; the first two experts of layer 0 are hot.
v1::PlanRequest Request() {
  v1::PlanRequest request;
  request.mutable_shape()->set_num_experts(8);
  request.mutable_shape()->set_num_ranks(4);
  request.mutable_shape()->set_slots_per_rank(3);
  request.set_num_layers(2);
  request.set_policy("greedy");
  for (int episode = 0; episode < 2; ++episode) {
    auto* tokens = request.add_episodes()->mutable_tokens();
    for (const uint64_t count : {600, 560, 120, 120, 20, 10, 10, 10}) tokens->Add(count);
    for (int e = 0; e < 8; ++e) tokens->Add(100);
  }
  return request;
}

void AddCurrent(v1::PlanRequest& request) {
  const algos::Placement placement = algos::DefaultPlacement({.num_experts = 8, .num_ranks = 4, .slots_per_rank = 3});
  for (int l = 0; l < 2; ++l) {
    v1::PlanPlacement* current = request.add_current();
    for (ExpertId expert : placement.expert_of_slot) current->add_expert_of_slot(expert.value());
  }
}

v1::PlanResponse Planned(Running& running, const v1::PlanRequest& request) {
  v1::PlanResponse response;
  const grpc::Status status = running.control->Plan(Context().get(), request, &response);
  INFO(status.error_message());
  REQUIRE(status.ok());
  return response;
}

TEST_CASE("a plan is made from nothing but the request", "[stateless_plan]") {
  Running running;
  const v1::PlanResponse response = Planned(running, Request());
  CHECK(response.policy() == "greedy");
  REQUIRE(response.layers_size() == 2);
  const v1::PlannedLayer& hot = response.layers(0);
  REQUIRE(hot.expert_of_slot_size() == 12);
  REQUIRE(hot.shares_size() == 12);
  std::vector<double> of_expert(8, 0.0);
  for (int s = 0; s < 12; ++s) {
    if (hot.expert_of_slot(s) >= 0) of_expert[static_cast<size_t>(hot.expert_of_slot(s))] += hot.shares(s);
  }
  for (const double sum : of_expert) CHECK(sum == Approx(1));
  CHECK(hot.imbalance_shares() <= hot.imbalance_even() + 1e-9);
  CHECK(hot.imbalance_shares() >= 1);
  CHECK(hot.imbalance_before_even() == 0);
  CHECK(hot.num_moves() == 0);
  CHECK(hot.waves().empty());
}

TEST_CASE("a plan is told against what the layers hold, with its waves", "[stateless_plan]") {
  Running running;
  v1::PlanRequest request = Request();
  AddCurrent(request);
  request.set_waves(true);
  const v1::PlanResponse response = Planned(running, request);
  const v1::PlannedLayer& hot = response.layers(0);
  CHECK(hot.num_moves() > 0);
  CHECK(hot.imbalance_before_even() > hot.imbalance_even());
  CHECK(hot.imbalance_before_shares() >= hot.imbalance_shares());
  CHECK(hot.no_waves().empty());
  // Carried out wave by wave, from slots that still hold the expert, it comes to the planned experts of each rank.
  std::vector<int> held(request.current(0).expert_of_slot().begin(), request.current(0).expert_of_slot().end());
  for (const v1::PlannedWave& wave : hot.waves()) {
    const std::vector<int> before = held;
    for (const uint32_t slot : wave.retire()) held[slot] = -1;
    for (const v1::PlannedMove& move : wave.moves()) {
      REQUIRE(move.sources_size() > 0);
      for (const uint32_t source : move.sources()) {
        CHECK(before[source] == static_cast<int>(move.expert()));
        CHECK(std::ranges::find(wave.retire(), source) == wave.retire().end());
      }
      held[move.slot()] = static_cast<int>(move.expert());
    }
  }
  for (size_t rank = 0; rank < 4; ++rank) {
    std::vector<int> wanted(hot.expert_of_slot().begin() + static_cast<long>(3 * rank),
                            hot.expert_of_slot().begin() + static_cast<long>(3 * rank + 3));
    std::vector<int> got(held.begin() + static_cast<long>(3 * rank), held.begin() + static_cast<long>(3 * rank + 3));
    std::ranges::sort(wanted);
    std::ranges::sort(got);
    CHECK(got == wanted);
  }
}

TEST_CASE("dead ranks, pins, budgets and layers are obeyed", "[stateless_plan]") {
  Running running;
  v1::PlanRequest request = Request();
  AddCurrent(request);
  request.add_layers(0);
  SECTION("dead ranks") {
    request.add_dead_ranks(3);
    const v1::PlanResponse response = Planned(running, request);
    REQUIRE(response.layers_size() == 1);
    for (int s = 9; s < 12; ++s) CHECK(response.layers(0).expert_of_slot(s) == -1);
    CHECK(response.layers(0).imbalance_shares() < 2);
  }
  SECTION("pins") {
    v1::PlanPin* pin = request.add_pins();
    pin->set_expert(7);
    pin->set_rank(0);
    const auto experts = Planned(running, request).layers(0).expert_of_slot();
    CHECK(std::find(experts.begin(), experts.begin() + 3, 7) != experts.begin() + 3);
  }
  SECTION("moves") {
    request.set_moves_max(1);
    CHECK(Planned(running, request).layers(0).num_moves() <= 1);
  }
}

TEST_CASE("static plans what is named, else what there is", "[stateless_plan]") {
  Running running;
  v1::PlanRequest request = Request();
  request.set_policy("static");
  AddCurrent(request);
  CHECK(Planned(running, request).layers(0).num_moves() == 0);
  for (int layer = 0; layer < 2; ++layer) {
    v1::PlanPlacement* placement = request.add_placements();
    for (int slot = 0; slot < 12; ++slot) placement->add_expert_of_slot((slot * 5 + layer) % 8);
  }
  const v1::PlanResponse response = Planned(running, request);
  for (int slot = 0; slot < 12; ++slot) CHECK(response.layers(1).expert_of_slot(slot) == (slot * 5 + 1) % 8);
}

TEST_CASE("what is wrong with a request for a plan is named by its field", "[stateless_plan]") {
  Running running;
  const auto error = [&](const v1::PlanRequest& request) {
    v1::PlanResponse response;
    const grpc::Status status = running.control->Plan(Context().get(), request, &response);
    CHECK(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
    return status.error_message();
  };
  CHECK(error({}).find("plan.shape.num_experts is 0: ") == 0);
  v1::PlanRequest request = Request();
  request.clear_episodes();
  CHECK(error(request).find("plan.episodes: their number is 0: ") == 0);
  request = Request();
  request.mutable_episodes(1)->add_tokens(1);
  CHECK(error(request) == "plan.episodes[1].tokens has 17 numbers: num_layers x num_experts, 16, wanted");
  request = Request();
  request.set_num_layers(4096);
  request.mutable_shape()->set_slots_per_rank(60000);
  CHECK(error(request).find("plan.shape: slots of all layers is ") == 0);
  request = Request();
  request.mutable_shape()->set_slots_per_rank(1);
  CHECK(error(request).find("plan.shape: slots is 4: ") == 0);
  request = Request();
  request.add_current()->add_expert_of_slot(0);
  CHECK(error(request) == "plan.current has 1 placements: none or num_layers, 2, wanted");
  request = Request();
  AddCurrent(request);
  request.mutable_current(1)->set_expert_of_slot(5, 8);
  CHECK(error(request) == "plan.current[1].expert_of_slot[5] is 8: -1 to 7 wanted");
  request = Request();
  request.add_dead_ranks(4);
  CHECK(error(request).find("plan.dead_ranks[0] is 4: ") == 0);
  request = Request();
  request.add_pins()->set_rank(9);
  CHECK(error(request).find("plan.pins[0].rank is 9: ") == 0);
  request = Request();
  request.set_waves(true);
  CHECK(error(request) == "plan.waves: there are none without `current`");
  request = Request();
  request.set_policy("magic");
  CHECK(error(request).find("plan.policy: policy 'magic': there are ") == 0);
  request = Request();
  (*request.mutable_policy_options())["depth"] = 1;
  CHECK(error(request).find("plan.policy_options: policy greedy: no option 'depth'") == 0);
  request = Request();
  request.add_placements()->add_expert_of_slot(0);
  CHECK(error(request) == "plan.placements: they go with policy static, not greedy");
  request.set_policy("static");
  CHECK(error(request) == "static: placements of 1 layers; the group has 2");
  request.mutable_placements(0)->set_expert_of_slot(0, -2);
  CHECK(error(request).find("plan.placements[0].expert_of_slot[0] is -2: ") == 0);
  request = Request();
  request.add_capacities(1);
  CHECK(error(request) == "problem: capacities: 1 for 4 ranks");
}

TEST_CASE("numbers that are none, negative or too large are refused", "[stateless_plan]") {
  Running running;
  const auto error = [&](const v1::PlanRequest& request) {
    v1::PlanResponse response;
    const grpc::Status status = running.control->Plan(Context().get(), request, &response);
    CHECK(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
    return status.error_message();
  };
  const double none = std::numeric_limits<double>::quiet_NaN(), endless = std::numeric_limits<double>::infinity();
  v1::PlanRequest request;
  for (const double wrong : {none, endless, -1.0, 0.0}) {
    CAPTURE(wrong);
    request = Request();
    for (const double capacity : {1.0, 1.0, wrong, 1.0}) request.add_capacities(capacity);
    CHECK(error(request).find("problem: capacities: rank 2 has ") == 0);
    request = Request();
    request.set_cost_per_expert(wrong == 0.0 ? -0.5 : wrong);
    CHECK(error(request).find("problem: cost: ") == 0);
    request = Request();
    request.set_policy("flex");
    (*request.mutable_policy_options())["gain_min"] = wrong == 0.0 ? 7.0 : wrong;
    CHECK(error(request).find("plan.policy_options: policy flex: option gain_min is ") == 0);
  }
  request = Request();
  request.set_cost_per_token(0);
  CHECK(error(request) == "problem: cost: 0 per expert, 0 per token");
  request = Request();
  request.set_num_nodes(3);
  CHECK(error(request) == "problem: num_nodes is 3, which does not divide 4 ranks");
  request = Request();
  request.set_num_expert_groups(3);
  CHECK(error(request) == "problem: num_expert_groups is 3, which does not divide 8 experts");
  request = Request();
  AddCurrent(request);
  request.add_layers(2);
  CHECK(error(request) == "plan.layers[0] is 2: 0 to 1 wanted");
  request = Request();
  request.add_layers(0);
  CHECK(error(request).find("problem: layers: some are to keep a current placement") == 0);
  request = Request();
  request.set_moves_max(1);
  CHECK(error(request) == "problem: moves_max: moves are counted against `current`, which is empty");
  request = Request();
  AddCurrent(request);
  request.set_moves_max(4'000'000'000u);
  CHECK(error(request).find("plan.moves_max is 4000000000: ") == 0);
  request = Request();
  for (const uint32_t rank : {0, 1}) request.add_dead_ranks(rank);
  CHECK(error(request) == "problem: dead_ranks: the living ranks have 6 slots for 8 experts");
  request = Request();
  for (const uint32_t expert : {0, 1, 2, 3}) request.add_pins()->set_expert(expert);
  CHECK(error(request).find("pins: ") != std::string::npos);
}

TEST_CASE("tokens of no experts at all are no load to divide by", "[stateless_plan]") {
  Running running;
  v1::PlanRequest request = Request();
  for (v1::PlanEpisode& episode : *request.mutable_episodes()) {
    std::ranges::fill(*episode.mutable_tokens(), uint64_t{0});
  }
  const v1::PlanResponse response = Planned(running, request);
  for (const v1::PlannedLayer& layer : response.layers()) CHECK(layer.imbalance_shares() == 1);
}

TEST_CASE("a plan that names no policy is made by the controller's default", "[stateless_plan]") {
  ControllerSettings settings = QuickSettings();
  settings.coordinator.defaults.policy = "deepseek";
  Running running(settings);
  v1::PlanRequest request = Request();
  request.clear_policy();
  CHECK(Planned(running, request).policy() == "deepseek");
}

// One that takes its time.
v1::PlanRequest SlowRequest() {
  v1::PlanRequest request;
  request.mutable_shape()->set_num_experts(128);
  request.mutable_shape()->set_num_ranks(16);
  request.mutable_shape()->set_slots_per_rank(9);
  request.set_num_layers(8);
  request.set_policy("flex");
  Rng rng(1);
  auto* tokens = request.add_episodes()->mutable_tokens();
  for (int i = 0; i < 8 * 128; ++i) tokens->Add(1 + rng.Below(1000) * rng.Below(1000));
  return request;
}

// Plans asked for at the same time.
class Asked {
 public:
  Asked(Running& running, const v1::PlanRequest& request, int count, system_clock::duration patience) {
    for (int i = 0; i < count; ++i) {
      Call& call = *calls_.emplace_back(std::make_unique<Call>());
      call.context.set_deadline(system_clock::now() + patience);
      call.request = request;
      running.control->async()->Plan(&call.context, &call.request, &call.response, [&call](const grpc::Status& status) {
        call.status = status;
        call.done.Notify();
      });
    }
  }

  int Count(grpc::StatusCode code) {
    int count = 0;
    for (const auto& call : calls_) {
      call->done.WaitForNotification();
      count += call->status.error_code() == code ? 1 : 0;
    }
    return count;
  }

 private:
  struct Call {
    grpc::ClientContext context;
    v1::PlanRequest request;
    v1::PlanResponse response;
    grpc::Status status;
    absl::Notification done;
  };
  std::vector<std::unique_ptr<Call>> calls_;
};

TEST_CASE("so many plans wait and no more; what is beyond is told so at once", "[stateless_plan]") {
  Running running;
  constexpr int kAsked = 40;
  Asked asked(running, SlowRequest(), kAsked, std::chrono::minutes(5));
  // Nor are other calls held up meanwhile.
  CHECK(ListGroups(running).groups().empty());
  const int planned = asked.Count(grpc::StatusCode::OK), refused = asked.Count(grpc::StatusCode::RESOURCE_EXHAUSTED);
  CHECK(planned >= static_cast<int>(ControlService::kPlansMax));
  CHECK(refused > 0);
  CHECK(planned + refused == kAsked);
  CHECK(Planned(running, Request()).layers_size() == 2);
}

TEST_CASE("a plan that nobody waits for any more is not made", "[stateless_plan]") {
  Running running;
  const v1::PlanRequest slow = SlowRequest();
  auto began = system_clock::now();
  Planned(running, slow);
  const auto once = system_clock::now() - began;
  began = system_clock::now();
  Asked asked(running, slow, static_cast<int>(ControlService::kPlansMax), std::chrono::milliseconds(1));
  CHECK(asked.Count(grpc::StatusCode::DEADLINE_EXCEEDED) == static_cast<int>(ControlService::kPlansMax));
  // Had all been made it were eight times as long. Until those given up are passed over the queue may be full.
  grpc::Status status;
  do {
    v1::PlanResponse response;
    status = running.control->Plan(Context().get(), Request(), &response);
  } while (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED && system_clock::now() - began < 4 * once);
  INFO(status.error_message());
  CHECK(status.ok());
  CHECK(system_clock::now() - began < 4 * once);
}

}  // namespace
}  // namespace evenkeel::controller
