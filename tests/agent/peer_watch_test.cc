// SPDX-License-Identifier: Apache-2.0
#include "agent/peer_watch.h"

#include <fstream>
#include <memory>
#include <string>

#include "catch2/catch.hpp"

#include "tests/engine/test_region.h"

namespace evenkeel::agent {
namespace {

using engine::TestDirectory;
using engine::TestRegion;

// A region of the group "test".
std::unique_ptr<TestRegion> EngineOf(const TestDirectory& directory, int rank) {
  evenkeel_options options = engine::SmallOptions(directory);
  options.rank = rank;
  return std::make_unique<TestRegion>(options);
}

Member MemberOf(const TestRegion& region, int rank) { return {RankId(rank), evenkeel_incarnation(region.get())}; }

struct Watching {
  std::vector<Member> After(absl::Duration passed) {
    now += passed;
    return watch.Poll(now);
  }

  TestDirectory directory;
  PeerWatch watch{directory.path(), "test", RankId(1)};
  absl::Time now = absl::UnixEpoch() + absl::Hours(1);
};

}  // namespace

TEST_CASE("the end of a peer's engine is seen at the next poll, once", "[peer_watch]") {
  Watching w;
  auto two = EngineOf(w.directory, 2);
  const auto three = EngineOf(w.directory, 3);
  const Member member = MemberOf(*two, 2);
  CHECK(w.After(PeerWatch::kPoll).empty());
  CHECK(w.watch.NextPoll() == w.now + PeerWatch::kPoll);
  two.reset();
  CHECK(w.After(PeerWatch::kPoll) == std::vector<Member>{member});
  CHECK(w.After(PeerWatch::kScan).empty());
  CHECK(w.After(PeerWatch::kScan).empty());
}

TEST_CASE("engines of this rank, of other groups and files that are none are not watched", "[peer_watch]") {
  Watching w;
  auto own = EngineOf(w.directory, 1);
  evenkeel_options options = engine::SmallOptions(w.directory);
  options.group = "test2", options.rank = 2;
  auto other = std::make_unique<TestRegion>(options);
  for (const char* name : {"evenkeel.test.x.0123456789abcdef", "evenkeel.test.2", "evenkeel.test.2.",
                           "evenkeel.test.-1.1", "evenkeel.test.2.0123456789abcdef.new", "else"}) {
    std::ofstream(w.directory.path() + "/" + name) << "no region";
  }
  CHECK(w.After(PeerWatch::kPoll).empty());
  own.reset();
  other.reset();
  CHECK(w.After(PeerWatch::kPoll).empty());
}

TEST_CASE("a region found only after its engine's end is told too, once as long as it lies there", "[peer_watch]") {
  Watching w;
  const Member member = [&w] {
    // What a killed process leaves: the file, its lock free.
    const auto two = EngineOf(w.directory, 2);
    const std::string path = two->path();
    std::filesystem::copy_file(path, w.directory.path() + "/kept");
    return MemberOf(*two, 2);
  }();
  char name[64];
  std::snprintf(name, sizeof(name), "/evenkeel.test.2.%016lx", member.incarnation);
  std::filesystem::rename(w.directory.path() + "/kept", w.directory.path() + name);
  CHECK(w.After(PeerWatch::kPoll) == std::vector<Member>{member});
  CHECK(w.After(PeerWatch::kScan).empty());
  CHECK(w.After(PeerWatch::kScan).empty());
  const auto successor = EngineOf(w.directory, 2);  // removes it
  CHECK(w.After(PeerWatch::kScan).empty());
  CHECK(w.directory.Files().size() == 1);
}

TEST_CASE("of two incarnations of a rank only the one that ended is told", "[peer_watch]") {
  Watching w;
  auto first = EngineOf(w.directory, 2);
  const Member member = MemberOf(*first, 2);
  CHECK(w.After(PeerWatch::kPoll).empty());
  auto second = EngineOf(w.directory, 2);
  CHECK(w.After(PeerWatch::kScan).empty());
  first.reset();
  CHECK(w.After(PeerWatch::kPoll) == std::vector<Member>{member});
  const Member newer = MemberOf(*second, 2);
  second.reset();
  CHECK(w.After(PeerWatch::kPoll) == std::vector<Member>{newer});
}

}  // namespace evenkeel::agent
