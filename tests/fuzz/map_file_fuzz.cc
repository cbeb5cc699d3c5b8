// SPDX-License-Identifier: Apache-2.0
//
// Map files in every form: what is taken can be written as our own and read back the same.
#include <optional>

#include "cli/files/map_formats.h"
#include "tests/fuzz/fuzz.h"

namespace evenkeel::fuzz {

std::vector<std::string> Seeds() {
  const std::vector<std::vector<int>> slots = {{0, 1, 2, 3, 0, 1}, {3, 2, 1, 0, 3, 2}};
  const auto map = cli::MapOf(slots, {.num_ranks = 2, .num_experts = 4, .first_layer = 0});
  FUZZ_CHECK(map.ok());
  std::vector<std::string> seeds;
  for (const cli::MapFormat format :
       {cli::MapFormat::kEvenkeel, cli::MapFormat::kExpertMap, cli::MapFormat::kSglang, cli::MapFormat::kTrtllm}) {
    const auto text = cli::RenderMap(*map, format);
    FUZZ_CHECK(text.ok());
    seeds.push_back(*text);
  }
  return seeds;
}

}  // namespace evenkeel::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenkeel;
  const std::string_view text = fuzz::TextOf(data, size);
  using Format = std::optional<cli::MapFormat>;
  for (const Format format : {Format(), Format(cli::MapFormat::kTrtllm)}) {
    const auto map = cli::ParseMap(text, format, {.num_ranks = 2, .num_experts = 0, .first_layer = 0});
    if (!map.ok()) continue;
    const auto own = cli::RenderMap(*map, cli::MapFormat::kEvenkeel);
    FUZZ_CHECK(own.ok());
    const auto back = cli::ParseMap(*own, cli::MapFormat::kEvenkeel, {});
    FUZZ_CHECK(back.ok() && *back == *map);
  }
  return 0;
}
