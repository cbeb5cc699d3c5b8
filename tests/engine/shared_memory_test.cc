// SPDX-License-Identifier: Apache-2.0
#include "engine/region/shared_memory.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <string>
#include <utility>

#include "catch2/catch.hpp"

#include "tests/engine/test_region.h"

namespace evenkeel::engine {
namespace {

struct Layout {
  static constexpr uint32_t kTag = 42;
  static constexpr uint32_t kVersion = 3;

  uint64_t value;
};

constexpr SharedMemory::Type kType = {Layout::kTag, Layout::kVersion};

// Exit status of a child that runs `body`.
template <typename Body>
int InChild(Body body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("what one writes into a typed object another opening reads", "[shared_memory]") {
  const TestDirectory directory;
  const std::string path = directory.path() + "/object";
  auto made = SharedMemory::Create<Layout>(path.c_str(), 0, 100);
  REQUIRE(made.ok());
  made.value.as<Layout>()->value = 99;

  const auto opened = SharedMemory::Open<Layout>(path.c_str(), SharedMemory::Access::kReadOnly);

  REQUIRE(opened.ok());
  CHECK(opened.value.as<Layout>()->value == 99);
  CHECK(opened.value.payload_bytes() == sizeof(Layout) + 100);
}

TEST_CASE("an object of a plain byte size is zeroed, private to its user and of no other name", "[shared_memory]") {
  const TestDirectory directory;
  const std::string path = directory.path() + "/object";
  const mode_t mask = ::umask(0);
  const auto made = SharedMemory::Create(path.c_str(), kType, 5000, 0);
  ::umask(mask);

  REQUIRE(made.ok());
  for (uint64_t i = 0; i < 5000; ++i) REQUIRE(made.value.payload()[i] == std::byte{0});
  struct stat info = {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0600);
  CHECK(directory.Files() == std::vector<std::string>{"object"});
}

TEST_CASE("an object is made once", "[shared_memory]") {
  const TestDirectory directory;
  const std::string path = directory.path() + "/object";
  const auto first = SharedMemory::Create(path.c_str(), kType, 10, 0);
  const auto second = SharedMemory::Create(path.c_str(), kType, 10, 0);

  CHECK(first.ok());
  CHECK(second.error.code == ErrorCode::kAlreadyExists);
  CHECK(directory.Files().size() == 1);
}

TEST_CASE("a missing, foreign, cut or newer file is refused with what is wrong", "[shared_memory]") {
  const TestDirectory directory;
  const std::string path = directory.path() + "/object";
  const auto code_of_opening = [&path](SharedMemory::Type type, uint64_t bytes_min) {
    return SharedMemory::Open(path.c_str(), type, bytes_min, SharedMemory::Access::kReadWrite).error.code;
  };
  CHECK(code_of_opening(kType, 0) == ErrorCode::kNotFound);
  {
    const auto made = SharedMemory::Create(path.c_str(), kType, 100, 0);
    REQUIRE(made.ok());
    CHECK(code_of_opening(kType, 100) == ErrorCode::kOk);
    CHECK(code_of_opening(kType, 101) == ErrorCode::kDataLoss);
    CHECK(code_of_opening({43, 3}, 0) == ErrorCode::kDataLoss);
    const auto other = SharedMemory::Open(path.c_str(), {42, 4}, 0, SharedMemory::Access::kReadOnly);
    CHECK(other.error.code == ErrorCode::kFailedPrecondition);
    CHECK_THAT(std::string(other.error.message), Catch::Contains("is of version 3; this program is of version 4"));
  }
  REQUIRE(::truncate(path.c_str(), 80) == 0);
  CHECK(code_of_opening(kType, 0) == ErrorCode::kDataLoss);
  REQUIRE(::truncate(path.c_str(), 3) == 0);
  CHECK(code_of_opening(kType, 0) == ErrorCode::kDataLoss);
}

TEST_CASE("a lock is held against other openings until its owner ends, however it ends", "[shared_memory]") {
  const TestDirectory directory;
  const std::string path = directory.path() + "/object";
  auto made = SharedMemory::Create(path.c_str(), kType, 10, 0);
  REQUIRE(made.ok());
  auto other = SharedMemory::Open(path.c_str(), kType, 0, SharedMemory::Access::kReadWrite);
  REQUIRE(other.ok());

  CHECK(other.value.IsLockedElsewhere(0));
  CHECK_FALSE(other.value.TryLock(0).value);
  CHECK_FALSE(other.value.IsLockedElsewhere(1));
  CHECK(other.value.TryLock(1).value);
  CHECK(made.value.IsLockedElsewhere(1));
  made.value = SharedMemory();
  CHECK_FALSE(other.value.IsLockedElsewhere(0));
}

TEST_CASE("a killed process leaves its lock free and its object to be removed", "[shared_memory]") {
  const TestDirectory directory;
  const std::string path = directory.path() + "/object.1";
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto made = SharedMemory::Create(path.c_str(), kType, 10, 0);
    if (!made.ok() || ::write(ready[1], "x", 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  const auto opened = SharedMemory::Open(path.c_str(), kType, 0, SharedMemory::Access::kReadOnly);
  REQUIRE(opened.ok());
  CHECK(opened.value.IsLockedElsewhere(0));
  CHECK(SharedMemory::RemoveAbandoned(directory.path().c_str(), "object.", 0) == 0);

  REQUIRE(::kill(child, SIGKILL) == 0);
  REQUIRE(::waitpid(child, nullptr, 0) == child);

  CHECK_FALSE(opened.value.IsLockedElsewhere(0));
  CHECK(SharedMemory::RemoveAbandoned(directory.path().c_str(), "other.", 0) == 0);
  CHECK(SharedMemory::RemoveAbandoned(directory.path().c_str(), "object.", 0) == 1);
  CHECK(directory.Files().empty());
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_CASE("no room is an error at creation, and nothing stays behind", "[shared_memory]") {
  const TestDirectory directory;
  const std::string path = directory.path() + "/object";
  const int status = InChild([&path] {
    // A limit on file sizes stands for a full file system, which takes a mount to make.
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {1 << 16, 1 << 16};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    const auto small = SharedMemory::Create((path + ".small").c_str(), kType, 1000, 0);
    const auto large = SharedMemory::Create(path.c_str(), kType, 1 << 20, 0);
    if (!small.ok()) return 2;
    return large.error.code == ErrorCode::kResourceExhausted ? 0 : 3;
  });

  CHECK(status == 0);
  CHECK(directory.Files() == std::vector<std::string>{"object.small"});
}

TEST_CASE("a full file system is an error at creation, and nothing stays behind", "[shared_memory]") {
  const TestDirectory directory;
  const int status = InChild([&directory] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", directory.path().c_str(), "tmpfs", 0, "size=64k") != 0) {
      return 10;  // not allowed to mount here; the case above stands for this one
    }
    const std::string path = directory.path() + "/object";
    const auto large = SharedMemory::Create(path.c_str(), kType, 1 << 20, 0);
    if (large.error.code != ErrorCode::kResourceExhausted) return 1;
    if (std::strstr(large.error.message, "take 1048640 bytes of memory for") == nullptr) return 2;
    return directory.Files().empty() ? 0 : 3;
  });

  CHECK((status == 0 || status == 10));
}

TEST_CASE("without permission for the directory creation says so", "[shared_memory]") {
  const TestDirectory directory;
  REQUIRE(::chmod(directory.path().c_str(), 0500) == 0);
  const int status = InChild([&directory] {
    if (::geteuid() == 0 && ::setuid(65534) != 0) return 10;
    const std::string path = directory.path() + "/object";
    const auto made = SharedMemory::Create(path.c_str(), kType, 10, 0);
    return made.error.code == ErrorCode::kPermissionDenied ? 0 : 1;
  });
  CHECK((status == 0 || status == 10));
}

}  // namespace evenkeel::engine
