// SPDX-License-Identifier: Apache-2.0
#include "cli/files/json.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"

namespace evenkeel::cli {

namespace {

constexpr size_t kDimensionsMax = 8;

absl::Status Bad(const std::string& where, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(where, where.empty() ? "" : " ", std::string(what)));
}

std::string Under(const std::string& where, std::string_view name) {
  return absl::StrCat(where, where.empty() ? "" : ".", std::string(name));
}

// "null", "an object", "-3": what stands where something else was wanted.
std::string Named(const Json& json) {
  if (json.is_object()) return "an object";
  if (json.is_array()) return "a list";
  std::string text = json.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > 40) text = text.substr(0, 40) + "...";
  return text;
}

// Keeps nothing but the place and the reason of the first error.
class ErrorFinder : public nlohmann::json_sax<Json> {
 public:
  const std::string& message() const { return message_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(std::size_t, const std::string& token, const nlohmann::detail::exception& error) override {
    message_ = error.what();
    if (const size_t end = message_.find("] "); end != std::string::npos) message_.erase(0, end + 2);
    if (token.ends_with('N') || token.ends_with('I')) message_ += "; NaN and Infinity are no numbers of JSON";
    return false;
  }

 private:
  std::string message_;
};

absl::Status AppendCounts(const Json& json, const std::string& where, size_t dim, NpyArray& array) {
  if (dim < array.shape.size()) {
    if (!json.is_array()) return Bad(where, absl::StrCat("is ", Named(json), ", its neighbours are lists"));
    if (json.size() != array.shape[dim]) {
      return Bad(where, absl::StrCat("has ", json.size(), " values, its first neighbour ", array.shape[dim]));
    }
    for (size_t i = 0; i < json.size(); ++i) {
      EVENKEEL_RETURN_IF_ERROR(AppendCounts(json[i], absl::StrCat(where, "[", i, "]"), dim + 1, array));
    }
    return absl::OkStatus();
  }
  if (json.is_number_unsigned()) {
    array.values.push_back(json.get<uint64_t>());
    return absl::OkStatus();
  }
  if (!json.is_number()) return Bad(where, absl::StrCat("is ", Named(json), ", no count"));
  const double value = std::nearbyint(json.get<double>());
  if (value < 0) return Bad(where, absl::StrCat("is negative: ", Named(json)));
  if (!(value < 0x1p64)) return Bad(where, absl::StrCat("is beyond 64 bits: ", Named(json)));
  array.values.push_back(static_cast<uint64_t>(value));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Json> ParseJson(std::string_view bytes) {
  Json json = Json::parse(bytes, nullptr, /*allow_exceptions=*/false);
  if (!json.is_discarded()) return json;
  ErrorFinder finder;
  Json::sax_parse(bytes, &finder);
  return absl::InvalidArgumentError(absl::StrCat("not JSON: ", finder.message()));
}

absl::Status CheckFields(const Json& json, const std::string& where, std::initializer_list<std::string_view> known) {
  if (!json.is_object()) return Bad(where, absl::StrCat("is ", Named(json), ", not an object"));
  for (const auto& [name, value] : json.items()) {
    if (std::ranges::find(known, std::string_view(name)) == known.end()) {
      return Bad(where, absl::StrCat("has an unknown field '", name, "'"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<int> IntegerField(const Json& object, const std::string& where, const char* name, int low, int high) {
  if (!object.is_object()) return Bad(where, absl::StrCat("is ", Named(object), ", not an object"));
  const auto found = object.find(name);
  if (found == object.end()) return Bad(where, absl::StrCat("has no ", name));
  if (!found->is_number_integer()) return Bad(Under(where, name), absl::StrCat("is ", Named(*found), ", no integer"));
  const bool fits = found->is_number_unsigned() ? found->get<uint64_t>() <= static_cast<uint64_t>(std::max(high, 0))
                                                : found->get<int64_t>() <= high;
  if (!fits || found->get<int64_t>() < low) {
    return Bad(Under(where, name), absl::StrCat("is ", Named(*found), "; it goes from ", low, " to ", high));
  }
  return found->get<int>();
}

absl::StatusOr<const Json*> ArrayField(const Json& object, const std::string& where, const char* name) {
  if (!object.is_object()) return Bad(where, absl::StrCat("is ", Named(object), ", not an object"));
  const auto found = object.find(name);
  if (found == object.end()) return Bad(where, absl::StrCat("has no ", name));
  if (!found->is_array()) return Bad(Under(where, name), absl::StrCat("is ", Named(*found), ", not a list"));
  return &*found;
}

absl::StatusOr<std::vector<int>> IntegersOf(const Json& array, const std::string& where, int low, int high) {
  if (!array.is_array()) return Bad(where, absl::StrCat("is ", Named(array), ", not a list"));
  std::vector<int> values;
  values.reserve(array.size());
  for (size_t i = 0; i < array.size(); ++i) {
    const Json& item = array[i];
    const bool fits = item.is_number_unsigned() ? item.get<uint64_t>() <= static_cast<uint64_t>(std::max(high, 0))
                                                : item.is_number_integer() && item.get<int64_t>() <= high;
    if (!fits || item.get<int64_t>() < low) {
      return Bad(absl::StrCat(where, "[", i, "]"),
                 absl::StrCat("is ", Named(item), "; wanted is an integer from ", low, " to ", high));
    }
    values.push_back(item.get<int>());
  }
  return values;
}

absl::StatusOr<NpyArray> CountsOf(const Json& json, const std::string& where) {
  NpyArray array;
  for (const Json* at = &json; at->is_array(); at = &at->front()) {
    array.shape.push_back(at->size());
    if (array.shape.size() > kDimensionsMax) return Bad(where, "is nested too deeply");
    if (at->empty()) break;
  }
  if (array.shape.empty()) return Bad(where, absl::StrCat("is ", Named(json), ", not a list of counts"));
  if (array.shape.back() == 0) return Bad(where, "has an empty list");
  EVENKEEL_RETURN_IF_ERROR(AppendCounts(json, where, 0, array));
  return array;
}

}  // namespace evenkeel::cli
