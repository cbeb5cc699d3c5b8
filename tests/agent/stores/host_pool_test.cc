// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/host_pool.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/agent/stores/store_rig.h"

namespace evenkeel::agent {
namespace {

constexpr LayerId kLayer{0};

std::vector<std::string> PoolsIn(const engine::TestDirectory& directory) {
  std::vector<std::string> pools;
  for (const std::string& name : directory.Files()) {
    if (name.rfind("evenkeel-pool.", 0) == 0) pools.push_back(name);
  }
  return pools;
}

Worth AlwaysHeld(uint64_t) { return Worth::kHeld; }

TEST_CASE("the agents of a host share one pool and fill every expert in once", "[host_pool]") {
  StoreRig rig;
  std::vector<std::unique_ptr<HostPool>> pools;
  for (int rank = 0; rank < kRigRanks; ++rank) pools.push_back(rig.Enter(rank));
  CHECK(PoolsIn(rig.directory).size() == 1);
  CHECK(pools[2]->Ranks() == std::vector<RankId>{RankId(0), RankId(1), RankId(2), RankId(3)});
  int num_filled = 0;
  for (int rank = 0; rank < kRigRanks; ++rank)
    num_filled += rig.Fill(rank, *pools[static_cast<size_t>(rank)]).num_filled;
  CHECK(num_filled == kRigLayers * kRigExperts);
  CHECK(rig.CountHeld(*pools[0]) == kRigLayers * kRigExperts);
  CHECK(rig.Fill(1, *pools[1]).num_filled == 0);
  CHECK(rig.Fill(1, *pools[1]).complete);
}

TEST_CASE("a pool has mode 0600 and is entered by no second agent of a rank", "[host_pool]") {
  StoreRig rig;
  const auto pool = rig.Enter(0);
  struct stat info = {};
  REQUIRE(::stat(pool->view().path().c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  const auto second = HostPool::Enter(
      {.directory = rig.directory.path(), .host = "host", .rank = RankId(0), .num_ranks = 4, .bytes_max = 1 << 20},
      rig.identity());
  CHECK(absl::IsUnavailable(second.status()));
}

TEST_CASE("two hosts by label keep pools of their own, and together every expert", "[host_pool]") {
  StoreRig rig;
  // Room for eight experts each: what the two ranks of a host own.
  const uint64_t bytes = PlanOfFrames(rig.identity(), 8).total_bytes;
  std::vector<std::unique_ptr<HostPool>> pools;
  for (int rank = 0; rank < kRigRanks; ++rank) pools.push_back(rig.Enter(rank, bytes, rank < 2 ? "one" : "two"));
  CHECK(PoolsIn(rig.directory).size() == 2);
  CHECK(pools[3]->Ranks() == std::vector<RankId>{RankId(2), RankId(3)});
  for (int pass = 0; pass < 2; ++pass) {
    for (int rank = 0; rank < kRigRanks; ++rank) rig.Fill(rank, *pools[static_cast<size_t>(rank)]);
  }
  CHECK(rig.CountHeld(*pools[0]) == 8);
  CHECK(rig.CountHeld(*pools[2]) == 8);
  for (int l = 0; l < kRigLayers; ++l) {
    for (int e = 0; e < kRigExperts; ++e) {
      const uint64_t fingerprint = rig.FingerprintOf(LayerId(l), ExpertId(e));
      CHECK(pools[0]->Holds(LayerId(l), ExpertId(e), fingerprint) !=
            pools[2]->Holds(LayerId(l), ExpertId(e), fingerprint));
    }
  }
}

TEST_CASE("an entry being written is not read, and another agent does not write it", "[host_pool]") {
  StoreRig rig;
  const auto pool = rig.Enter(0), other = rig.Enter(1);
  const uint64_t fingerprint = rig.FingerprintOf(kLayer, ExpertId(2));
  auto claim = pool->Begin(kLayer, ExpertId(2), Worth::kOwned, AlwaysHeld);
  REQUIRE(claim.ok());
  CHECK_FALSE(other->Holds(kLayer, ExpertId(2), fingerprint));
  CHECK(absl::IsUnavailable(other->Begin(kLayer, ExpertId(2), Worth::kOwned, AlwaysHeld).status()));
  // Bytes of another expert: they are not published.
  for (const auto& tensor : claim->tensors) std::memset(tensor.data(), 77, tensor.size());
  CHECK(absl::IsDataLoss(pool->Publish(*claim, fingerprint)));
  CHECK_FALSE(other->Holds(kLayer, ExpertId(2), fingerprint));
  CHECK(other->Begin(kLayer, ExpertId(2), Worth::kOwned, AlwaysHeld).ok());
}

TEST_CASE("what a killed agent had half written is never read and is written anew", "[host_pool]") {
  StoreRig rig;
  const uint64_t bytes = PlanOfFrames(rig.identity(), 1).total_bytes;  // a single frame
  const auto pool = rig.Enter(1, bytes);
  int ready[2] = {-1, -1};
  REQUIRE(::pipe(ready) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    auto own = HostPool::Enter(
        {.directory = rig.directory.path(), .host = "host", .rank = RankId(0), .num_ranks = 4, .bytes_max = bytes},
        rig.identity());
    if (!own.ok()) ::_exit(1);
    const auto claim = (*own)->Begin(kLayer, ExpertId(0), Worth::kOwned, AlwaysHeld);
    if (!claim.ok()) ::_exit(2);
    std::memset(claim->tensors[0].data(), 1, claim->tensors[0].size() / 2);
    if (::write(ready[1], "x", 1) != 1) ::_exit(3);
    while (true) ::pause();
  }
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  const uint64_t fingerprint = rig.FingerprintOf(kLayer, ExpertId(0));
  CHECK(pool->Ranks() == std::vector<RankId>{RankId(0), RankId(1)});
  CHECK_FALSE(pool->Holds(kLayer, ExpertId(0), fingerprint));
  // While it lives its frame is not to be had, and it is the only one.
  CHECK(absl::IsResourceExhausted(pool->Begin(kLayer, ExpertId(1), Worth::kOwned, AlwaysHeld).status()));
  REQUIRE(::kill(child, SIGKILL) == 0);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  CHECK(pool->Ranks() == std::vector<RankId>{RankId(1)});
  CHECK_FALSE(pool->Holds(kLayer, ExpertId(0), fingerprint));
  const auto heir = rig.Enter(0, bytes);
  CHECK(rig.Fill(0, *heir).num_filled == 1);
  CHECK(rig.CountHeld(*pool) == 1);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_CASE("a full pool gives up what is worth less, and nothing for what is worth no more", "[host_pool]") {
  StoreRig rig;
  const auto pool = rig.Enter(0, PlanOfFrames(rig.identity(), 2).total_bytes);
  const auto put = [&](int expert, Worth worth, const HostPool::WorthOfEntry& worth_of) {
    auto claim = pool->Begin(kLayer, ExpertId(expert), worth, worth_of);
    if (!claim.ok()) return claim.status();
    for (const auto& tensor : claim->tensors) std::memset(tensor.data(), expert, tensor.size());
    return pool->Publish(*claim, pool->view().FingerprintOf(claim->frame, kLayer));
  };
  const auto worth_of = [](uint64_t entry) { return entry == 4 ? Worth::kElsewhere : Worth::kHeld; };
  const auto holds = [&](int expert) {
    return pool->view().cell(static_cast<uint64_t>(expert)).state.Load() == static_cast<uint64_t>(PoolState::kVerified);
  };
  REQUIRE(put(3, Worth::kHeld, worth_of).ok());
  REQUIRE(put(4, Worth::kHeld, worth_of).ok());
  REQUIRE(put(5, Worth::kHeld, worth_of).ok());
  CHECK((holds(3) && !holds(4) && holds(5)));
  CHECK(absl::IsResourceExhausted(put(6, Worth::kHeld, worth_of)));
  REQUIRE(put(6, Worth::kOwned, worth_of).ok());
  CHECK((!holds(3) && holds(5) && holds(6)));
}

TEST_CASE("damaged bytes are found by the scrub and filled in again", "[host_pool]") {
  StoreRig rig;
  const auto pool = rig.Enter(0);
  const int num_filled = rig.Fill(0, *pool).num_filled;
  REQUIRE(num_filled > 1);
  const auto found = pool->view().Find(kLayer, ExpertId(0), rig.FingerprintOf(kLayer, ExpertId(0)));
  REQUIRE(found.ok());
  pool->view().TensorsIn(found->frame, kLayer)[0][5] ^= std::byte{1};
  int num_bad = 0;
  for (int i = 0; i < num_filled; ++i) num_bad += pool->ScrubNext() ? 0 : 1;
  CHECK(num_bad == 1);
  CHECK(rig.CountHeld(*pool) == num_filled - 1);
  CHECK(rig.Fill(0, *pool).num_filled == 1);
  CHECK(rig.CountHeld(*pool) == num_filled);
}

TEST_CASE("the last agent that is told to end removes the pool; a killed one leaves it to its heir", "[host_pool]") {
  StoreRig rig;
  auto first = rig.Enter(0), second = rig.Enter(1);
  rig.Fill(0, *first);
  const int held = rig.CountHeld(*first);
  first->RemoveIfLast();
  first.reset();
  CHECK(PoolsIn(rig.directory).size() == 1);
  second.reset();  // as a kill does
  CHECK(PoolsIn(rig.directory).size() == 1);
  first = rig.Enter(0);
  CHECK(rig.CountHeld(*first) == held);
  first->RemoveIfLast();
  CHECK(PoolsIn(rig.directory).empty());
  CHECK_FALSE(first->IsNamed());
}

TEST_CASE("a pool of other weights that nobody uses is removed, one in use stays", "[host_pool]") {
  StoreRig rig;
  StoreIdentity older = rig.identity();
  older.weights_version = 6;
  const HostPool::Options options = {
      .directory = rig.directory.path(), .host = "host", .rank = RankId(3), .num_ranks = 4, .bytes_max = 1 << 20};
  auto old_pool = HostPool::Enter(options, older);
  REQUIRE(old_pool.ok());
  auto pool = rig.Enter(0);
  CHECK(PoolsIn(rig.directory).size() == 2);
  old_pool->reset();
  pool = nullptr;
  pool = rig.Enter(0);
  CHECK(PoolsIn(rig.directory) == std::vector<std::string>{PoolName(rig.identity(), "host")});
}

TEST_CASE("files that are no whole pool of these weights are refused", "[host_pool]") {
  StoreRig rig;
  std::string path;
  {
    const auto pool = rig.Enter(0);
    path = pool->view().path();
    rig.Fill(0, *pool);
  }
  const auto open = [&](const StoreIdentity& identity) {
    return PoolView::Open(path, identity, engine::SharedMemory::Access::kReadOnly).status();
  };
  REQUIRE(open(rig.identity()).ok());
  StoreIdentity other = rig.identity();
  other.model = "other";
  CHECK(absl::IsFailedPrecondition(open(other)));
  const auto size = std::filesystem::file_size(path);
  const auto write = [&](uint64_t at, uint64_t value) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(at));
    file.write(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  const uint64_t frames_at = sizeof(engine::ObjectHeader) + offsetof(PoolHeader, num_frames);
  for (const uint64_t num_frames : {uint64_t{0}, uint64_t{1}, uint64_t{17}, UINT64_MAX}) {
    write(frames_at, num_frames);
    CAPTURE(num_frames);
    CHECK(absl::IsDataLoss(open(rig.identity())));
  }
  write(frames_at, 16);
  REQUIRE(open(rig.identity()).ok());
  std::filesystem::resize_file(path, size - 1);
  CHECK(absl::IsDataLoss(open(rig.identity())));
  // Of no use to anybody: made anew.
  const auto refused = HostPool::Enter(
      {.directory = rig.directory.path(), .host = "host", .rank = RankId(0), .num_ranks = 4, .bytes_max = 1 << 20},
      rig.identity());
  CHECK(absl::IsDataLoss(refused.status()));
  CHECK(rig.CountHeld(*rig.Enter(0)) == 0);
}

TEST_CASE("a damaged directory leads nowhere outside the pool", "[host_pool]") {
  StoreRig rig;
  const auto pool = rig.Enter(0);
  rig.Fill(0, *pool);
  const uint64_t fingerprint = rig.FingerprintOf(kLayer, ExpertId(0));
  pool->view().cell(0).frame.Store(16);
  CHECK(absl::IsNotFound(pool->view().Find(kLayer, ExpertId(0), fingerprint).status()));
  CHECK(absl::IsNotFound(pool->view().Find(LayerId(2), ExpertId(0), fingerprint).status()));
  CHECK(absl::IsNotFound(pool->view().Find(kLayer, ExpertId(8), fingerprint).status()));
  pool->view().given(0).Store(UINT64_MAX);
  CHECK(pool->ScrubNext());
  CHECK(rig.Fill(0, *pool).num_filled == 1);
}

TEST_CASE("no room for a pool is an error that names the bytes, and leaves nothing behind", "[host_pool]") {
  StoreRig rig;
  const auto enter = [&](uint64_t bytes) {
    return HostPool::Enter({.directory = rig.directory.path(),
                            .host = "host",
                            .rank = RankId(0),
                            .num_ranks = 4,
                            .bytes_max = bytes},
                           rig.identity())
        .status();
  };
  CHECK(absl::IsInvalidArgument(enter(100)));
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before = {};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit small = {.rlim_cur = 4096, .rlim_max = before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const absl::Status full = enter(kPlentyOfBytes);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  CHECK(absl::IsResourceExhausted(full));
  CHECK(PoolsIn(rig.directory).empty());
  CHECK(enter(kPlentyOfBytes).ok());
}

}  // namespace
}  // namespace evenkeel::agent
