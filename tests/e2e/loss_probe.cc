// SPDX-License-Identifier: Apache-2.0
//
// loss_probe RANK PATH...: looks at the regions of survivors, a thousand times a second, until none of them has RANK any
// more, and prints as JSON when that was, in nanoseconds of CLOCK_MONOTONIC: two of them reported that they wait for it (0:
// they never did); in all of them the word that steps poll says lost; the newest maps have no slot of the rank; every lane that ever stepped has begun one by such maps, or has
// none open. Prints "ready" on a line of its own before it begins; gives up after 60 s.
#include <poll.h>
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "engine/region/layout.h"
#include "engine/region/region_view.h"

namespace {

using evenkeel::engine::RegionView;

constexpr int64_t kDeadlineNs = 60'000'000'000;

int64_t NowNs() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

bool Names(const RegionView& region, uint32_t bank, int rank) {
  const auto& sizes = region.sizes();
  for (int layer = 0; layer < sizes.num_layers; ++layer) {
    const auto table = region.table(bank, layer);
    for (int i = 0; i < table.offsets[sizes.num_experts]; ++i) {
      if (table.slots[i] / sizes.slots_per_rank == rank) return true;
    }
  }
  return false;
}

bool IsLost(const RegionView& region, int rank) { return __atomic_load_n(&region.lost()[rank], __ATOMIC_ACQUIRE) != 0; }

bool IsWritten(const RegionView& region, int rank) {
  return !Names(region, evenkeel::engine::BankOf(region.newest().Load()), rank);
}

bool Waits(const RegionView& region, int rank) {
  for (int l = 0; l < region.num_lanes(); ++l) {
    if (region.lane(l).waiting_for.Load() == static_cast<uint64_t>(rank) + 1) return true;
  }
  return false;
}

// The bank that a lane announces holds still until it takes another.
bool IsApplied(const RegionView& region, int rank) {
  for (int l = 0; l < region.num_lanes(); ++l) {
    const auto& lane = region.lane(l);
    const uint64_t announced = lane.announced.Load();
    if (announced == evenkeel::engine::LaneCell::kChoosing) return false;
    const bool is_open = lane.num_begun.Load() != lane.num_ended.Load();
    if (is_open && Names(region, evenkeel::engine::BankOf(announced), rank)) return false;
  }
  return IsWritten(region, rank);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const int rank = std::atoi(argv[1]);
  std::vector<RegionView> regions;
  for (int i = 2; i < argc; ++i) {
    auto region = RegionView::Open(argv[i], evenkeel::engine::SharedMemory::Access::kReadOnly);
    if (!region.ok()) {
      std::fprintf(stderr, "open region %s: %s\n", argv[i], region.error.message);
      return 1;
    }
    regions.push_back(std::move(region.value));
  }
  std::printf("ready\n");
  std::fflush(stdout);
  constexpr bool (*kSteps[])(const RegionView&, int) = {IsLost, IsWritten, IsApplied};
  int64_t seen_ns[3] = {}, witnessed_ns = 0;
  const int64_t deadline = NowNs() + kDeadlineNs;
  for (int step = 0; step < 3;) {
    bool all = true;
    int num_waiting = 0;
    for (const RegionView& region : regions) {
      all = all && kSteps[step](region, rank);
      num_waiting += Waits(region, rank) ? 1 : 0;
    }
    const int64_t now = NowNs();
    if (num_waiting >= 2 && witnessed_ns == 0 && step == 0) witnessed_ns = now;
    if (all) {
      seen_ns[step++] = now;
      continue;
    }
    if (now > deadline) return 3;
    ::poll(nullptr, 0, 1);
  }
  std::printf("{\"witnessed_ns\":%ld,\"lost_ns\":%ld,\"written_ns\":%ld,\"applied_ns\":%ld}\n", witnessed_ns,
              seen_ns[0], seen_ns[1], seen_ns[2]);
  return 0;
}
