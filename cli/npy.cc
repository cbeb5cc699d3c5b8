// SPDX-License-Identifier: Apache-2.0
#include "cli/npy.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "algos/base/status_macros.h"

namespace evenkeel::cli {

namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic("\x93NUMPY", 6);

absl::Status NotNpy(std::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("npy: ", std::string(why)));
}

struct Parts {
  std::string_view header;  // the dictionary
  std::string_view data;
};

absl::StatusOr<Parts> Split(std::string_view bytes) {
  if (bytes.size() < 12 || bytes.substr(0, 6) != kMagic) return NotNpy("no NumPy file");
  const int version = static_cast<unsigned char>(bytes[6]);
  if (version < 1 || version > 3) return NotNpy(absl::StrCat("version ", version, " is unknown"));
  uint32_t length = 0;
  const size_t length_bytes = version == 1 ? 2 : 4;
  std::memcpy(&length, bytes.data() + 8, length_bytes);
  const size_t begin = 8 + length_bytes;
  if (bytes.size() - begin < length) return NotNpy("cut off in its header");
  return Parts{bytes.substr(begin, length), bytes.substr(begin + length)};
}

// The text of `key` in the header's dictionary, up to its end: a quoted word, a tuple in parentheses, or a word.
absl::StatusOr<std::string_view> FieldOf(std::string_view header, std::string_view key) {
  const size_t at = header.find(absl::StrCat("'", std::string(key), "':"));
  if (at == std::string_view::npos) return NotNpy(absl::StrCat("its header has no ", std::string(key)));
  std::string_view rest = header.substr(at + key.size() + 3);
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  const char first = rest.empty() ? '\0' : rest.front();
  if (first == '\'' || first == '(') {
    rest.remove_prefix(1);
    const size_t end = rest.find(first == '(' ? ')' : '\'');
    if (end == std::string_view::npos) return NotNpy(absl::StrCat(std::string(key), " has no end"));
    return rest.substr(0, end);
  }
  return rest.substr(0, rest.find_first_of(" ,}"));
}

absl::StatusOr<std::vector<size_t>> ShapeOf(std::string_view text) {
  std::vector<size_t> shape;
  for (absl::string_view piece : absl::StrSplit(absl::string_view(text.data(), text.size()), ',')) {
    piece = absl::StripAsciiWhitespace(piece);
    if (piece.empty()) continue;
    uint64_t size = 0;
    if (!absl::SimpleAtoi(piece, &size)) return NotNpy(absl::StrCat("size '", piece, "' is no number"));
    shape.push_back(size);
  }
  return shape;
}

// Bytes of a value, and how they are read; none for a value that is no count.
struct Reader {
  size_t size = 0;
  std::optional<uint64_t> (*read)(const char* at) = nullptr;
};

template <typename T>
std::optional<uint64_t> ReadAs(const char* at) {
  T value{};
  std::memcpy(&value, at, sizeof value);
  if constexpr (std::is_floating_point_v<T>) {
    const double rounded = std::nearbyint(static_cast<double>(value));
    if (!(rounded >= 0 && rounded < 0x1p64)) return std::nullopt;
    return static_cast<uint64_t>(rounded);
  } else {
    if (std::is_signed_v<T> && value < T{0}) return std::nullopt;
    return static_cast<uint64_t>(value);
  }
}

template <typename T>
constexpr Reader ReaderFor() {
  return {sizeof(T), ReadAs<T>};
}

absl::StatusOr<Reader> ReaderOf(std::string_view type) {
  constexpr std::pair<std::string_view, Reader> kReaders[] = {
      {"|u1", ReaderFor<uint8_t>()},  {"|i1", ReaderFor<int8_t>()},   {"<u2", ReaderFor<uint16_t>()},
      {"<i2", ReaderFor<int16_t>()},  {"<u4", ReaderFor<uint32_t>()}, {"<i4", ReaderFor<int32_t>()},
      {"<u8", ReaderFor<uint64_t>()}, {"<i8", ReaderFor<int64_t>()},  {"<f4", ReaderFor<float>()},
      {"<f8", ReaderFor<double>()},
  };
  for (const auto& [name, reader] : kReaders) {
    if (name == type) return reader;
  }
  return NotNpy(absl::StrCat("values of type '", std::string(type), "' cannot be read"));
}

}  // namespace

absl::StatusOr<NpyArray> ParseNpy(std::string_view bytes) {
  EVENKEEL_ASSIGN_OR_RETURN(const Parts parts, Split(bytes));
  EVENKEEL_ASSIGN_OR_RETURN(const std::string_view type, FieldOf(parts.header, "descr"));
  EVENKEEL_ASSIGN_OR_RETURN(const std::string_view fortran, FieldOf(parts.header, "fortran_order"));
  EVENKEEL_ASSIGN_OR_RETURN(const std::string_view shape, FieldOf(parts.header, "shape"));
  EVENKEEL_ASSIGN_OR_RETURN(const Reader reader, ReaderOf(type));
  if (fortran != "False") return NotNpy("values are in Fortran order");
  NpyArray array;
  EVENKEEL_ASSIGN_OR_RETURN(array.shape, ShapeOf(shape));
  // Sizes come from the file: the product is bounded by what the file holds before it is used.
  const size_t num_values = parts.data.size() / reader.size;
  size_t product = 1;
  bool fits = parts.data.size() % reader.size == 0;
  for (size_t size : array.shape) {
    if (size != 0 && product > num_values / size) fits = false;
    product = fits ? product * size : product;
  }
  if (!fits || product != num_values) {
    return NotNpy(absl::StrCat("holds ", parts.data.size(), " bytes, which is not ", reader.size,
                               " for each value of shape (", std::string(shape), ")"));
  }
  array.values.reserve(num_values);
  for (size_t i = 0; i < num_values; ++i) {
    const std::optional<uint64_t> value = reader.read(parts.data.data() + i * reader.size);
    if (!value) return NotNpy(absl::StrCat("value ", i, " is no count"));
    array.values.push_back(*value);
  }
  return array;
}

absl::StatusOr<NpyArray> ReadNpy(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("open ", path, ": no such file, or no permission"));
  std::ostringstream bytes;
  bytes << file.rdbuf();
  if (file.bad() || bytes.bad()) return absl::UnavailableError(absl::StrCat("read ", path, ": failed"));
  absl::StatusOr<NpyArray> array = ParseNpy(bytes.str());
  if (!array.ok()) return absl::Status(array.status().code(), absl::StrCat(path, ": ", array.status().message()));
  return array;
}

absl::StatusOr<std::vector<algos::Load>> LoadsOf(const NpyArray& array) {
  const size_t dims = array.shape.size();
  if (dims != 2 && dims != 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("loads: an array of ", dims, " dimensions; [layers, experts] or [windows, layers, experts]"));
  }
  const size_t num_windows = dims == 3 ? array.shape[0] : 1;
  const size_t num_layers = array.shape[dims - 2], num_experts = array.shape[dims - 1];
  constexpr size_t kCountMax = std::numeric_limits<int>::max();
  if (num_layers == 0 || num_experts == 0 || num_layers > kCountMax || num_experts > kCountMax) {
    return absl::InvalidArgumentError(absl::StrCat("loads: ", num_layers, " layers x ", num_experts, " experts"));
  }
  std::vector<algos::Load> loads;
  const size_t cells = num_layers * num_experts;
  for (size_t window = 0; window < num_windows; ++window) {
    const auto begin = array.values.begin() + static_cast<std::ptrdiff_t>(window * cells);
    algos::Load load{.num_layers = static_cast<int>(num_layers), .num_experts = static_cast<int>(num_experts)};
    load.tokens.assign(begin, begin + static_cast<std::ptrdiff_t>(cells));
    loads.push_back(std::move(load));
  }
  return loads;
}

}  // namespace evenkeel::cli
