// SPDX-License-Identifier: Apache-2.0
//
// What the worker tells of the ends of other ranks' engines (protocol, rules 19 and 24).
#include <catch2/catch.hpp>

#include "tests/agent/core_script.h"

namespace evenkeel::agent::script {
namespace {

Member Peer(uint64_t incarnation = 1) { return {RankId(0), incarnation}; }

View ViewOf(uint64_t number, std::vector<Member> members) { return {.number = number, .members = std::move(members)}; }

}  // namespace

TEST_CASE("a peer's end is told at once, and again on every stream while a view has it", "[worker]") {
  Agent agent;
  agent.Attach(1);
  agent.Hear(ViewUpdate{ViewOf(1, {Peer(), {RankId(1), kIncarnation}})});
  CHECK(agent.Give(PeerEngineEnded{Peer()}) == "peer ended 0");
  CHECK(agent.Give(PeerEngineEnded{Peer()}) == "");
  CHECK(agent.Pass(absl::Seconds(1)) == "");
  CHECK(agent.Attach(1) == "peer ended 0\nquiesced 0.0 view 0");
  agent.Hear(ViewUpdate{ViewOf(2, {{RankId(1), kIncarnation}})});
  CHECK(agent.Attach(1) == "quiesced 0.0 view 0");
}

TEST_CASE("a peer that ended before any controller came is told to the first", "[worker]") {
  Agent agent;
  CHECK(agent.Give(PeerEngineEnded{Peer()}) == "");
  CHECK(agent.Attach(1) == "store term 1\npeer ended 0\nquiesced 0.0 view 0");
}

TEST_CASE("the end of one whom the view lacks is told when a view has it", "[worker]") {
  Agent agent;
  agent.Attach(1);
  agent.Hear(ViewUpdate{ViewOf(1, {Peer(1), {RankId(1), kIncarnation}})});
  CHECK(agent.Give(PeerEngineEnded{Peer(2)}) == "");
  CHECK(agent.Hear(ViewUpdate{ViewOf(2, {Peer(2), {RankId(1), kIncarnation}})}) == "store view 2\npeer ended 0");
}

TEST_CASE("an engine that is about to end has its word passed on at once, and to a controller that comes later",
          "[worker]") {
  Agent agent;
  agent.Attach(1);
  EngineObserved observed;
  CHECK(agent.Give(observed) == "");
  observed.status.leaving = true;
  CHECK_THAT(agent.Give(observed), Catch::StartsWith("engine alive"));
  CHECK(agent.Give(observed) == "");
  CHECK_THAT(agent.Attach(1), Catch::StartsWith("engine alive"));
}

TEST_CASE("an ended engine of its own rank is not told as a peer's", "[worker]") {
  Agent agent;
  agent.Attach(1);
  CHECK(agent.Give(PeerEngineEnded{{RankId(1), 5}}) == "");
}

}  // namespace evenkeel::agent::script
