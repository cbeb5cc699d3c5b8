// SPDX-License-Identifier: Apache-2.0
//
// The snapshot on a real file system: written, found again, damaged, cut short, foreign, and with no room for it.
#include "agent/stores/snapshot_keeper.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "tests/agent/stores/store_rig.h"

namespace evenkeel::agent {
namespace {

namespace fs = std::filesystem;

// A folder for snapshots in the rig's directory.
struct Snapshots : StoreRig {
  explicit Snapshots(uint64_t weights_version = 7, const std::string& model = "model")
      : StoreRig(weights_version, model), root(directory.path() + "/snapshots") {
    fs::create_directory(root);
    for (int rank = 0; rank < kRigRanks; ++rank) Restart(rank);
  }
  void Restart(int rank) { keepers[rank] = std::make_unique<SnapshotKeeper>(region(rank), root); }
  absl::Status Look(int rank) {
    work = {};
    return keepers[rank]->Look(owners, AnyPace, work);
  }
  int LookAll() {
    int num_written = 0;
    for (int rank = 0; rank < kRigRanks; ++rank) {
      const absl::Status status = Look(rank);
      INFO(status.ToString());
      CHECK(status.ok());
      num_written += work.num_files_written;
    }
    return num_written;
  }
  std::vector<std::string> Files() const {
    std::vector<std::string> files;
    for (const auto& entry : fs::directory_iterator(keepers.at(0)->folder().path())) {
      files.push_back(entry.path().string());
    }
    std::sort(files.begin(), files.end());
    return files;
  }

  std::string root;
  std::map<int, std::unique_ptr<SnapshotKeeper>> keepers;
  SnapshotKeeper::Work work;
};

void Flip(const std::string& path, uint64_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(at));
  const char byte = static_cast<char>(file.get() ^ 1);
  file.seekp(static_cast<std::streamoff>(at));
  file.put(byte);
}

// Lets files grow no larger, as a full disk does.
class NoRoom {
 public:
  explicit NoRoom(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before_) == 0);
    const rlimit small = {.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  }
  ~NoRoom() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_ = {};
};

TEST_CASE("every expert is written once by its owner, and what is there and right is not written again",
          "[snapshot_keeper]") {
  Snapshots rig;
  CHECK(rig.LookAll() == kRigLayers * kRigRanks);
  std::map<int, std::set<int>> experts;
  for (const std::string& path : rig.Files()) {
    const auto name = ParseSnapshotName(fs::path(path).filename().string());
    REQUIRE(name.has_value());
    for (int i = 0; i < name->range.count; ++i) {
      CHECK(experts[name->layer.value()].insert(name->range.first.value() + i).second);
    }
  }
  CHECK(experts[0].size() == kRigExperts);
  CHECK(experts[1].size() == kRigExperts);
  CHECK(rig.LookAll() == 0);
  for (int rank = 0; rank < kRigRanks; ++rank) rig.Restart(rank);
  CHECK(rig.LookAll() == 0);
  CHECK(rig.work.bytes_written == 0);
}

TEST_CASE("what is written is what the slots hold, with its fingerprint", "[snapshot_keeper]") {
  Snapshots rig;
  rig.LookAll();
  const auto names = rig.keepers[0]->folder().List();
  REQUIRE(names.ok());
  for (const SnapshotName& name : *names) {
    const auto file = rig.keepers[0]->folder().Open(name);
    REQUIRE(file.ok());
    const ExpertId expert = name.range.first;
    CHECK((*file)->header().FingerprintOf(expert) == rig.FingerprintOf(name.layer, expert));
    std::vector<std::byte> bytes(engine::TestRegion::kExpertBytes);
    REQUIRE((*file)->Read(expert, 0, 0, bytes).ok());
    const auto expected = static_cast<std::byte>(1 + name.layer.value() * 64 + expert.value());
    CHECK(std::all_of(bytes.begin(), bytes.end(), [&](std::byte byte) { return byte == expected; }));
  }
}

TEST_CASE("files that are deleted, cut short or damaged are written anew, and others left alone", "[snapshot_keeper]") {
  Snapshots rig;
  rig.LookAll();
  const std::vector<std::string> files = rig.Files();
  REQUIRE(files.size() == 8);
  fs::remove(files[0]);
  fs::resize_file(files[1], fs::file_size(files[1]) - 1);
  fs::resize_file(files[2], 10);
  fs::resize_file(files[3], 0);
  Flip(files[4], 40);                             // the header
  Flip(files[5], fs::file_size(files[5]) - 60);   // the last expert's bytes
  std::ofstream(files[6], std::ios::app) << "x";  // too long
  const auto untouched = fs::last_write_time(files[7]);
  for (int rank = 0; rank < kRigRanks; ++rank) rig.Restart(rank);
  CHECK(rig.LookAll() == 7);
  CHECK(fs::last_write_time(files[7]) == untouched);
  for (int rank = 0; rank < kRigRanks; ++rank) rig.Restart(rank);
  CHECK(rig.LookAll() == 0);
}

TEST_CASE("a keeper that is told to end stops at once, and the next one goes on where it was", "[snapshot_keeper]") {
  Snapshots rig;
  uint64_t allowed = 500;  // bytes: the first of rank 0's two files takes 424
  const Pace pace = [&](uint64_t bytes) { return std::exchange(allowed, allowed - std::min(allowed, bytes)) >= bytes; };
  CHECK(absl::IsCancelled(rig.keepers[0]->Look(rig.owners, pace, rig.work)));
  CHECK(rig.work.num_files_written == 1);
  CHECK(rig.Files().size() == 1);
  rig.Restart(0);
  CHECK(rig.Look(0).ok());
  CHECK(rig.work.num_files_written == 1);
  CHECK(rig.work.num_experts_found == 2);
}

TEST_CASE("what a killed writer left unfinished is no snapshot and is removed by its successor", "[snapshot_keeper]") {
  Snapshots rig;
  REQUIRE(rig.Look(0).ok());
  const std::string folder = rig.keepers[0]->folder().path();
  std::ofstream(folder + "/layer-00001.experts-00000-00001.snapshot.rank-0.new") << "half";
  std::ofstream(folder + "/layer-00001.experts-00000-00001.snapshot.rank-1.new") << "another's";
  CHECK(rig.keepers[0]->folder().List()->size() == 2);
  rig.Restart(0);
  REQUIRE(rig.Look(0).ok());
  CHECK(rig.Files().size() == 3);
}

TEST_CASE("a full disk ends the look, loses nothing that was there, and is no hindrance later", "[snapshot_keeper]") {
  Snapshots rig;
  REQUIRE(rig.Look(0).ok());
  const std::vector<std::string> before = rig.Files();
  {
    const NoRoom no_room(4096 + 100);
    const absl::Status full = rig.Look(1);
    CHECK(absl::IsResourceExhausted(full));
    CHECK(full.message().find("layer-00000.experts-") != std::string::npos);
  }
  CHECK(rig.Files() == before);
  CHECK(rig.Look(0).ok());
  CHECK(rig.work.num_experts_found == 4);
  CHECK(rig.LookAll() == 6);
}

TEST_CASE("a directory that is missing or may not be written is named, and not made", "[snapshot_keeper]") {
  Snapshots rig;
  fs::remove(rig.root);
  const absl::Status missing = rig.Look(0);
  CHECK(absl::IsNotFound(missing));
  CHECK(missing.message().find(rig.root) != std::string::npos);
  CHECK_FALSE(fs::exists(rig.root));
  std::ofstream(rig.root) << "a file";
  CHECK_FALSE(rig.Look(0).ok());
}

TEST_CASE("a snapshot of another model is refused by name and not overwritten", "[snapshot_keeper]") {
  Snapshots rig;
  Snapshots other(7, "elsewhere");
  REQUIRE(other.Look(0).ok());
  const fs::path foreign = other.Files()[0];
  fs::create_directory(rig.keepers[0]->folder().path());
  const fs::path here = fs::path(rig.keepers[0]->folder().path()) / foreign.filename();
  fs::copy(foreign, here);
  const auto before = fs::last_write_time(here);
  const absl::Status refused = rig.Look(0);
  CHECK(absl::IsFailedPrecondition(refused));
  CHECK(refused.message().find("it is of model elsewhere, wanted model") != std::string::npos);
  CHECK(fs::last_write_time(here) == before);
  CHECK(rig.work.num_files_written == 1);  // of the other layer
}

TEST_CASE("snapshots of two versions stand side by side", "[snapshot_keeper]") {
  Snapshots rig, newer(8);
  newer.root = rig.root;
  newer.Restart(0);
  REQUIRE(rig.Look(0).ok());
  REQUIRE(newer.Look(0).ok());
  CHECK(newer.work.num_files_written == 2);
  CHECK(fs::exists(rig.root + "/test.v7"));
  CHECK(fs::exists(rig.root + "/test.v8"));
}

TEST_CASE("a slot whose bytes do not match its record is not written", "[snapshot_keeper]") {
  Snapshots rig;
  const HeldExpert held = HeldExpertsOf(rig.region(0)).front();
  rig.region(0).SlotBytes(held.layer, held.slot)[0][0] ^= std::byte{1};
  CHECK(absl::IsDataLoss(rig.Look(0)));
  CHECK(rig.work.num_files_written == 1);
  CHECK(rig.Files().size() == 1);
}

}  // namespace
}  // namespace evenkeel::agent
