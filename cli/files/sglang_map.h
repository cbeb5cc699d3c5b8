// SPDX-License-Identifier: Apache-2.0
//
// SglangMap: SGLang's initial expert location as a map, {"physical_to_logical_map": [[expert of each slot], ...]}.
//
// Its rows are all layers of the model: dense ones too, MapFile::first_layer of them, which are skipped when read
// and written as SGLang's trivial map (slot i holds i modulo experts). It does not say how many ranks there are.
// The other kind of such a file, {"logical_count": ...}, holds loads (loads.h).
//
// Errors:    kInvalidArgument, naming the field, or layer and slot.
#pragma once

#include <string>

#include "absl/status/statusor.h"

#include "cli/files/json.h"
#include "cli/files/map_file.h"

namespace evenkeel::cli {

// Requires of hints: num_ranks.
absl::StatusOr<MapFile> ParseSglangMap(const Json& json, const MapHints& hints);

absl::StatusOr<std::string> RenderSglangMap(const MapFile& map);

}  // namespace evenkeel::cli
