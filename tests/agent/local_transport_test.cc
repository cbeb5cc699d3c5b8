// SPDX-License-Identifier: Apache-2.0
//
// What LocalTransport promises beyond Transport.
#include "agent/local_transport.h"

#include <memory>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "catch2/catch.hpp"

#include "agent/throttle.h"
#include "engine/evenkeel.h"
#include "engine/region/agent_region.h"
#include "runtime/clock.h"
#include "tests/engine/test_region.h"

namespace evenkeel::agent {
namespace {

std::unique_ptr<engine::TestRegion> MakeRank(const engine::TestDirectory& directory, int rank) {
  evenkeel_options options = engine::SmallOptions(directory);
  options.rank = rank;
  auto made = std::make_unique<engine::TestRegion>(options);
  made->MakeReady();
  return made;
}

}  // namespace

TEST_CASE("a copy that waits for its turn ends with the source's engine", "[transport]") {
  const engine::TestDirectory directory;
  auto source = MakeRank(directory, 0);
  const auto destination = MakeRank(directory, 1);
  const auto from = engine::AgentRegion::Open(source->path());
  const auto into = engine::AgentRegion::Open(destination->path());
  REQUIRE((from.ok() && into.ok()));
  const auto throttle = std::make_shared<Throttle>();
  LocalTransport transport({.host = HostIdentity(), .region_path = destination->path(), .throttle = throttle});

  TransferRequest request;
  request.transfer_id = 1;
  request.layer = LayerId(0);
  request.source_local_slot = 0;
  request.source.member = (*from)->member();
  request.source.generation = (*from)->ReadSlot(LayerId(0), SlotIdx(0)).generation;
  request.source.endpoint = {"local", HostIdentity(), source->path()};
  request.destination = (*into)->SlotBytes(LayerId(0), (*into)->group().shape.SlotAt(RankId(1), 0));
  request.deadline = runtime::MonotonicNow() + absl::Seconds(60);
  request.bytes_per_second_max = 1;  // the first tensor takes the next 200 s
  absl::Mutex mutex;
  std::vector<absl::Status> ends;
  REQUIRE(transport
              .Start(std::move(request),
                     [&](const TransferResult& result) {
                       absl::MutexLock lock(&mutex);
                       ends.push_back(result.status);
                     })
              .ok());
  const absl::Time begun_by = runtime::MonotonicNow() + absl::Seconds(20);
  while (throttle->NextBegin() == absl::InfinitePast() && runtime::MonotonicNow() < begun_by) std::this_thread::yield();
  REQUIRE(throttle->NextBegin() > runtime::MonotonicNow() + absl::Seconds(100));
  source.reset();

  absl::MutexLock lock(&mutex);
  const auto ended = [&ends] { return !ends.empty(); };
  REQUIRE(mutex.AwaitWithTimeout(absl::Condition(&ended), absl::Seconds(20)));
  CHECK(absl::IsUnavailable(ends[0]));
}

}  // namespace evenkeel::agent
