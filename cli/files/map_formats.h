// SPDX-License-Identifier: Apache-2.0
//
// MapFormats: the forms of maps by name, and which one a file is in.
//
// Errors:    kInvalidArgument for what is no such map, naming file, layer and slot; those of file.h.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

#include "cli/files/map_file.h"

namespace evenkeel::cli {

enum class MapFormat { kEvenkeel, kExpertMap, kSglang, kTrtllm };

inline constexpr std::string_view kMapFormatNames = "evenkeel|expert_map|sglang|trtllm";

absl::StatusOr<MapFormat> FindMapFormat(std::string_view name);
std::string_view NameOf(MapFormat format);
// Whether maps in this form keep unequal shares.
bool KeepsShares(MapFormat format);

// The form of these bytes by what they begin with; they may still be wrong. None: no form of a map.
std::optional<MapFormat> DetectMapFormat(std::string_view bytes);

// In the form that the bytes show, where none is given.
absl::StatusOr<MapFile> ParseMap(std::string_view bytes, std::optional<MapFormat> format, const MapHints& hints);
absl::StatusOr<MapFile> ReadMap(const std::string& path, std::optional<MapFormat> format, const MapHints& hints);

absl::StatusOr<std::string> RenderMap(const MapFile& map, MapFormat format);

}  // namespace evenkeel::cli
