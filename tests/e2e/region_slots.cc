// SPDX-License-Identifier: Apache-2.0
//
// region_slots PATH...: prints, as JSON, how many slots of each region are free, being written, verified and
// condemned right now, so that a test can tell whether a kill fell within a move.
#include <cstdio>

#include "engine/region/region_view.h"

int main(int argc, char** argv) {
  using evenkeel::engine::RegionView;
  std::printf("[");
  for (int i = 1; i < argc; ++i) {
    const auto region = RegionView::Open(argv[i], evenkeel::engine::SharedMemory::Access::kReadOnly);
    if (!region.ok()) {
      std::fprintf(stderr, "open region %s: %s\n", argv[i], region.error.message);
      return 1;
    }
    int counts[4] = {};
    const auto& sizes = region.value.sizes();
    for (int layer = 0; layer < sizes.num_layers; ++layer) {
      for (int slot = 0; slot < sizes.slots_per_rank; ++slot) {
        const uint32_t state = region.value.ReadSlot(layer, slot).state;
        if (state < 4) ++counts[state];
      }
    }
    std::printf("%s{\"path\":\"%s\",\"rank\":%d,\"free\":%d,\"writing\":%d,\"verified\":%d,\"condemned\":%d}",
                i == 1 ? "" : ",", argv[i], sizes.rank, counts[0], counts[1], counts[2], counts[3]);
  }
  std::printf("]\n");
  return 0;
}
