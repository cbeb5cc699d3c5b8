// SPDX-License-Identifier: Apache-2.0
#include "controller/sqlite_store.h"

#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

namespace evenkeel::controller {
namespace {

// A path that no other test case uses.
std::string FreshPath(const std::string& name) {
  const std::string path = std::string(std::getenv("TEST_TMPDIR")) + "/" + name;
  for (const char* suffix : {"", "-wal", "-shm", "-journal"}) unlink((path + suffix).c_str());
  return path;
}

OperationProgress ExampleOperation(int i) {
  return {.id = "op-" + std::to_string(i),
          .group = "chat",
          .cause = Cause::kTakeover,
          .state = OperationState::kSuperseded,
          .policy = "greedy",
          .layers = {LayerId(1), LayerId(3)},
          .for_operator = true,
          .cancel_requested = true,
          .dry_run = true,
          .detail = "one sentence",
          .started = absl::FromUnixMicros(1000 + i),
          .changed = absl::FromUnixMicros(2000 + i),
          .num_layers = 1,
          .num_layers_done = 2,
          .num_waves = 3,
          .num_moves = 4,
          .num_moves_done = 5,
          .num_moves_failed = 6,
          .num_corrupt = 7,
          .bytes_done = uint64_t{1} << 40,
          .imbalance_before = 1.5,
          .imbalance_predicted = 1.25};
}

// Files of this process may not grow beyond `bytes`, as on a full disk, until the end of the scope.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_;
};

TEST_CASE("a fresh store has no term and no operations", "[sqlite_store]") {
  const auto store = SqliteStore::Open({.path = FreshPath("fresh.db")});
  REQUIRE(store.ok());
  CHECK(*(*store)->LoadTerm() == 0);
  CHECK((*store)->LoadOperations()->empty());
}

TEST_CASE("a store's files are readable by owner and group alone", "[sqlite_store]") {
  const std::string path = FreshPath("rights.db");
  const mode_t mask = ::umask(0);
  const auto store = SqliteStore::Open({.path = path});
  ::umask(mask);
  REQUIRE(store.ok());
  struct stat info = {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0640);
}

TEST_CASE("a store whose term has no next one is refused", "[sqlite_store]") {
  const auto store = SqliteStore::Open({.path = ""});
  REQUIRE(store.ok());
  REQUIRE((*store)->SaveTerm(UINT32_MAX).ok());
  CHECK(absl::IsDataLoss((*store)->LoadTerm().status()));
}

TEST_CASE("terms and operations survive a reopening and a term never falls", "[sqlite_store]") {
  const std::string path = FreshPath("survive.db");
  {
    const auto store = SqliteStore::Open({.path = path});
    REQUIRE(store.ok());
    CHECK((*store)->SaveTerm(0xFFFFFFFEu).ok());
    CHECK((*store)->SaveTerm(5).ok());
    CHECK((*store)->SaveOperation(ExampleOperation(1)).ok());
    OperationProgress changed = ExampleOperation(2);
    CHECK((*store)->SaveOperation(changed).ok());
    changed.detail = "changed";
    CHECK((*store)->SaveOperation(changed).ok());
  }
  const auto store = SqliteStore::Open({.path = path});
  REQUIRE(store.ok());
  CHECK(*(*store)->LoadTerm() == 0xFFFFFFFEu);
  const auto operations = (*store)->LoadOperations();
  REQUIRE(operations.ok());
  REQUIRE(operations->size() == 2);
  CHECK((*operations)[0].detail == "changed");
  CHECK((*operations)[1] == ExampleOperation(1));
}

TEST_CASE("the term is in the file as soon as it is saved", "[sqlite_store]") {
  const std::string path = FreshPath("durable.db");
  auto store = SqliteStore::Open({.path = path});
  REQUIRE(store.ok());
  REQUIRE((*store)->SaveTerm(41).ok());
  // As a killed process leaves it: the files copied while the store is open.
  const std::string copy = FreshPath("durable-copy.db");
  for (const char* suffix : {"", "-wal"}) {
    std::ifstream from(path + suffix, std::ios::binary);
    std::ofstream(copy + suffix, std::ios::binary) << from.rdbuf();
  }
  const auto successor = SqliteStore::Open({.path = copy});
  REQUIRE(successor.ok());
  CHECK(*(*successor)->LoadTerm() == 41);
}

TEST_CASE("only the newest operations are kept", "[sqlite_store]") {
  const auto store = SqliteStore::Open({.path = "", .num_operations_kept = 10});
  REQUIRE(store.ok());
  for (int i = 0; i < 100; ++i) REQUIRE((*store)->SaveOperation(ExampleOperation(i)).ok());
  const auto operations = (*store)->LoadOperations();
  REQUIRE(operations.ok());
  REQUIRE(operations->size() == 10);
  CHECK(operations->front() == ExampleOperation(99));
  CHECK(operations->back() == ExampleOperation(90));
}

TEST_CASE("what stands until it is ended is kept, whatever comes after it", "[sqlite_store]") {
  const auto store = SqliteStore::Open({.path = "", .num_operations_kept = 10});
  REQUIRE(store.ok());
  OperationProgress pins = ExampleOperation(0);
  pins.cause = Cause::kPin;
  pins.state = OperationState::kRunning;
  pins.decisions = nullptr;
  pins.pins = {{LayerId(3), ExpertId(17), RankId(5)}};
  pins.frozen = {LayerId(1), LayerId(2)};
  pins.requested_by = "ann (ipv4:127.0.0.1:4711)";
  pins.request = "Pin";
  REQUIRE((*store)->SaveOperation(pins).ok());
  for (int i = 1; i < 100; ++i) REQUIRE((*store)->SaveOperation(ExampleOperation(i)).ok());
  const auto operations = (*store)->LoadOperations();
  REQUIRE(operations.ok());
  REQUIRE(operations->size() == 10);
  CHECK(operations->front() == ExampleOperation(99));
  CHECK(operations->back() == pins);  // in its place by time
  pins.state = OperationState::kDone;
  pins.ended_by = "bob";
  REQUIRE((*store)->SaveOperation(pins).ok());
  for (int i = 100; i < 120; ++i) REQUIRE((*store)->SaveOperation(ExampleOperation(i)).ok());
  CHECK((*store)->LoadOperations()->back().id != pins.id);
}

LoadHistory ExampleLoad(const std::string& group, int second) {
  LoadHistory load{.group = group, .model = "m", .num_layers = 2, .num_experts = 2, .kept_for = {}, .windows = {}};
  const absl::Time begin = absl::FromUnixSeconds(second);
  KeptWindow window;
  window.span = {.from = begin,
                 .to = begin + absl::Seconds(1),
                 .first_step = 3,
                 .last_step = 9,
                 .num_tokens = 1010,
                 .num_prefill_tokens = 4,
                 .num_decode_tokens = 0};
  window.tokens = {.num_layers = 2, .num_experts = 2, .tokens = {1, 2, 1000, 7}};
  window.prefill = {.num_layers = 2, .num_experts = 2, .tokens = {0, 0, 4, 0}};
  window.decode = {.num_layers = 2, .num_experts = 2, .tokens = {}};
  load.windows = {window, window};
  load.windows[1].span.to += absl::Seconds(1);
  return load;
}

TEST_CASE("loads survive a reopening, by group and time", "[sqlite_store]") {
  const std::string path = FreshPath("loads.db");
  {
    const auto store = SqliteStore::Open({.path = path});
    REQUIRE(store.ok());
    for (const LoadHistory& load : {ExampleLoad("b", 20), ExampleLoad("a", 30), ExampleLoad("b", 10)}) {
      LoadHistory kept = load;
      kept.kept_for = absl::Hours(1);
      CHECK((*store)->SaveLoad(kept).ok());
    }
  }
  const auto store = SqliteStore::Open({.path = path});
  REQUIRE(store.ok());
  const auto loads = (*store)->LoadLoads();
  REQUIRE(loads.ok());
  CHECK(*loads == std::vector{ExampleLoad("a", 30), ExampleLoad("b", 10), ExampleLoad("b", 20)});
}

TEST_CASE("old loads go: of a group by what it says, of other groups a day after the newest", "[sqlite_store]") {
  const auto store = SqliteStore::Open({.path = ""});
  REQUIRE(store.ok());
  REQUIRE((*store)->SaveLoad(ExampleLoad("old", 10)).ok());
  for (int second : {100'000, 100'010, 100'020, 100'030}) {
    LoadHistory load = ExampleLoad("new", second);
    load.kept_for = absl::Seconds(15);
    REQUIRE((*store)->SaveLoad(load).ok());
  }
  const auto loads = (*store)->LoadLoads();
  REQUIRE(loads.ok());
  CHECK(*loads == std::vector{ExampleLoad("new", 100'020), ExampleLoad("new", 100'030)});
}

TEST_CASE("loads that cannot be read are left out", "[sqlite_store]") {
  const std::string path = FreshPath("bad-loads.db");
  {
    const auto store = SqliteStore::Open({.path = path});
    REQUIRE(store.ok());
    LoadHistory wrong_size = ExampleLoad("a", 10);
    wrong_size.windows[1].tokens.tokens.pop_back();
    REQUIRE((*store)->SaveLoad(wrong_size).ok());
    LoadHistory good = ExampleLoad("b", 20);
    REQUIRE((*store)->SaveLoad(good).ok());
  }
  sqlite3* db = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &db) == SQLITE_OK);
  const char* garbage = "INSERT INTO loads VALUES('c', 30000000, x'FFFFFF')";
  REQUIRE(sqlite3_exec(db, garbage, nullptr, nullptr, nullptr) == SQLITE_OK);
  sqlite3_close(db);
  const auto store = SqliteStore::Open({.path = path});
  REQUIRE(store.ok());
  const auto loads = (*store)->LoadLoads();
  REQUIRE(loads.ok());
  CHECK(*loads == std::vector{ExampleLoad("b", 20)});
}

TEST_CASE("a store that another process holds is refused", "[sqlite_store]") {
  const std::string path = FreshPath("held.db");
  const auto first = SqliteStore::Open({.path = path});
  REQUIRE(first.ok());
  const auto second = SqliteStore::Open({.path = path});
  CHECK(second.status().code() == absl::StatusCode::kUnavailable);
  CHECK(second.status().message().find("does another controller use it?") != absl::string_view::npos);
}

TEST_CASE("what is no store is refused and left alone", "[sqlite_store]") {
  const std::string path = FreshPath("text.db");
  std::ofstream(path) << std::string(4096, 'x');
  const auto store = SqliteStore::Open({.path = path});
  CHECK(store.status().code() == absl::StatusCode::kDataLoss);
  CHECK(store.status().message().find(path) != absl::string_view::npos);
  struct stat after;
  REQUIRE(stat(path.c_str(), &after) == 0);
  CHECK(after.st_size == 4096);
}

TEST_CASE("a store of a newer version is refused", "[sqlite_store]") {
  const std::string path = FreshPath("newer.db");
  sqlite3* db = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &db) == SQLITE_OK);
  REQUIRE(sqlite3_exec(db, "PRAGMA user_version=2", nullptr, nullptr, nullptr) == SQLITE_OK);
  sqlite3_close(db);
  const auto store = SqliteStore::Open({.path = path});
  CHECK(store.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(store.status().message() == "store " + path + ": it is of version 2, this program knows up to 1");
}

TEST_CASE("a folder that does not exist is an error with the path", "[sqlite_store]") {
  const auto store = SqliteStore::Open({.path = FreshPath("none/store.db")});
  CHECK(store.status().code() == absl::StatusCode::kPermissionDenied);
  CHECK(store.status().message().find("none/store.db") != absl::string_view::npos);
}

TEST_CASE("a full disk stops the opening", "[sqlite_store]") {
  const std::string path = FreshPath("full-open.db");
  const FullDisk disk(1024);
  const auto store = SqliteStore::Open({.path = path});
  INFO(store.status().ToString());
  CHECK(store.status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(store.status().message().find("is there space left on the device?") != absl::string_view::npos);
}

TEST_CASE("a disk that fills up fails each save clearly and loses nothing saved before", "[sqlite_store]") {
  const std::string path = FreshPath("full-later.db");
  const auto store = SqliteStore::Open({.path = path});
  REQUIRE(store.ok());
  REQUIRE((*store)->SaveTerm(3).ok());
  {
    const FullDisk disk(64 << 10);
    absl::Status status;
    int num_saved = 0;
    for (; status.ok() && num_saved < 10000; ++num_saved) status = (*store)->SaveOperation(ExampleOperation(num_saved));
    CHECK(status.code() == absl::StatusCode::kResourceExhausted);
  }
  {
    const FullDisk disk(1024);
    CHECK((*store)->SaveTerm(4).code() == absl::StatusCode::kResourceExhausted);
    CHECK(*(*store)->LoadTerm() == 3);
  }
  // Space again: it goes on.
  CHECK((*store)->SaveTerm(4).ok());
  CHECK(*(*store)->LoadTerm() == 4);
  CHECK((*store)->SaveOperation(ExampleOperation(0)).ok());
}

}  // namespace
}  // namespace evenkeel::controller
