// SPDX-License-Identifier: Apache-2.0
//
// Limits: how large a group a file may describe. What is beyond is refused before anything is made of it.
#pragma once

#include <cstddef>

namespace evenkeel::cli {

inline constexpr int kLayersMax = 4096;
inline constexpr int kExpertsMax = 65536;
inline constexpr int kRanksMax = 65536;
inline constexpr int kSlotsMax = 1 << 20;  // of a layer, over all ranks
inline constexpr size_t kJsonBytesMax = size_t{256} << 20;
inline constexpr size_t kYamlBytesMax = size_t{64} << 20;

}  // namespace evenkeel::cli
