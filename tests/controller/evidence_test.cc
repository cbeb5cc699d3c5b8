// SPDX-License-Identifier: Apache-2.0
#include "controller/core/ranks/evidence.h"

#include <catch2/catch.hpp>
#include <vector>

#include "absl/strings/match.h"

namespace evenkeel::controller {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(100);

// A group whose agents report as told, every tick.
struct Scene {
  explicit Scene(int num_ranks) : members(num_ranks, num_ranks), evidence(num_ranks), silent(Size(num_ranks), false) {
    statuses.resize(Size(num_ranks));
    for (int r = 0; r < num_ranks; ++r) {
      Attach attach;
      attach.member = {RankId(r), 100 + static_cast<uint64_t>(r)};
      REQUIRE(members.Admit(static_cast<SessionId>(r + 1), attach, {}, now).ok());
    }
    Pass(absl::Seconds(10));
  }
  static size_t Size(int count) { return static_cast<size_t>(count); }

  void Pass(absl::Duration duration) {
    for (const absl::Time end = now + duration; now < end; now += kTick) {
      evidence.Look(now, rules);
      for (size_t r = 0; r < statuses.size(); ++r) {
        ++statuses[r].num_steps;
        if (!silent[r]) evidence.HearStatus(RankId(static_cast<int>(r)), statuses[r], now);
      }
    }
  }
  // `rank` is in a step and waits for these.
  void Wait(int rank, std::vector<RankId> ranks) {
    statuses[Size(rank)].oldest_open_step = absl::Milliseconds(50);
    statuses[Size(rank)].waiting_for = std::move(ranks);
  }
  Verdict Judge(int ranks_min = 1) const { return evidence.Judge(members, ranks_min, rules, now); }
  std::vector<RankId> Lost(int ranks_min = 1) const {
    std::vector<RankId> lost;
    for (const Loss& loss : Judge(ranks_min).lost) lost.push_back(loss.rank);
    return lost;
  }

  absl::Time now = absl::FromUnixSeconds(1000);
  EvidenceRules rules{.agent_lease = absl::Seconds(3),
                      .engine_lease = absl::Seconds(30),
                      .agent_reconnect_max = absl::Seconds(1),
                      .num_witnesses = 2};
  Membership members;
  Evidence evidence;
  std::vector<bool> silent;
  std::vector<EngineStatus> statuses;
};

using Ranks = std::vector<RankId>;

TEST_CASE("a rank whose engine was seen to end is lost at once, whoever waits", "[evidence]") {
  Scene scene(4);
  scene.evidence.NoteEnded(RankId(0), RankId(2), scene.now);
  const Verdict verdict = scene.Judge();
  REQUIRE(verdict.lost.size() == 1);
  CHECK(verdict.lost[0].rank == RankId(2));
  CHECK(verdict.lost[0].kind == Loss::Kind::kEnded);
  CHECK(verdict.lost[0].why == "its engine has ended, as the agent of rank 0 saw");
}

TEST_CASE("a rank that said that it leaves is lost at once", "[evidence]") {
  Scene scene(4);
  scene.evidence.NoteLeaving(RankId(1), scene.now);
  CHECK(scene.Lost() == Ranks{RankId(1)});
  CHECK(scene.Judge().lost[0].kind == Loss::Kind::kLeft);
}

TEST_CASE("silence alone expels nobody, nor do peers that wait for a rank that speaks", "[evidence]") {
  Scene scene(4);
  scene.silent[2] = true;
  scene.Pass(absl::Minutes(5));
  CHECK(scene.Lost().empty());
  Scene slow(4);
  slow.Wait(0, {RankId(2)});
  slow.Wait(1, {RankId(2)});
  slow.Wait(3, {RankId(2)});
  slow.Pass(absl::Minutes(5));
  CHECK(slow.Lost().empty());
}

TEST_CASE("a silent rank is lost after its lease, once two peers wait for it", "[evidence]") {
  Scene scene(4);
  scene.silent[2] = true;
  scene.Wait(0, {RankId(2)});
  scene.Pass(absl::Seconds(4));
  CHECK(scene.Lost().empty());
  scene.Wait(3, {RankId(2)});
  scene.Pass(kTick);
  CHECK(scene.Lost() == Ranks{RankId(2)});
  CHECK(scene.Judge().lost[0].witnesses == Ranks{RankId(0), RankId(3)});
  CHECK(absl::StrContains(scene.Judge().lost[0].why, "ranks 0, 3 wait for it"));
}

TEST_CASE("within its lease a rank that is waited for stays", "[evidence]") {
  Scene scene(4);
  scene.silent[2] = true;
  scene.Wait(0, {RankId(2)});
  scene.Wait(3, {RankId(2)});
  scene.Pass(absl::Milliseconds(2800));
  CHECK(scene.Lost().empty());
  scene.Pass(absl::Milliseconds(300));
  CHECK(scene.Lost() == Ranks{RankId(2)});
}

TEST_CASE("of two ranks one witness is enough", "[evidence]") {
  Scene scene(2);
  scene.silent[1] = true;
  scene.Wait(0, {RankId(1)});
  scene.Pass(absl::Seconds(4));
  CHECK(scene.Lost() == Ranks{RankId(1)});
}

TEST_CASE("ranks that join and have no maps yet can wait for nobody: they raise no number of witnesses", "[evidence]") {
  Scene scene(4);
  const bool with_maps = GENERATE(false, true);
  for (int r : {2, 3}) {
    scene.members.at(RankId(r)).fresh = true;
    if (with_maps) scene.members.at(RankId(r)).quiesced_epoch = {1, 1};
  }
  scene.silent[0] = true;
  scene.Wait(1, {RankId(0)});
  scene.Pass(absl::Seconds(4));
  CHECK(scene.Lost() == (with_maps ? Ranks{} : Ranks{RankId(0)}));
}

TEST_CASE("a rank that joins and has no maps yet is no witness, whatever its agent says", "[evidence]") {
  Scene scene(4);
  scene.members.at(RankId(1)).fresh = true;
  scene.silent[3] = true;
  scene.Pass(absl::Seconds(1));
  for (int r : {0, 1}) scene.Wait(r, {RankId(3)});
  scene.Pass(absl::Seconds(10));
  CHECK(scene.Lost().empty());
  scene.members.at(RankId(1)).quiesced_epoch = {1, 1};
  CHECK(scene.Lost() == Ranks{RankId(3)});
}

TEST_CASE("a silent rank that an operator lets go of is lost, whatever is left; one that speaks is not", "[evidence]") {
  Scene scene(4);
  for (size_t r : {0, 1, 2}) scene.silent[r] = true;
  scene.Pass(absl::Seconds(4));
  CHECK(scene.Lost(4).empty());
  for (int r : {0, 1, 3}) scene.evidence.NoteGivenUp(RankId(r));
  CHECK(scene.Lost(4) == Ranks{RankId(0), RankId(1)});
  scene.silent[1] = false;
  scene.Pass(absl::Seconds(4));
  scene.silent[1] = true;
  scene.Pass(absl::Seconds(4));
  CHECK(scene.Lost(4) == Ranks{RankId(0)});  // it had come back since
}

TEST_CASE("a healthy rank that a dying one blames stays", "[evidence]") {
  Scene scene(4);
  scene.Wait(0, {RankId(3)});
  scene.Wait(1, {RankId(3)});
  scene.silent[3] = true;  // its agent is away, its engine is well
  SECTION("where one of the witnesses has ended itself") {
    scene.Pass(absl::Seconds(5));
    scene.evidence.NoteEnded(RankId(2), RankId(1), scene.now);
    CHECK(scene.Lost() == Ranks{RankId(1)});
  }
  SECTION("where one of them leaves") {
    scene.Pass(absl::Seconds(5));
    scene.evidence.NoteLeaving(RankId(1), scene.now);
    CHECK(scene.Lost() == Ranks{RankId(1)});
  }
  SECTION("where one of them is silent as well") {
    scene.Pass(kTick);
    scene.silent[1] = true;
    scene.Pass(absl::Seconds(5));
    CHECK(scene.Lost().empty());
  }
  SECTION("where none has a step open") {
    scene.statuses[0].oldest_open_step = scene.statuses[1].oldest_open_step = absl::ZeroDuration();
    scene.Pass(absl::Seconds(5));
    CHECK(scene.Lost().empty());
  }
}

TEST_CASE("a witness counts only where it waited after the rank was last heard", "[evidence]") {
  Scene scene(4);
  scene.Wait(0, {RankId(2)});
  scene.Wait(1, {RankId(2)});
  scene.Pass(absl::Seconds(1));
  scene.Wait(0, {});
  scene.Wait(1, {});
  scene.silent[2] = true;
  scene.Pass(absl::Seconds(5));
  CHECK(scene.Lost().empty());
}

TEST_CASE("an announced pause is not silence until it is over", "[evidence]") {
  Scene scene(4);
  scene.statuses[2].busy_lease = absl::Seconds(20);
  scene.Pass(kTick);
  scene.silent[2] = true;
  scene.Wait(0, {RankId(2)});
  scene.Wait(1, {RankId(2)});
  scene.Pass(absl::Seconds(19));
  CHECK(scene.Lost().empty());
  scene.Pass(absl::Seconds(2));
  CHECK(scene.Lost() == Ranks{RankId(2)});
}

TEST_CASE("an engine that gets nowhere in a step is silent after its own lease, if it waits for nobody", "[evidence]") {
  Scene scene(4);
  const bool waits = GENERATE(false, true);
  CAPTURE(waits);
  scene.Wait(0, {RankId(2)});
  scene.Wait(1, {RankId(2)});
  for (absl::Duration passed; passed < absl::Seconds(29); passed += kTick) {
    scene.Wait(2, waits ? Ranks{RankId(3)} : Ranks{});
    --scene.statuses[2].num_steps;  // which Pass counts up
    scene.Pass(kTick);
  }
  CHECK(scene.Lost().empty());
  for (absl::Duration passed; passed < absl::Seconds(2); passed += kTick) {
    --scene.statuses[2].num_steps;
    scene.Pass(kTick);
  }
  CHECK(scene.Lost() == (waits ? Ranks{} : Ranks{RankId(2)}));
}

TEST_CASE("after a start, and after the strand was away, nobody is expelled for a reconnect and a lease",
          "[evidence]") {
  Scene scene(4);
  scene.silent[2] = true;
  scene.Wait(0, {RankId(2)});
  scene.Wait(1, {RankId(2)});
  scene.Pass(absl::Seconds(2));
  scene.now += absl::Milliseconds(1300);  // more than a quarter of the lease beyond the next look
  scene.Pass(kTick);
  CHECK(scene.Lost().empty());  // though nothing was heard of it for longer than its lease
  scene.Pass(absl::Milliseconds(3800));
  CHECK(scene.Lost().empty());
  scene.Pass(absl::Milliseconds(300));
  CHECK(scene.Lost() == Ranks{RankId(2)});
}

TEST_CASE("on silence a group is not taken below what holds every expert, nor below half", "[evidence]") {
  Scene scene(4);
  scene.silent[2] = scene.silent[3] = true;
  scene.Wait(0, {RankId(2), RankId(3)});
  scene.Wait(1, {RankId(2), RankId(3)});
  scene.Pass(absl::Seconds(5));
  CHECK(scene.Lost() == Ranks{RankId(2), RankId(3)});
  SECTION("too few slots would be left") {
    CHECK(scene.Lost(3).empty());
    CHECK(absl::StrContains(scene.Judge(3).held_back, "could not hold every expert"));
    scene.evidence.NoteEnded(RankId(0), RankId(2), scene.now);
    CHECK(scene.Lost(3) == Ranks{RankId(2)});  // that has ended whatever is left
  }
  SECTION("the lost of before belong to the group") {
    for (int r : {2, 3}) {
      scene.members.SetStanding(RankId(r), Standing::kLost, scene.now);
      scene.evidence.Forget(RankId(r), scene.now);
      scene.evidence.NoteExpelled(RankId(r));
    }
    scene.silent[1] = true;
    scene.Wait(0, {RankId(1)});
    scene.Pass(absl::Seconds(5));
    CHECK(scene.Lost().empty());
    CHECK(absl::StrContains(scene.Judge().held_back, "1 of 4 ranks are less than half"));
  }
}

TEST_CASE("a group all of whose engines have ended loses none: it is over, and starts anew as a whole", "[evidence]") {
  Scene scene(2);
  scene.evidence.NoteEnded(RankId(0), RankId(0), scene.now);
  CHECK(scene.Lost() == Ranks{RankId(0)});
  scene.evidence.NoteEnded(RankId(0), RankId(1), scene.now);
  CHECK(scene.Lost().empty());
}

TEST_CASE("another engine of a rank has a clean slate", "[evidence]") {
  Scene scene(4);
  scene.evidence.NoteEnded(RankId(0), RankId(2), scene.now);
  scene.evidence.Forget(RankId(2), scene.now);
  CHECK(scene.Lost().empty());
}

}  // namespace
}  // namespace evenkeel::controller
