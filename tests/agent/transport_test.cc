// SPDX-License-Identifier: Apache-2.0
//
// The promises of agent/transport.h as one suite, run against every implementation.
#include "agent/transport.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/synchronization/mutex.h"
#include "catch2/catch.hpp"

#include "runtime/clock.h"
#include "tests/agent/offered_rank.h"
#include "tests/engine/test_region.h"

extern char** environ;

namespace evenkeel::agent {
namespace {

using engine::TestDirectory;
using runtime::MonotonicNow;

// Enough for anything that works, on a busy machine.
constexpr absl::Duration kPatience = absl::Seconds(20);

std::string AnyKind() { return GENERATE("local", "ucx:tcp", "ucx:shm", "ucx"); }

// Collects completions, and ends the program on a second one of the same transfer.
class Completions {
 public:
  TransferDone Add() {
    return [this](TransferResult result) {
      absl::MutexLock lock(&mutex_);
      const uint64_t id = result.transfer_id;
      if (!results_.emplace(id, std::move(result)).second) std::abort();
    };
  }
  TransferResult Await(uint64_t transfer_id, absl::Duration at_most = kPatience) {
    absl::MutexLock lock(&mutex_);
    const auto there = [this, transfer_id] { return results_.count(transfer_id) > 0; };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&there), at_most)) return {0, absl::InternalError("no completion"), 0};
    return results_.at(transfer_id);
  }
  size_t size() {
    absl::MutexLock lock(&mutex_);
    return results_.size();
  }

 private:
  absl::Mutex mutex_;
  std::map<uint64_t, TransferResult> results_;
};

// Room for one expert.
class Room {
 public:
  Room() {
    for (uint64_t bytes : kOfferedBytes) tensors_.emplace_back(bytes, std::byte{0});
  }
  std::vector<std::span<std::byte>> ranges() {
    std::vector<std::span<std::byte>> ranges;
    for (auto& tensor : tensors_) ranges.emplace_back(tensor);
    return ranges;
  }
  // Bytes that are not those of the offered slot.
  uint64_t CountWrong(int layer, int slot) const {
    uint64_t wrong = 0;
    for (size_t t = 0; t < tensors_.size(); ++t) {
      for (uint64_t i = 0; i < tensors_[t].size(); ++i)
        wrong += tensors_[t][i] == OfferedByte(layer, slot, t, i) ? 0 : 1;
    }
    return wrong;
  }
  const std::vector<std::vector<std::byte>>& bytes() const { return tensors_; }

 private:
  std::vector<std::vector<std::byte>> tensors_;
};

// A rank that offers and a rank that reads, each with a region and a transport.
struct Pair {
  explicit Pair(const std::string& kind) : source(kind, directory.path(), 1), reader(kind, directory.path(), 0) {}

  TransferRequest Request(uint64_t id, int layer, int slot, Room& room) {
    TransferRequest request;
    request.transfer_id = id;
    request.layer = LayerId(layer);
    request.source_local_slot = slot;
    request.source = source.Source(layer, slot);
    request.source.pass = PassOf(request.source.endpoint.secret, reader.region().member());
    request.destination = room.ranges();
    request.deadline = MonotonicNow() + kPatience;
    return request;
  }

  TestDirectory directory;
  OfferedRank source, reader;
  Completions completions;
};

// offer_rank in a process of its own.
class OtherProcess {
 public:
  OtherProcess(const std::string& kind, const std::string& directory) {
    int out[2] = {-1, -1}, in[2] = {-1, -1};
    REQUIRE(::pipe2(out, O_CLOEXEC) == 0);
    REQUIRE(::pipe2(in, O_CLOEXEC) == 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    std::string program = "tests/agent/offer_rank", kind_text = kind, directory_text = directory;
    char* argv[] = {program.data(), kind_text.data(), directory_text.data(), nullptr};
    REQUIRE(::posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    ::close(out[1]);
    ::close(in[0]);
    input_ = in[1];
    std::FILE* lines = ::fdopen(out[0], "r");
    source_.member.rank = RankId(std::atoi(Line(lines).c_str()));
    source_.member.incarnation = std::strtoull(Line(lines).c_str(), nullptr, 10);
    source_.generation = std::strtoull(Line(lines).c_str(), nullptr, 10);
    source_.endpoint.transport = Line(lines);
    source_.endpoint.host = Line(lines);
    source_.endpoint.address = Line(lines);
    source_.endpoint.secret = absl::HexStringToBytes(Line(lines));
    std::fclose(lines);
    REQUIRE(source_.member.incarnation != 0);
  }
  ~OtherProcess() {
    Kill();
    ::close(input_);
  }
  void Kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  const MoveSource& source() const { return source_; }

 private:
  static std::string Line(std::FILE* file) {
    std::string line;
    for (int c = std::fgetc(file); c != EOF && c != '\n'; c = std::fgetc(file)) line.push_back(static_cast<char>(c));
    return line;
  }

  pid_t pid_ = -1;
  int input_ = -1;
  MoveSource source_;
};

}  // namespace

TEST_CASE("every expert arrives whole, several at a time", "[transport]") {
  const std::string kind = AnyKind();
  CAPTURE(kind);
  Pair pair(kind);
  std::vector<Room> rooms(static_cast<size_t>(kOfferedLayers * kOfferedSlots));
  for (size_t i = 0; i < rooms.size(); ++i) {
    const int layer = static_cast<int>(i) / kOfferedSlots, slot = static_cast<int>(i) % kOfferedSlots;
    REQUIRE(pair.reader.transport().CostFrom(pair.source.transport().endpoint()) >= 0);
    REQUIRE(pair.reader.transport().Start(pair.Request(i + 1, layer, slot, rooms[i]), pair.completions.Add()).ok());
  }
  for (size_t i = 0; i < rooms.size(); ++i) {
    const TransferResult result = pair.completions.Await(i + 1);
    INFO(result.status.ToString());
    CHECK(result.status.ok());
    CHECK(result.bytes == OfferedExpertBytes());
    CHECK(rooms[i].CountWrong(static_cast<int>(i) / kOfferedSlots, static_cast<int>(i) % kOfferedSlots) == 0);
  }
}

TEST_CASE("a cancelled transfer completes once as aborted and writes nothing afterwards", "[transport]") {
  const std::string kind = AnyKind();
  CAPTURE(kind);
  Pair pair(kind);
  Room room, other;
  TransferRequest request = pair.Request(1, 0, 1, room);
  request.bytes_per_second_max = 500'000;
  REQUIRE(pair.reader.transport().Start(request, pair.completions.Add()).ok());
  pair.reader.transport().Cancel(1);
  pair.reader.transport().Cancel(17);
  CHECK(absl::IsAborted(pair.completions.Await(1).status));
  const auto at_completion = room.bytes();

  REQUIRE(pair.reader.transport().Start(pair.Request(2, 1, 0, other), pair.completions.Add()).ok());
  CHECK(pair.completions.Await(2).status.ok());
  CHECK(other.CountWrong(1, 0) == 0);
  CHECK(room.bytes() == at_completion);
  CHECK(room.CountWrong(0, 1) > 0);
  CHECK(pair.completions.size() == 2);
}

TEST_CASE("a transfer that is not done in time says so", "[transport]") {
  const std::string kind = AnyKind();
  CAPTURE(kind);
  Pair pair(kind);
  Room room;
  TransferRequest request = pair.Request(1, 0, 0, room);
  const absl::Time begun = MonotonicNow();
  request.deadline = begun + absl::Milliseconds(200);
  request.bytes_per_second_max = 400'000;
  REQUIRE(pair.reader.transport().Start(request, pair.completions.Add()).ok());

  const TransferResult result = pair.completions.Await(1);

  CHECK(absl::IsDeadlineExceeded(result.status));
  CHECK(result.bytes < OfferedExpertBytes());
  CHECK(MonotonicNow() - begun >= absl::Milliseconds(200));
}

TEST_CASE("a source of another incarnation is refused", "[transport]") {
  const std::string kind = AnyKind();
  CAPTURE(kind);
  Pair pair(kind);
  Room room;
  TransferRequest request = pair.Request(1, 0, 0, room);
  request.source.member.incarnation ^= 1;
  absl::Status status = pair.reader.transport().Start(request, pair.completions.Add());
  if (status.ok()) status = pair.completions.Await(1).status;
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(room.CountWrong(0, 0) > 0);
}

TEST_CASE("what the source does not have is refused", "[transport]") {
  const std::string kind = AnyKind();
  CAPTURE(kind);
  Pair pair(kind);
  Room room;
  std::vector<TransferRequest> requests(4, pair.Request(0, 0, 0, room));
  requests[0].layer = LayerId(kOfferedLayers);
  requests[1].source_local_slot = kOfferedSlots;
  requests[2].destination.pop_back();
  requests[3].source.endpoint.transport = "pigeon";
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].transfer_id = i + 1;
    absl::Status status = pair.reader.transport().Start(requests[i], pair.completions.Add());
    if (status.ok()) status = pair.completions.Await(i + 1).status;
    CAPTURE(i, status.ToString());
    CHECK(absl::IsFailedPrecondition(status));
  }
  CHECK(pair.reader.transport().CostFrom(requests[3].source.endpoint) < 0);
}

TEST_CASE("a quarter of the rate takes about four times as long", "[transport]") {
  const std::string kind = AnyKind();
  CAPTURE(kind);
  Pair pair(kind);
  std::vector<absl::Duration> taken;
  for (uint64_t rate : {uint64_t{12'000'000}, uint64_t{3'000'000}}) {
    Room room;
    TransferRequest request = pair.Request(rate, 0, 2, room);
    request.bytes_per_second_max = rate;
    const absl::Time begun = MonotonicNow();
    REQUIRE(pair.reader.transport().Start(request, pair.completions.Add()).ok());
    CHECK(pair.completions.Await(rate).status.ok());
    taken.push_back(MonotonicNow() - begun);
    CHECK(room.CountWrong(0, 2) == 0);
    // The first and the last piece cost no waiting.
    const double bytes = static_cast<double>(OfferedExpertBytes() - 2 * Throttle::kThrottledPiece);
    CHECK(absl::ToDoubleSeconds(taken.back()) >= 0.85 * bytes / static_cast<double>(rate));
  }
  CHECK(taken[1] / absl::Milliseconds(1) > 2 * (taken[0] / absl::Milliseconds(1)));
}

TEST_CASE("closing ends every transfer once and may be repeated", "[transport]") {
  const std::string kind = AnyKind();
  CAPTURE(kind);
  Pair pair(kind);
  std::vector<Room> rooms(5);
  for (uint64_t i = 0; i < rooms.size(); ++i) {
    TransferRequest request = pair.Request(i + 1, 0, 0, rooms[i]);
    request.bytes_per_second_max = 1'000'000;
    REQUIRE(pair.reader.transport().Start(request, pair.completions.Add()).ok());
  }
  pair.reader.transport().Close();
  CHECK(pair.completions.size() == rooms.size());
  for (uint64_t i = 0; i < rooms.size(); ++i) CHECK(absl::IsAborted(pair.completions.Await(i + 1).status));
  pair.reader.transport().Close();
  CHECK_FALSE(pair.reader.transport().Start(pair.Request(9, 0, 0, rooms[0]), pair.completions.Add()).ok());
  pair.reader.transport().Cancel(1);
  pair.reader.transport().Forget(pair.source.region().member());
  CHECK(pair.completions.size() == rooms.size());
}

TEST_CASE("a source that is forgotten ends its transfers and may be read again", "[transport]") {
  const std::string kind = AnyKind();
  CAPTURE(kind);
  Pair pair(kind);
  Room room;
  TransferRequest request = pair.Request(1, 0, 0, room);
  request.bytes_per_second_max = 500'000;
  REQUIRE(pair.reader.transport().Start(request, pair.completions.Add()).ok());
  pair.reader.transport().Forget(request.source.member);
  CHECK(absl::IsUnavailable(pair.completions.Await(1).status));
  REQUIRE(pair.reader.transport().Start(pair.Request(2, 0, 0, room), pair.completions.Add()).ok());
  CHECK(pair.completions.Await(2).status.ok());
  CHECK(room.CountWrong(0, 0) == 0);
}

TEST_CASE("a source killed during a transfer is unavailable, and so is one that is gone", "[transport]") {
  const std::string kind = AnyKind();
  CAPTURE(kind);
  TestDirectory directory;
  OfferedRank reader(kind, directory.path(), 0);
  OtherProcess other(kind, directory.path());
  Completions completions;
  Room room, whole;
  TransferRequest request;
  request.transfer_id = 1;
  request.layer = LayerId(0);
  request.source = other.source();
  request.source.pass = PassOf(request.source.endpoint.secret, reader.region().member());
  request.destination = whole.ranges();
  request.deadline = MonotonicNow() + kPatience;
  REQUIRE(reader.transport().Start(request, completions.Add()).ok());
  const TransferResult first = completions.Await(1);
  INFO(first.status.ToString());
  CHECK(first.status.ok());
  CHECK(whole.CountWrong(0, 0) == 0);

  request.transfer_id = 2;
  request.destination = room.ranges();
  request.bytes_per_second_max = 100'000;  // 24 s for all of it
  request.deadline = MonotonicNow() + 3 * kPatience;
  REQUIRE(reader.transport().Start(request, completions.Add()).ok());
  other.Kill();
  const TransferResult second = completions.Await(2);
  INFO(second.status.ToString());
  CHECK(absl::IsUnavailable(second.status));

  request.transfer_id = 3;
  request.bytes_per_second_max = 0;
  absl::Status third = reader.transport().Start(request, completions.Add());
  if (third.ok()) third = completions.Await(3).status;
  INFO(third.ToString());
  // A region says by itself that its incarnation has ended.
  CHECK((absl::IsUnavailable(third) || (kind == "local" && absl::IsFailedPrecondition(third))));
}

TEST_CASE("local sees that a source's slot was given other content", "[transport]") {
  Pair pair("local");
  Room room;
  TransferRequest request = pair.Request(1, 0, 0, room);
  request.bytes_per_second_max = 3'000'000;
  SlotRecord record = pair.source.region().ReadSlot(LayerId(0), request.source.slot);
  TransferRequest stale = request;
  stale.transfer_id = 2;
  ++stale.source.generation;
  REQUIRE(pair.reader.transport().Start(stale, pair.completions.Add()).ok());
  CHECK(absl::IsFailedPrecondition(pair.completions.Await(2).status));

  REQUIRE(pair.reader.transport().Start(request, pair.completions.Add()).ok());
  TransferRequest probe = request;  // ends after the first piece of the one before it
  probe.transfer_id = 3;
  probe.source.generation = 77;
  REQUIRE(pair.reader.transport().Start(probe, pair.completions.Add()).ok());
  CHECK_FALSE(pair.completions.Await(3).status.ok());
  ++record.generation;
  pair.source.region().StoreSlot(LayerId(0), request.source.slot, record);
  CHECK(absl::IsAborted(pair.completions.Await(1).status));
}

}  // namespace evenkeel::agent
