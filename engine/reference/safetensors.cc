// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/safetensors.h"

#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"

#include "algos/base/hash.h"
#include "algos/base/status_macros.h"

namespace evenkeel::engine {
namespace {

using Json = nlohmann::json;
using Tensor = Safetensors::Tensor;

constexpr uint64_t kHeaderBytesMax = uint64_t{64} << 20;
constexpr size_t kDimensionsMax = 8;

absl::Status Bad(absl::string_view what) { return absl::InvalidArgumentError(absl::StrCat("safetensors: ", what)); }

// The header as JSON; names given twice are an error, which JSON itself would let pass.
absl::StatusOr<Json> ParseHeader(absl::string_view text) {
  std::set<std::string> names;
  std::string twice;
  const Json::parser_callback_t watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::key && depth == 1) {
      if (!names.insert(value.get<std::string>()).second) twice = value.get<std::string>();
    }
    return true;
  };
  Json header = Json::parse(text.begin(), text.end(), watch, /*allow_exceptions=*/false);
  if (header.is_discarded()) return Bad("the header is not valid JSON");
  if (!header.is_object()) return Bad("the header is not a JSON object");
  if (!twice.empty()) return Bad(absl::StrCat("tensor ", twice, " is named twice"));
  return header;
}

absl::StatusOr<Tensor> ParseTensor(const std::string& name, const Json& entry, uint64_t data_bytes) {
  const auto bad = [&](absl::string_view what) { return Bad(absl::StrCat("tensor ", name, ": ", what)); };
  if (!entry.is_object()) return bad("not an object");
  const auto dtype = entry.find("dtype"), shape = entry.find("shape"), offsets = entry.find("data_offsets");
  if (dtype == entry.end() || !dtype->is_string()) return bad("no dtype");
  if (*dtype != "F16") return bad(absl::StrCat("dtype ", dtype->get<std::string>(), "; only F16 is read"));
  if (shape == entry.end() || !shape->is_array() || shape->size() > kDimensionsMax) return bad("no valid shape");
  Tensor tensor;
  uint64_t bytes = sizeof(uint16_t);
  for (const Json& size : *shape) {
    if (!size.is_number_unsigned()) return bad("a dimension is not a whole number");
    const uint64_t value = size.get<uint64_t>();
    if (value > static_cast<uint64_t>(std::numeric_limits<int32_t>::max()) ||
        (value > 0 && bytes > std::numeric_limits<uint64_t>::max() / value)) {
      return bad("the shape is too large");
    }
    bytes *= value;
    tensor.shape.push_back(static_cast<int64_t>(value));
  }
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2 || !(*offsets)[0].is_number_unsigned() ||
      !(*offsets)[1].is_number_unsigned()) {
    return bad("data_offsets are not two whole numbers");
  }
  tensor.begin = (*offsets)[0].get<uint64_t>();
  tensor.end = (*offsets)[1].get<uint64_t>();
  if (tensor.begin > tensor.end || tensor.end > data_bytes) {
    return bad(absl::StrCat("bytes ", tensor.begin, " to ", tensor.end, " of ", data_bytes));
  }
  if (tensor.end - tensor.begin != bytes) {
    return bad(absl::StrCat("has ", tensor.end - tensor.begin, " bytes; its shape needs ", bytes));
  }
  return tensor;
}

// Tensors lie side by side and fill the file.
absl::Status CheckCover(const absl::btree_map<std::string, Tensor>& tensors, uint64_t data_bytes) {
  absl::btree_map<std::pair<uint64_t, uint64_t>, const std::string*> by_offset;
  for (const auto& [name, tensor] : tensors) {
    const auto [other, added] = by_offset.insert({{tensor.begin, tensor.end}, &name});
    if (!added && tensor.begin != tensor.end) {
      return Bad(absl::StrCat("tensors ", *other->second, " and ", name, " overlap"));
    }
  }
  uint64_t at = 0;
  for (const auto& [range, name] : by_offset) {
    if (range.first < at) return Bad(absl::StrCat("tensor ", *name, " overlaps the one before it"));
    if (range.first > at) return Bad(absl::StrCat("a hole before tensor ", *name));
    at = range.second;
  }
  if (at != data_bytes) return Bad(absl::StrCat(data_bytes - at, " bytes after the last tensor"));
  return absl::OkStatus();
}

}  // namespace

float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1Fu;
  const uint32_t mantissa = half & 0x3FFu;
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1.0p-24f;
    return sign != 0 ? -value : value;
  }
  const uint32_t wide = exponent == 31 ? 0xFFu : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

absl::StatusOr<Safetensors> Safetensors::Parse(std::string bytes) {
  uint64_t header_bytes = 0;
  if (bytes.size() < sizeof(header_bytes)) return Bad(absl::StrCat("a file of ", bytes.size(), " bytes has no header"));
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  if (header_bytes > kHeaderBytesMax || header_bytes > bytes.size() - sizeof(header_bytes)) {
    return Bad(absl::StrCat("a header of ", header_bytes, " bytes in a file of ", bytes.size()));
  }
  Safetensors file;
  file.data_offset_ = sizeof(header_bytes) + header_bytes;
  const uint64_t data_bytes = bytes.size() - file.data_offset_;
  EVENKEEL_ASSIGN_OR_RETURN(const Json header,
                            ParseHeader(absl::string_view(bytes).substr(sizeof(header_bytes), header_bytes)));
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    EVENKEEL_ASSIGN_OR_RETURN(file.tensors_[name], ParseTensor(name, entry, data_bytes));
  }
  EVENKEEL_RETURN_IF_ERROR(CheckCover(file.tensors_, data_bytes));
  file.bytes_ = std::move(bytes);
  return file;
}

absl::StatusOr<Safetensors> Safetensors::ReadFile(const std::string& path) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rbe"), &std::fclose);
  if (file == nullptr) return absl::NotFoundError(absl::StrCat("open ", path, ": ", std::strerror(errno)));
  std::string bytes;
  std::vector<char> part(1 << 20);
  while (const size_t count = std::fread(part.data(), 1, part.size(), file.get())) bytes.append(part.data(), count);
  if (std::ferror(file.get()) != 0) return absl::UnavailableError(absl::StrCat("read ", path, " failed"));
  absl::StatusOr<Safetensors> parsed = Parse(std::move(bytes));
  if (!parsed.ok()) return Bad(absl::StrCat(path, ": ", parsed.status().message()));
  return parsed;
}

absl::StatusOr<std::vector<float>> Safetensors::Read(absl::string_view name, const std::vector<int64_t>& shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " is missing"));
  const Tensor& tensor = found->second;
  if (tensor.shape != shape) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " has shape [", absl::StrJoin(tensor.shape, ","),
                                                   "]; needed is [", absl::StrJoin(shape, ","), "]"));
  }
  std::vector<float> values((tensor.end - tensor.begin) / sizeof(uint16_t));
  const char* from = bytes_.data() + data_offset_ + tensor.begin;
  for (float& value : values) {
    uint16_t half;
    std::memcpy(&half, from, sizeof(half));
    value = HalfToFloat(half);
    from += sizeof(half);
  }
  return values;
}

uint64_t Safetensors::digest() const {
  Digest digest;
  digest.Add(bytes_.size());
  uint64_t word = 0;
  for (size_t at = 0; at < bytes_.size(); at += sizeof(word)) {
    word = 0;
    std::memcpy(&word, bytes_.data() + at, std::min(sizeof(word), bytes_.size() - at));
    digest.Add(word);
  }
  return digest.value();
}

}  // namespace evenkeel::engine
