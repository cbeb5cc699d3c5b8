// SPDX-License-Identifier: Apache-2.0
//
// What UcxTransport promises beyond agent/transport.h, which transport_test holds it to.
#include "agent/ucx_transport.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "catch2/catch.hpp"

#include "runtime/clock.h"
#include "tests/agent/offered_rank.h"
#include "tests/engine/test_region.h"

namespace evenkeel::agent {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(20);

struct Pair {
  explicit Pair(const std::string& kind) : source(kind, directory.path(), 1), reader(kind, directory.path(), 0) {
    for (uint64_t bytes : kOfferedBytes) room.emplace_back(bytes, std::byte{0});
  }

  absl::Status Read(const std::string& pass) {
    TransferRequest request;
    request.transfer_id = ++num_reads;
    request.layer = LayerId(0);
    request.source = source.Source(0, 0);
    request.source.pass = pass;
    for (auto& tensor : room) request.destination.emplace_back(tensor);
    request.deadline = runtime::MonotonicNow() + kPatience;
    absl::Notification ended;
    absl::Status status;
    const absl::Status started = reader.transport().Start(request, [&](TransferResult result) {
      status = std::move(result.status);
      ended.Notify();
    });
    if (!started.ok()) return started;
    ended.WaitForNotification();
    return status;
  }
  bool IsUntouched() const {
    return std::all_of(room.begin(), room.end(), [](const auto& tensor) {
      return std::all_of(tensor.begin(), tensor.end(), [](std::byte byte) { return byte == std::byte{0}; });
    });
  }

  engine::TestDirectory directory;
  OfferedRank source, reader;
  std::vector<std::vector<std::byte>> room;  // for one expert
  uint64_t num_reads = 0;
};

TEST_CASE("over the network nobody reads without the pass for its rollout", "[ucx_transport]") {
  const std::string kind = GENERATE("ucx:tcp", "ucx:shm", "ucx");
  CAPTURE(kind);
  Pair pair(kind);
  const Member reader = pair.reader.region().member();
  const Endpoint offered = pair.source.transport().endpoint();
  std::string tampered = PassOf(offered.secret, reader, 7);
  tampered[0] ^= 1;  // another rollout's number before the same secret
  const std::string passes[] = {"",
                                "short",
                                PassOf("another secret", reader),
                                PassOf(pair.reader.transport().endpoint().secret, reader),
                                PassOf(offered.secret, {RankId(5), reader.incarnation}),
                                PassOf(offered.secret, {reader.rank, reader.incarnation ^ 1}),
                                tampered};
  for (const std::string& pass : passes) {
    const absl::Status status = pair.Read(pass);
    CAPTURE(pair.num_reads, status.ToString());
    CHECK(absl::IsPermissionDenied(status));
  }
  CHECK(pair.IsUntouched());
  CHECK(pair.Read(PassOf(offered.secret, reader, 7)).ok());
  CHECK(pair.room[1][5] == OfferedByte(0, 0, 1, 5));
  CHECK(pair.Read(PassOf(offered.secret, reader, 8)).ok());
}

}  // namespace
}  // namespace evenkeel::agent
