// SPDX-License-Identifier: Apache-2.0
#include "cli/files/map_formats.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "cli/files/evenkeel_map.h"
#include "cli/files/expert_map.h"
#include "cli/files/file.h"
#include "cli/files/json.h"
#include "cli/files/limits.h"
#include "cli/files/sglang_map.h"
#include "cli/files/trtllm_map.h"

namespace evenkeel::cli {

namespace {

constexpr MapFormat kFormats[] = {MapFormat::kEvenkeel, MapFormat::kExpertMap, MapFormat::kSglang, MapFormat::kTrtllm};

std::optional<MapFormat> FormatOf(const Json& json) {
  if (json.contains("evenkeel_map")) return MapFormat::kEvenkeel;
  if (json.contains("moe_layer_count") || json.contains("layer_list")) return MapFormat::kExpertMap;
  if (json.contains("physical_to_logical_map")) return MapFormat::kSglang;
  return std::nullopt;
}

absl::StatusOr<MapFile> ParseJsonMap(std::string_view bytes, std::optional<MapFormat> format, const MapHints& hints) {
  EVENKEEL_ASSIGN_OR_RETURN(const Json json, ParseJson(bytes));
  if (!format) format = FormatOf(json);
  if (!format && json.contains("logical_count")) {
    return absl::InvalidArgumentError("map: logical_count is loads, not a map; plan --loads plans from them");
  }
  if (!format) return absl::InvalidArgumentError("map: no form of a map that is known");
  switch (*format) {
    case MapFormat::kExpertMap:
      return ParseExpertMap(json, hints);
    case MapFormat::kSglang:
      return ParseSglangMap(json, hints);
    default:
      return ParseEvenkeelMap(json, hints);
  }
}

}  // namespace

std::string_view NameOf(MapFormat format) {
  switch (format) {
    case MapFormat::kEvenkeel:
      return "evenkeel";
    case MapFormat::kExpertMap:
      return "expert_map";
    case MapFormat::kSglang:
      return "sglang";
    case MapFormat::kTrtllm:
      return "trtllm";
  }
  return "";
}

absl::StatusOr<MapFormat> FindMapFormat(std::string_view name) {
  for (MapFormat format : kFormats) {
    if (NameOf(format) == name) return format;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("format '", std::string(name), "': there are ", std::string(kMapFormatNames)));
}

bool KeepsShares(MapFormat format) { return format == MapFormat::kEvenkeel; }

std::optional<MapFormat> DetectMapFormat(std::string_view bytes) {
  const size_t first = bytes.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || bytes.starts_with("\x93NUMPY")) return std::nullopt;
  if (bytes[first] != '{' && bytes[first] != '[') {
    return bytes.find("num_slots") != std::string_view::npos ? std::optional(MapFormat::kTrtllm) : std::nullopt;
  }
  const absl::StatusOr<Json> json = ParseJson(bytes);
  return json.ok() ? FormatOf(*json) : std::nullopt;
}

absl::StatusOr<MapFile> ParseMap(std::string_view bytes, std::optional<MapFormat> format, const MapHints& hints) {
  if (bytes.size() > kJsonBytesMax)
    return absl::InvalidArgumentError(absl::StrCat("map: more than ", kJsonBytesMax, " bytes"));
  const size_t first = bytes.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return absl::InvalidArgumentError("map: the file is empty");
  if (bytes.starts_with("\x93NUMPY")) return absl::InvalidArgumentError("map: a NumPy file, which holds loads");
  const bool json = bytes[first] == '{' || bytes[first] == '[';
  if (format == MapFormat::kTrtllm || (!format && !json)) return ParseTrtllmMap(bytes, hints);
  return ParseJsonMap(bytes, format, hints);
}

absl::StatusOr<MapFile> ReadMap(const std::string& path, std::optional<MapFormat> format, const MapHints& hints) {
  EVENKEEL_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kJsonBytesMax));
  return InFile(path, ParseMap(bytes, format, hints));
}

absl::StatusOr<std::string> RenderMap(const MapFile& map, MapFormat format) {
  switch (format) {
    case MapFormat::kExpertMap:
      return RenderExpertMap(map);
    case MapFormat::kSglang:
      return RenderSglangMap(map);
    case MapFormat::kTrtllm:
      return RenderTrtllmMap(map);
    case MapFormat::kEvenkeel:
      break;
  }
  return RenderEvenkeelMap(map);
}

}  // namespace evenkeel::cli
