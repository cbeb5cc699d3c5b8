// SPDX-License-Identifier: Apache-2.0
//
// Files of load, .npy and JSON.
#include "cli/files/loads.h"
#include "cli/files/npy.h"
#include "tests/fuzz/fuzz.h"

namespace evenkeel::fuzz {

std::vector<std::string> Seeds() {
  return {cli::RenderNpy({.shape = {2, 1, 3}, .values = {1, 2, 3, 4, 5, 6}}),
          cli::RenderNpy({.shape = {3}, .values = {uint64_t{1} << 40, 0, 7}}), "[[[1, 2, 3]], [[4, 5, 6]]]",
          "[[1, 2], [3, 4]]"};
}

}  // namespace evenkeel::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenkeel;
  const auto array = cli::ParseCounts(fuzz::TextOf(data, size));
  if (!array.ok()) return 0;
  for (const char* range : {"", "0:1", "-1:"}) {
    const auto loads = cli::LoadsOf(*array, range);
    if (!loads.ok()) continue;
    for (const algos::Load& load : *loads) {
      FUZZ_CHECK(load.tokens.size() == static_cast<size_t>(load.num_layers) * static_cast<size_t>(load.num_experts));
    }
  }
  const auto again = cli::ParseNpy(cli::RenderNpy(*array));
  FUZZ_CHECK(again.ok() && again->values == array->values && again->shape == array->shape);
  return 0;
}
