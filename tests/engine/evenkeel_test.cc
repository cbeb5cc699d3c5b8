// SPDX-License-Identifier: Apache-2.0
//
// The engine's calls on their own: no agent, or one that wrote before.
#include "engine/evenkeel.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "tests/engine/test_region.h"

namespace evenkeel::engine {
namespace {

std::string CreationError(const evenkeel_options& options, int expected_status) {
  evenkeel_region* region = nullptr;
  evenkeel_error error = {};
  CHECK(evenkeel_create(&options, &region, &error) == expected_status);
  CHECK(error.status == expected_status);
  CHECK(region == nullptr);
  return error.message;
}

}  // namespace

TEST_CASE("wrong options are refused by name, and leave no file", "[evenkeel]") {
  const TestDirectory directory;
  const auto with = [&directory](auto change) {
    evenkeel_options options = SmallOptions(directory);
    change(options);
    return CreationError(options, EVENKEEL_INVALID_ARGUMENT);
  };
  CHECK(with([](auto& o) { o.abi_version = 9; }) == "create region: ABI version 9; the library has 6");
  CHECK(with([](auto& o) { o.rank = 4; }) == "rank is 4, must be from 0 to 3");
  CHECK(with([](auto& o) { o.num_ranks = 0; }) == "num_ranks is 0, must be from 1 to 1048576");
  CHECK(with([](auto& o) { o.num_layers = 0; }) == "num_layers is 0, must be from 1 to 4096");
  CHECK(with([](auto& o) { o.num_experts = 13; }) == "slots of a layer is 12, must be from 13 to 16777216");
  CHECK(with([](auto& o) { o.num_lanes = 17; }) == "num_lanes is 17, must be from 1 to 16");
  CHECK(with([](auto& o) { o.ranks_max = 3; }) == "ranks_max is 3, must be from 4 to 1048576");
  CHECK(with([](auto& o) { o.ranks_max = 6, o.rank = 6; }) == "rank is 6, must be from 0 to 5");
  CHECK(with([](auto& o) { o.ranks_max = 6, o.rank = 4; }) ==
        "rank 4 is beyond the first 4: it can only join (options.join)");
  CHECK(with([](auto& o) { o.ranks_max = 8, o.num_experts = 13; }) ==
        "slots of a layer is 12, must be from 13 to 16777216");
  CHECK(with([](auto& o) { o.num_nodes = 3; }) == "num_nodes is 3, which does not divide 4 ranks");
  CHECK(with([](auto& o) { o.group = "a/b"; }) == "group a/b: only letters, digits, '-' and '_' may be in it");
  CHECK(with([](auto& o) { o.group = nullptr; }) == "group has 0 characters, must have 1 to 63");
  CHECK(with([](auto& o) { o.model = nullptr; }) == "model must be given, with at most 127 characters");
  CHECK_THAT(with([](auto& o) { o.directory = "/nowhere/at/all"; }), Catch::Contains("No such file"));
  CHECK(directory.Files().empty());
}

TEST_CASE("a region that does not fit is refused with its size", "[evenkeel]") {
  const TestDirectory directory;
  evenkeel_options options = SmallOptions(directory);
  options.weights_bytes = uint64_t{1} << 49;
  CHECK_THAT(CreationError(options, EVENKEEL_RESOURCE_EXHAUSTED), Catch::Contains("bytes of memory for"));
  CHECK(directory.Files().empty());
}

TEST_CASE("tensors must lie in the region's memory, one place for each slot", "[evenkeel]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  evenkeel_error error = {};
  auto* data = static_cast<char*>(evenkeel_alloc_weights(region.get(), 300));
  REQUIRE(data != nullptr);
  CHECK(reinterpret_cast<uintptr_t>(data) % 64 == 0);
  char elsewhere[300];
  const auto add = [&](int layer, const char* name, void* at, uint64_t bytes, uint64_t stride) {
    return evenkeel_add_tensor(region.get(), layer, name, "f32", at, bytes, stride, &error);
  };
  CHECK(add(0, "w", elsewhere, 100, 100) == EVENKEEL_INVALID_ARGUMENT);
  CHECK_THAT(error.message, Catch::Contains("add tensor w: not within memory from evenkeel_alloc_weights; "));
  CHECK(add(0, "w", data, 100, 101) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(std::string(error.message) ==
        "add tensor w: its slots take 302 bytes, which are not within memory from evenkeel_alloc_weights");
  CHECK(add(0, "w", data, 100, 50) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(std::string(error.message) ==
        "add tensor w: 100 bytes per expert, 50 apart: each expert needs bytes of its own");
  CHECK(add(2, "w", data, 100, 100) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(add(0, "w", data, 100, UINT64_MAX / 2) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(add(0, "w", data, 100, 100) == EVENKEEL_OK);
  CHECK(add(0, "w", data, 100, 100) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_ready(region.get(), &error) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(std::string(error.message) == "ready: layer 1 has no tensor");
  CHECK(evenkeel_alloc_weights(region.get(), 1 << 16) == nullptr);
}

TEST_CASE("no two slots of any tensors share a byte, but tensors may alternate", "[evenkeel]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  evenkeel_error error = {};
  auto* data = static_cast<char*>(evenkeel_alloc_weights(region.get(), 1000));
  const auto add = [&](int layer, const char* name, int at, uint64_t bytes, uint64_t stride) {
    return evenkeel_add_tensor(region.get(), layer, name, "f32", data + at, bytes, stride, &error);
  };
  REQUIRE(add(0, "w", 0, 100, 200) == EVENKEEL_OK);  // 0, 200, 400
  CHECK(add(0, "v", 0, 100, 200) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(std::string(error.message) == "add tensor v of layer 0: its slots share bytes with those of w of layer 0");
  CHECK(add(1, "w", 0, 100, 200) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(std::string(error.message) == "add tensor w of layer 1: its slots share bytes with those of w of layer 0");
  CHECK(add(0, "v", 99, 100, 200) == EVENKEEL_INVALID_ARGUMENT);   // one byte of each
  CHECK(add(0, "v", 100, 101, 200) == EVENKEEL_INVALID_ARGUMENT);  // the last byte of two
  CHECK(add(0, "v", 300, 50, 51) == EVENKEEL_INVALID_ARGUMENT);    // its third slot in w's third
  CHECK(add(0, "v", 100, 60, 200) == EVENKEEL_OK);                 // between them
  CHECK(add(1, "w", 160, 40, 200) == EVENKEEL_OK);                 // and what is left
  CHECK(add(1, "v", 600, 10, 10) == EVENKEEL_OK);
  CHECK(add(1, "u", 0, 1000, 1000) == EVENKEEL_INVALID_ARGUMENT);
}

TEST_CASE("steps need a ready region, known lanes and known tickets", "[evenkeel]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  evenkeel_region* r = region.get();
  CHECK(evenkeel_begin_step(r, 0, EVENKEEL_DECODE, EVENKEEL_REAL) == EVENKEEL_FAILED_PRECONDITION);
  region.MakeReady();
  CHECK(evenkeel_ready(r, nullptr) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_begin_step(r, 1, EVENKEEL_DECODE, EVENKEEL_REAL) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_begin_step(r, 0, static_cast<evenkeel_phase>(3), EVENKEEL_REAL) == EVENKEEL_INVALID_ARGUMENT);
  const int64_t ticket = evenkeel_begin_step(r, 0, EVENKEEL_PREFILL, EVENKEEL_DUMMY);
  REQUIRE(ticket > 0);
  CHECK(evenkeel_set_idle(r, 0) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_end_step(r, 0, ticket + 1) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_end_step(r, 0, ticket) == EVENKEEL_OK);
  CHECK(evenkeel_end_step(r, 0, ticket) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_set_idle(r, 0) == EVENKEEL_OK);
}

TEST_CASE("64 steps of a lane may be open and end in any order", "[evenkeel]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  region.MakeReady();
  std::vector<int64_t> tickets;
  for (int i = 0; i < 64; ++i) {
    tickets.push_back(evenkeel_begin_step(region.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL));
    REQUIRE(tickets.back() > 0);
  }
  CHECK(evenkeel_begin_step(region.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL) == EVENKEEL_RESOURCE_EXHAUSTED);
  CHECK(evenkeel_end_step(region.get(), 0, tickets[40]) == EVENKEEL_OK);
  const int64_t next = evenkeel_begin_step(region.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL);
  CHECK(next > tickets.back());
  CHECK(evenkeel_end_step(region.get(), 0, tickets[40]) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_end_step(region.get(), 0, next) == EVENKEEL_OK);
  for (size_t i = 64; i-- > 0;) {
    if (i != 40) CHECK(evenkeel_abort_step(region.get(), 0, tickets[i]) == EVENKEEL_OK);
  }
}

TEST_CASE("route answers by the step's maps and refuses what it cannot read", "[evenkeel]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  region.MakeReady();
  const std::vector<int32_t> ids = {0, 7, -1, 3};
  std::vector<int32_t> slots(4, 77);
  const auto route = [&](int id_bytes, int top_k) {
    return evenkeel_route(region.get(), 0, 0, ids.data(), id_bytes, 2, top_k, 2, 0, slots.data());
  };
  CHECK(route(4, 2) == EVENKEEL_FAILED_PRECONDITION);
  REQUIRE(evenkeel_begin_step(region.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL) > 0);
  CHECK(route(2, 2) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(route(4, 0) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(route(4, 2) == EVENKEEL_OK);
  std::vector<int32_t> experts(12);
  REQUIRE(evenkeel_physical_to_logical(region.get(), 0, 0, experts.data()) == EVENKEEL_OK);
  CHECK(experts[static_cast<size_t>(slots[0])] == 0);
  CHECK(experts[static_cast<size_t>(slots[1])] == 7);
  CHECK(slots[2] == -1);
  CHECK(experts[static_cast<size_t>(slots[3])] == 3);
  const int32_t unknown = 8;
  CHECK(evenkeel_route(region.get(), 0, 0, &unknown, 4, 1, 1, 1, 0, slots.data()) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(slots[0] == -1);
}

TEST_CASE("work for others is bracketed once per thread", "[evenkeel]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  region.MakeReady();
  CHECK(evenkeel_serve_end(region.get(), 0) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_serve_begin(region.get(), 0, 4, 1) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_serve_begin(region.get(), 1, 0, 1) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_serve_begin(region.get(), 0, 0, 1) == EVENKEEL_OK);
  CHECK(evenkeel_serve_begin(region.get(), 0, 0, 1) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_serve_end(region.get(), 0) == EVENKEEL_OK);
}

TEST_CASE("destroying a region removes its file and no other", "[evenkeel]") {
  const TestDirectory directory;
  {
    TestRegion region(SmallOptions(directory));
    CHECK(directory.Files().size() == 1);
    TestRegion other_incarnation(SmallOptions(directory));
    CHECK(directory.Files().size() == 2);
    CHECK(evenkeel_incarnation(region.get()) != evenkeel_incarnation(other_incarnation.get()));
  }
  CHECK(directory.Files().empty());
}

TEST_CASE("null regions are answered, not followed", "[evenkeel]") {
  CHECK(evenkeel_begin_step(nullptr, 0, EVENKEEL_DECODE, EVENKEEL_REAL) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_end_step(nullptr, 0, 1) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_count(nullptr, 0, EVENKEEL_DECODE, 0, 0, 1) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_ready(nullptr, nullptr) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_create(nullptr, nullptr, nullptr) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_lost_ranks(nullptr) == nullptr);
  CHECK(evenkeel_is_member(nullptr) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_member(nullptr, 0) == 0);
  CHECK(evenkeel_reroute(nullptr, 0, 1) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_leave(nullptr) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_serve_begin(nullptr, 0, 0, 1) == EVENKEEL_INVALID_ARGUMENT);
  evenkeel_destroy(nullptr);
}

}  // namespace evenkeel::engine
