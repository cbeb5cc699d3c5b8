// SPDX-License-Identifier: Apache-2.0
//
// Json: values out of JSON that others wrote, each checked where it is taken and named by its place.
//
// Errors:    kInvalidArgument: line and column for what is no JSON, "layer_list[3].layer_id" for a wrong value.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

#include "cli/files/npy.h"

namespace evenkeel::cli {

using Json = nlohmann::json;

absl::StatusOr<Json> ParseJson(std::string_view bytes);

// An object whose fields are all among `known`.
absl::Status CheckFields(const Json& json, const std::string& where, std::initializer_list<std::string_view> known);

// Fields of an object. `where` names it in errors, empty for the whole file. The array stays the object's.
absl::StatusOr<int> IntegerField(const Json& object, const std::string& where, const char* name, int low, int high);
absl::StatusOr<const Json*> ArrayField(const Json& object, const std::string& where, const char* name);

absl::StatusOr<std::vector<int>> IntegersOf(const Json& array, const std::string& where, int low, int high);

// Nested arrays of equal lengths, as an array of counts; fractions are rounded.
absl::StatusOr<NpyArray> CountsOf(const Json& json, const std::string& where);

}  // namespace evenkeel::cli
