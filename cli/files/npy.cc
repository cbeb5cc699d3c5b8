// SPDX-License-Identifier: Apache-2.0
#include "cli/files/npy.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "algos/base/check.h"
#include "algos/base/status_macros.h"
#include "cli/files/file.h"

namespace evenkeel::cli {

namespace {

static_assert(std::endian::native == std::endian::little);

constexpr size_t kDimensionsMax = 8;
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
  if (shape.size() > kDimensionsMax) return NotNpy(absl::StrCat("has ", shape.size(), " dimensions"));
  return shape;
}

// Bytes of a value, and how it is read: into `value`, or the answer is what is wrong with it.
struct Reader {
  size_t size = 0;
  const char* (*read)(const char* at, uint64_t& value) = nullptr;
};

template <typename T>
const char* ReadAs(const char* at, uint64_t& value) {
  T raw{};
  std::memcpy(&raw, at, sizeof raw);
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(raw)) return "is NaN";
    const double rounded = std::nearbyint(static_cast<double>(raw));
    if (rounded < 0) return "is negative";
    if (!(rounded < 0x1p64)) return std::isinf(raw) ? "is infinite" : "is beyond 64 bits";
    value = static_cast<uint64_t>(rounded);
  } else {
    if (std::is_signed_v<T> && raw < T{0}) return "is negative";
    value = static_cast<uint64_t>(raw);
  }
  return nullptr;
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
  const bool is_empty = std::ranges::find(array.shape, size_t{0}) != array.shape.end();
  size_t product = is_empty ? 0 : 1;
  bool fits = parts.data.size() % reader.size == 0;
  for (size_t size : array.shape) {
    if (!is_empty && product > num_values / size) fits = false;
    product = fits ? product * size : product;
  }
  if (!fits || product != num_values) {
    return NotNpy(absl::StrCat("holds ", parts.data.size(), " bytes, which is not ", reader.size,
                               " for each value of shape (", std::string(shape), ")"));
  }
  array.values.resize(num_values);
  for (size_t i = 0; i < num_values; ++i) {
    const char* wrong = reader.read(parts.data.data() + i * reader.size, array.values[i]);
    if (wrong != nullptr) return NotNpy(absl::StrCat("value ", PlaceText(array.shape, i), " ", wrong));
  }
  return array;
}

absl::StatusOr<NpyArray> ReadNpy(const std::string& path) {
  EVENKEEL_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kNpyBytesMax));
  return InFile(path, ParseNpy(bytes));
}

std::string RenderNpy(const NpyArray& array) {
  const bool wide = std::ranges::any_of(array.values, [](uint64_t v) { return v > UINT32_MAX; });
  std::string shape;
  for (size_t size : array.shape) absl::StrAppend(&shape, size, ", ");
  if (array.shape.size() > 1) shape.resize(shape.size() - 2);
  std::string header =
      absl::StrCat("{'descr': '", wide ? "<u8" : "<u4", "', 'fortran_order': False, 'shape': (", shape, "), }");
  constexpr size_t kPrefix = 10, kAlignment = 64;  // magic, version and length; where NumPy lets data begin
  header.append(kAlignment - (kPrefix + header.size() + 1) % kAlignment, ' ').push_back('\n');
  std::string bytes(kMagic);
  bytes.append({'\1', '\0', static_cast<char>(header.size() % 256), static_cast<char>(header.size() / 256)});
  bytes.append(header);
  const size_t width = wide ? 8 : 4;
  const size_t begin = bytes.size();
  bytes.resize(begin + width * array.values.size());
  for (size_t i = 0; i < array.values.size(); ++i) {
    std::memcpy(bytes.data() + begin + width * i, &array.values[i], width);
  }
  return bytes;
}

std::string PlaceText(const std::vector<size_t>& shape, size_t flat) {
  std::string text;
  for (size_t dim = shape.size(); dim-- > 0;) {
    EVENKEEL_CHECK(shape[dim] > 0);
    text = absl::StrCat(flat % shape[dim], text.empty() ? "" : ", ", text);
    flat /= shape[dim];
  }
  return absl::StrCat("[", text, "]");
}

}  // namespace evenkeel::cli
