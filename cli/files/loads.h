// SPDX-License-Identifier: Apache-2.0
//
// Loads: recorded token counts per expert, from the files in which people have them.
//
// A .npy file (npy.h) or JSON: nested arrays of whole numbers, or an object with one such array under
// `logical_count` (SGLang) or `tokens_per_expert_stats_list` (FastDeploy). [experts] is one window of one layer,
// [layers, experts] one window, [windows, layers, experts] one window after the other.
//
// Errors:    kInvalidArgument naming what is wrong and where: dimensions, ragged rows, NaN, negative values, windows
//            without a token, ranges beyond the file; those of file.h.
// Limits:    kLayersMax, kExpertsMax; files of kNpyBytesMax, JSON of kJsonBytesMax.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "algos/problem.h"
#include "cli/files/npy.h"

namespace evenkeel::cli {

// Windows of a file, in order; at least one, each with tokens. `range` is empty for all, or "A:B": those from A to
// B - 1, from the first where A is left out, to the last where B is; negative ones count from the end. Windows
// outside may be empty.
absl::StatusOr<std::vector<algos::Load>> ReadLoads(const std::string& path, std::string_view range = "");

// The file's array as it is, of any number of dimensions.
absl::StatusOr<NpyArray> ParseCounts(std::string_view bytes);

// The windows that `range` names of an array of 1 to 3 dimensions.
absl::StatusOr<std::vector<algos::Load>> LoadsOf(const NpyArray& array, std::string_view range = "");

// [windows, layers, experts]. Requires: at least one window, all of one size.
NpyArray ArrayOf(const std::vector<algos::Load>& windows);

// As the `logical_count` from which SGLang plans at its start: {"logical_count": [windows, layers, experts]}.
std::string RenderLogicalCount(const std::vector<algos::Load>& windows);

}  // namespace evenkeel::cli
