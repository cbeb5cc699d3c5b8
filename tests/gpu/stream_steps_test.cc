// SPDX-License-Identifier: Apache-2.0
//
// Steps in the order of a stream on a real GPU, an agent beside them: host ahead, graphs replayed, members lost.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/layer_map.h"
#include "algos/placement.h"
#include "engine/evenkeel_cuda.h"
#include "engine/region/agent_region.h"
#include "engine/region/layout.h"
#include "kernels/host/route.h"
#include "tests/engine/engine_and_agent.h"
#include "tests/gpu/device_buffers.h"
#include "tests/gpu/device_stream.h"

namespace evenkeel::gpu {
namespace {

using engine::AgentRegion;
using engine::EngineAndAgent;
using engine::kShape;
using engine::MapsWrite;
using engine::TestDirectory;

constexpr int64_t kTokens = 700;
constexpr int32_t kTopK = 3;
constexpr int32_t kRank = 1;  // of SmallOptions

bool Skipped() {
  if (NumGpus() > 0) return false;
  WARN("skipped: this machine has no GPU");
  return true;
}

template <typename T>
std::vector<T> FetchAll(const void* from, size_t count) {
  std::vector<T> values(count);
  Fetch(values.data(), from, count * sizeof(T));
  return values;
}

template <typename T>
T* TakeWith(const std::vector<T>& values) {
  void* memory = Take(0, Kind::kPlain, values.size() * sizeof(T));
  REQUIRE(memory != nullptr);
  REQUIRE(Fill(memory, values.data(), values.size() * sizeof(T)));
  return static_cast<T*>(memory);
}

void OpenDevice(const EngineAndAgent& both) {
  evenkeel_error error = {};
  const int status = evenkeel_open_device(both.region.get(), 0, &error);
  INFO(error.message);
  REQUIRE(status == EVENKEEL_OK);
}

int64_t BeginOn(const EngineAndAgent& both, const DeviceStream& stream, evenkeel_kind kind = EVENKEEL_REAL) {
  const int64_t ticket = evenkeel_begin_step_on(both.region.get(), 0, EVENKEEL_DECODE, kind, stream.get());
  REQUIRE(ticket > 0);
  return ticket;
}

void EndOn(const EngineAndAgent& both, const DeviceStream& stream, int64_t ticket) {
  REQUIRE(evenkeel_end_step_on(both.region.get(), 0, ticket, stream.get()) == EVENKEEL_OK);
}

bool Within(std::chrono::seconds limit, const std::function<bool()>& holds) {
  const auto begun = std::chrono::steady_clock::now();
  while (!holds()) {
    if (std::chrono::steady_clock::now() - begun > limit) return false;
  }
  return true;
}

// Two experts have changed places.
std::vector<algos::LayerMap> OtherMaps() {
  algos::Placement placement = DefaultPlacement(kShape);
  std::swap(placement.expert_of_slot[0], placement.expert_of_slot[7]);
  return std::vector<algos::LayerMap>(2, EvenMap(placement, kShape.num_experts));
}

std::vector<int32_t> SkewedIds() {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < kTokens * kTopK; ++i) ids.push_back(static_cast<int32_t>(i * i % 11 % 8));
  ids[5] = -1;
  return ids;
}

// What evenkeel_route would give.
std::vector<int32_t> Expected(const algos::LayerMap& map, const std::vector<int32_t>& ids, uint32_t layer,
                              uint64_t num_begun) {
  std::vector<int32_t> table, slots(ids.size());
  for (const SlotIdx slot : map.slots) table.push_back(slot.value());
  kernels::Route({map.offsets.data(), table.data(), map.bounds.data(), kShape.num_experts},
                 {ids.data(), 4, kTopK, kTokens, kTopK, 0},
                 kernels::RouteSalt(kRank, layer, num_begun * engine::kLanesMax), {}, {}, slots.data());
  return slots;
}

evenkeel_options RouterOptions(const TestDirectory& directory) {
  evenkeel_options options = engine::SmallOptions(directory);
  options.count_place = EVENKEEL_COUNT_ROUTER;
  return options;
}

}  // namespace

TEST_CASE("work on a stream reads an old slot while the host is ahead, and nothing is overwritten before its marker",
          "[gpu]") {
  if (Skipped()) return;
  constexpr size_t kBytes = 1 << 20;
  const TestDirectory directory;
  EngineAndAgent both(RouterOptions(directory));
  OpenDevice(both);
  const std::vector<uint8_t> old_content(kBytes, 0xA5), new_content(kBytes, 0x3C);
  uint8_t* const slot = TakeWith(old_content);
  uint8_t* const read = TakeWith(new_content);
  DeviceStream stream;
  stream.Read(slot, read, kBytes);  // loads the kernel, for which CUDA waits for streams
  stream.Wait();
  REQUIRE(Fill(read, new_content.data(), kBytes));
  stream.Hold();
  const int64_t first = BeginOn(both, stream);
  stream.Read(slot, read, kBytes);
  EndOn(both, stream, first);
  both.Write(1);
  const int64_t second = BeginOn(both, stream);
  EndOn(both, stream, second);
  both.Write(2);
  EndOn(both, stream, BeginOn(both, stream));
  // The host has ended three steps; the stream has begun none.
  const auto held_until = std::chrono::steady_clock::now() + std::chrono::milliseconds(200);
  while (std::chrono::steady_clock::now() < held_until) {
    REQUIRE(both.agent->ReadQuiesced().epoch == Epoch{});
    REQUIRE(*both.agent->TryWriteMaps({1, 3}, 0, 5, engine::Maps()) == MapsWrite::kNoBankFree);
  }
  CHECK_FALSE(stream.IsDone());
  CHECK_FALSE(both.agent->ReadStatus().idle);
  CHECK(evenkeel_set_idle(both.region.get(), 0) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_end_step(both.region.get(), 0, first) == EVENKEEL_FAILED_PRECONDITION);
  stream.Release();
  REQUIRE(Within(std::chrono::seconds(10), [&] { return both.agent->ReadQuiesced().epoch == Epoch{1, 2}; }));
  REQUIRE(Fill(slot, new_content.data(), kBytes));  // as a move would
  stream.Wait();
  CHECK(FetchAll<uint8_t>(read, kBytes) == old_content);
  both.Write(3);
  CHECK(evenkeel_set_idle(both.region.get(), 0) == EVENKEEL_OK);
  CHECK(both.agent->ReadStatus().idle);
  CHECK(both.agent->ReadStepTimes().num_steps == 3);
}

TEST_CASE("a captured graph goes on with the maps, steps, members and counters that are there when it is replayed",
          "[gpu]") {
  if (Skipped()) return;
  const TestDirectory directory;
  EngineAndAgent both(RouterOptions(directory));
  OpenDevice(both);
  const std::vector<int32_t> ids = SkewedIds();
  const int32_t* const ids_at = TakeWith(ids);
  int32_t* const slots_at = TakeWith(std::vector<int32_t>(2 * ids.size()));
  DeviceStream stream;
  stream.Capture([&] {
    for (int32_t layer = 0; layer < 2; ++layer) {
      REQUIRE(evenkeel_route_on(both.region.get(), 0, layer, ids_at, 4, kTokens, kTopK, kTopK, 0,
                                slots_at + static_cast<size_t>(layer) * ids.size(), stream.get()) == EVENKEEL_OK);
    }
  });
  std::vector<uint64_t> counted(2 * static_cast<size_t>(kShape.num_slots()));
  const auto replay = [&](int64_t ticket) {
    stream.Replay();
    if (ticket != 0) EndOn(both, stream, ticket);
    stream.Wait();
    const auto slots = FetchAll<int32_t>(slots_at, 2 * ids.size());
    for (size_t i = 0; i < slots.size(); ++i) {
      const size_t row = i / ids.size() * static_cast<size_t>(kShape.num_slots());
      if (slots[i] >= 0) ++counted[row + static_cast<size_t>(slots[i])];
    }
    return slots;
  };
  const auto check = [&](const std::vector<int32_t>& slots, const std::vector<algos::LayerMap>& maps, uint64_t step) {
    for (uint32_t layer = 0; layer < 2; ++layer) {
      const auto begin = slots.begin() + static_cast<ptrdiff_t>(layer * ids.size());
      CAPTURE(layer, step);
      CHECK(std::vector<int32_t>(begin, begin + static_cast<ptrdiff_t>(ids.size())) ==
            Expected(maps[layer], ids, layer, step));
    }
  };
  check(replay(BeginOn(both, stream)), engine::Maps(), 1);
  REQUIRE(*both.agent->TryWriteMaps({1, 1}, 0, 5, OtherMaps()) == MapsWrite::kWritten);
  check(replay(BeginOn(both, stream)), OtherMaps(), 2);
  check(replay(BeginOn(both, stream)), OtherMaps(), 3);
  // Within a step, a rank is lost.
  const int64_t ticket = BeginOn(both, stream);
  check(replay(0), OtherMaps(), 4);
  const auto of_lost = [](int32_t slot) { return slot / kShape.slots_per_rank == 2; };
  both.agent->StoreView(
      {.number = 1, .members = {{RankId(0), 5}, {RankId(1), both.agent->member().incarnation}, {RankId(3), 6}}});
  REQUIRE(evenkeel_push_lost(both.region.get()) == EVENKEEL_OK);
  REQUIRE(Within(std::chrono::seconds(10), [&] {
    const auto slots = replay(0);
    return std::none_of(slots.begin(), slots.end(), of_lost);
  }));
  const auto slots = replay(ticket);
  CHECK(std::none_of(slots.begin(), slots.end(), of_lost));
  CHECK(both.agent->ReadCounters().decode_of_slot == counted);
  // Steps that are not real are not counted.
  EndOn(both, stream, BeginOn(both, stream, EVENKEEL_DUMMY));
  stream.Replay();
  stream.Wait();
  CHECK(both.agent->ReadCounters().tokens_of_slot == counted);
}

TEST_CASE("tokens of local slots after dispatch are counted from device memory", "[gpu]") {
  if (Skipped()) return;
  const TestDirectory directory;
  EngineAndAgent both(engine::SmallOptions(directory));
  OpenDevice(both);
  CHECK(evenkeel_count(both.region.get(), 0, EVENKEEL_DECODE, 1, 2, 9) == EVENKEEL_FAILED_PRECONDITION);
  const int32_t* const counts = TakeWith<int32_t>({3, 0, 5});
  const int64_t* const sums = TakeWith<int64_t>({2, 4, 11});
  DeviceStream stream;
  const int64_t ticket = BeginOn(both, stream);
  REQUIRE(evenkeel_add_counts_on(both.region.get(), 0, 0, counts, 4, 0, stream.get()) == EVENKEEL_OK);
  REQUIRE(evenkeel_add_counts_on(both.region.get(), 0, 1, sums, 8, 1, stream.get()) == EVENKEEL_OK);
  REQUIRE(evenkeel_add_counts_on(both.region.get(), 0, 1, counts, 4, 0, stream.get()) == EVENKEEL_OK);
  EndOn(both, stream, ticket);
  stream.Wait();
  CHECK(both.agent->ReadCounters().decode_of_slot == std::vector<uint64_t>{3, 0, 5, 5, 2, 12});
}

TEST_CASE("device memory is taken once, whatever comes", "[gpu]") {
  if (Skipped()) return;
  const TestDirectory directory;
  EngineAndAgent both(RouterOptions(directory));
  const uint64_t said = evenkeel_device_bytes(both.region.get());
  CHECK(said > 0);
  OpenDevice(both);
  evenkeel_error error = {};
  CHECK(evenkeel_open_device(both.region.get(), 0, &error) == EVENKEEL_FAILED_PRECONDITION);
  DeviceStream stream;
  EndOn(both, stream, BeginOn(both, stream));
  stream.Wait();
  const uint64_t free = FreeBytes(0);
  uint32_t epoch = 0;
  std::vector<double> microseconds;
  for (int i = 0; i < 1000; ++i) {
    if (i % 10 == 0) both.Write(++epoch);
    const auto begun = std::chrono::steady_clock::now();
    EndOn(both, stream, BeginOn(both, stream));
    microseconds.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begun).count());
    stream.Wait();
  }
  CHECK(FreeBytes(0) == free);
  CHECK(evenkeel_device_bytes(both.region.get()) == said);
  std::sort(microseconds.begin(), microseconds.end());
  WARN("begin_step_on and end_step_on, on the host: median " << microseconds[500] << " us, p99 " << microseconds[990]
                                                             << " us; " << said << " bytes of device memory");
}

}  // namespace evenkeel::gpu
