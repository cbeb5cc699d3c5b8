// SPDX-License-Identifier: Apache-2.0
#include "agent/faulty_transport.h"

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "catch2/catch.hpp"

#include "runtime/clock.h"

namespace evenkeel::agent {
namespace {

// Fills the destination with sevens and says so at once, on the caller's thread.
class SevensTransport : public Transport {
 public:
  std::string_view name() const override { return "sevens"; }
  Endpoint endpoint() const override { return {"sevens", "host", "address"}; }
  int CostFrom(const Endpoint&) const override { return 3; }
  absl::Status Start(TransferRequest request, TransferDone done) override {
    for (std::span<std::byte> range : request.destination) std::fill(range.begin(), range.end(), std::byte{7});
    done({request.transfer_id, absl::OkStatus(), 24});
    return absl::OkStatus();
  }
  void Cancel(uint64_t) override {}
  void Forget(const Member&) override {}
  void Close() override {}
};

struct Rig {
  explicit Rig(const std::string& faults)
      : transport(std::make_unique<SevensTransport>(), ParseFaults(faults).value()) {}

  // Transfers into `bytes`, which are 8 and 16 of them.
  void Start(uint64_t id) {
    TransferRequest request;
    request.transfer_id = id;
    for (auto& range : bytes[id]) request.destination.emplace_back(range);
    REQUIRE(transport
                .Start(std::move(request),
                       [this](TransferResult result) {
                         absl::MutexLock lock(&mutex);
                         ended_at[result.transfer_id] = runtime::MonotonicNow();
                         CHECK(results.emplace(result.transfer_id, std::move(result)).second);
                       })
                .ok());
  }
  int CountFlippedBits(uint64_t id) {
    int flipped = 0;
    for (const auto& range : bytes[id]) {
      for (std::byte byte : range) flipped += __builtin_popcount(static_cast<unsigned>(byte ^ std::byte{7}));
    }
    return flipped;
  }

  std::map<uint64_t, std::vector<std::vector<std::byte>>> bytes = {
      {1, {std::vector<std::byte>(8), std::vector<std::byte>(16)}},
      {2, {std::vector<std::byte>(8), std::vector<std::byte>(16)}},
      {3, {std::vector<std::byte>(8), std::vector<std::byte>(16)}}};
  absl::Mutex mutex;
  std::map<uint64_t, TransferResult> results;
  std::map<uint64_t, absl::Time> ended_at;
  FaultyTransport transport;
};

}  // namespace

TEST_CASE("one bit of the ordered transfer flips before its end is told", "[faulty]") {
  Rig rig("flip:2");
  for (uint64_t id : {1, 2, 3}) rig.Start(id);
  CHECK(rig.CountFlippedBits(1) == 0);
  CHECK(rig.CountFlippedBits(2) == 1);
  CHECK(rig.CountFlippedBits(3) == 0);
  CHECK(rig.results[2].status.ok());
  CHECK(rig.transport.name() == "sevens");
  CHECK(rig.transport.CostFrom({}) == 3);
  CHECK(rig.transport.endpoint().address == "address");
}

TEST_CASE("ordered transfers fail, every one where none is named", "[faulty]") {
  Rig rig("fail:0,flip:3");
  for (uint64_t id : {1, 2, 3}) rig.Start(id);
  for (uint64_t id : {1, 2, 3}) CHECK(absl::IsUnavailable(rig.results[id].status));
  CHECK(rig.CountFlippedBits(3) == 1);
}

TEST_CASE("a delayed end comes late and once, or when the transport is closed", "[faulty]") {
  Rig rig("delay:1:100,delay:3:3600000");
  const absl::Time begun = runtime::MonotonicNow();
  for (uint64_t id : {1, 2, 3}) rig.Start(id);
  {
    absl::MutexLock lock(&rig.mutex);
    CHECK(rig.results.count(2) == 1);
    const auto both = [&rig] { return rig.results.size() == 2; };
    REQUIRE(rig.mutex.AwaitWithTimeout(absl::Condition(&both), absl::Seconds(20)));
    CHECK(rig.results.count(1) == 1);
    CHECK(rig.ended_at[1] - begun >= absl::Milliseconds(100));
  }
  rig.transport.Close();
  CHECK(rig.results.size() == 3);
  rig.transport.Close();
}

TEST_CASE("faults that cannot be read are refused", "[faulty]") {
  const std::string text =
      GENERATE("flip", "flip:", "flip:x", "flip:-1", "flip:1:2", "delay:1", "delay:1:-5", "burn:1", "flip:1,", ":");
  CAPTURE(text);
  CHECK(absl::IsInvalidArgument(ParseFaults(text).status()));
  CHECK(ParseFaults("")->empty());
  CHECK(ParseFaults("flip:1,delay:0:20")->size() == 2);
}

}  // namespace evenkeel::agent
