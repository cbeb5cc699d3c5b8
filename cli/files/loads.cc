// SPDX-License-Identifier: Apache-2.0
#include "cli/files/loads.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "algos/base/check.h"
#include "algos/base/status_macros.h"
#include "cli/files/file.h"
#include "cli/files/json.h"
#include "cli/files/limits.h"

namespace evenkeel::cli {

namespace {

absl::Status Bad(absl::string_view what) { return absl::InvalidArgumentError(absl::StrCat("loads: ", what)); }

struct Span {
  size_t first = 0, end = 0;
};

absl::StatusOr<int64_t> EndOf(std::string_view text, int64_t otherwise, int64_t num_windows) {
  int64_t value = otherwise;
  if (!text.empty() && !absl::SimpleAtoi(absl::string_view(text.data(), text.size()), &value)) {
    return Bad(absl::StrCat("windows: '", std::string(text), "' is no number"));
  }
  return value < 0 ? value + num_windows : value;
}

absl::StatusOr<Span> SpanOf(std::string_view range, size_t num_windows) {
  if (range.empty()) return Span{0, num_windows};
  const size_t colon = range.find(':');
  const std::string text(range);
  if (colon == std::string_view::npos)
    return Bad(absl::StrCat("windows '", text, "': wanted is A:B, for example 0:20"));
  const auto count = static_cast<int64_t>(num_windows);
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t first, EndOf(range.substr(0, colon), 0, count));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t end, EndOf(range.substr(colon + 1), count, count));
  if (first < 0 || end > count) {
    return Bad(absl::StrCat("windows '", text, "': the file has ", num_windows, " windows, 0 to ", count - 1));
  }
  if (first >= end) return Bad(absl::StrCat("windows '", text, "': there are none in that range"));
  return Span{static_cast<size_t>(first), static_cast<size_t>(end)};
}

std::string SizesText(const std::vector<size_t>& shape) {
  std::string text;
  for (size_t size : shape) absl::StrAppend(&text, text.empty() ? "" : ", ", size);
  return absl::StrCat("[", text, "]");
}

}  // namespace

absl::StatusOr<NpyArray> ParseCounts(std::string_view bytes) {
  if (bytes.starts_with("\x93NUMPY")) return ParseNpy(bytes);
  if (bytes.size() > kJsonBytesMax) return Bad(absl::StrCat("JSON of more than ", kJsonBytesMax, " bytes"));
  const size_t first = bytes.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || (bytes[first] != '[' && bytes[first] != '{')) {
    return Bad("neither a NumPy file nor JSON; .pt and .npz files have to be converted first");
  }
  EVENKEEL_ASSIGN_OR_RETURN(const Json json, ParseJson(bytes));
  if (json.is_array()) return CountsOf(json, "loads");
  for (const char* name : {"logical_count", "tokens_per_expert_stats_list"}) {
    if (json.contains(name)) return CountsOf(json[name], name);
  }
  if (json.contains("physical_to_logical_map")) return Bad("physical_to_logical_map is a map, not loads");
  return Bad("an object with neither logical_count nor tokens_per_expert_stats_list");
}

absl::StatusOr<std::vector<algos::Load>> LoadsOf(const NpyArray& array, std::string_view range) {
  const size_t dims = array.shape.size();
  if (dims < 1 || dims > 3) {
    return Bad(absl::StrCat("an array of ", dims,
                            " dimensions; wanted is [experts], [layers, experts] or [windows, layers, experts]"));
  }
  const size_t num_windows = dims == 3 ? array.shape[0] : 1;
  const size_t num_layers = dims >= 2 ? array.shape[dims - 2] : 1, num_experts = array.shape[dims - 1];
  if (num_windows == 0 || num_layers == 0 || num_experts == 0) {
    return Bad(absl::StrCat("an array of shape ", SizesText(array.shape), " holds nothing"));
  }
  if (num_layers > static_cast<size_t>(kLayersMax) || num_experts > static_cast<size_t>(kExpertsMax)) {
    return Bad(absl::StrCat("an array of shape ", SizesText(array.shape), ": at most ", kLayersMax, " layers and ",
                            kExpertsMax, " experts"));
  }
  EVENKEEL_ASSIGN_OR_RETURN(const Span span, SpanOf(range, num_windows));
  std::vector<algos::Load> loads;
  const size_t cells = num_layers * num_experts;
  for (size_t window = span.first; window < span.end; ++window) {
    const auto begin = array.values.begin() + static_cast<std::ptrdiff_t>(window * cells);
    algos::Load load{.num_layers = static_cast<int>(num_layers), .num_experts = static_cast<int>(num_experts)};
    load.tokens.assign(begin, begin + static_cast<std::ptrdiff_t>(cells));
    if (std::ranges::all_of(load.tokens, [](uint64_t tokens) { return tokens == 0; })) {
      return Bad(absl::StrCat("window ", window, " is empty: no expert has a token in it"));
    }
    loads.push_back(std::move(load));
  }
  return loads;
}

absl::StatusOr<std::vector<algos::Load>> ReadLoads(const std::string& path, std::string_view range) {
  EVENKEEL_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kNpyBytesMax));
  EVENKEEL_ASSIGN_OR_RETURN(const NpyArray array, InFile(path, ParseCounts(bytes)));
  return InFile(path, LoadsOf(array, range));
}

NpyArray ArrayOf(const std::vector<algos::Load>& windows) {
  EVENKEEL_CHECK(!windows.empty());
  NpyArray array;
  array.shape = {windows.size(), static_cast<size_t>(windows[0].num_layers),
                 static_cast<size_t>(windows[0].num_experts)};
  for (const algos::Load& load : windows)
    array.values.insert(array.values.end(), load.tokens.begin(), load.tokens.end());
  return array;
}

std::string RenderLogicalCount(const std::vector<algos::Load>& windows) {
  std::string text = "{\"logical_count\": [";
  for (size_t w = 0; w < windows.size(); ++w) {
    absl::StrAppend(&text, w == 0 ? "\n" : ",\n", " [");
    for (int layer = 0; layer < windows[w].num_layers; ++layer) {
      absl::StrAppend(&text, layer == 0 ? "" : ",\n  ", Json(windows[w].layer(LayerId(layer))).dump());
    }
    text += "]";
  }
  return text + "\n]}\n";
}

}  // namespace evenkeel::cli
