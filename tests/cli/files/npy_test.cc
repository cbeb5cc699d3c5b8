// SPDX-License-Identifier: Apache-2.0
#include "cli/files/npy.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

namespace evenkeel::cli {
namespace {

template <typename T>
std::string Bytes(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::string Npy(const std::string& header, const std::string& data, int version = 1) {
  std::string bytes("\x93NUMPY");
  bytes.push_back(static_cast<char>(version));
  bytes.push_back('\0');
  bytes.push_back(static_cast<char>(header.size() % 256));
  bytes.push_back(static_cast<char>(header.size() / 256));
  if (version > 1) bytes.append(2, '\0');
  return bytes + header + data;
}

std::string HeaderOf(const std::string& type, const std::string& shape) {
  return "{'descr': '" + type + "', 'fortran_order': False, 'shape': (" + shape + "), }          \n";
}

std::string MessageOf(const std::string& bytes) { return std::string(ParseNpy(bytes).status().message()); }

TEST_CASE("counts of every integer and floating type are read", "[npy]") {
  const std::vector<uint64_t> want = {1, 2, 100, 0, 7, 3};
  const auto check = [&](const std::string& type, const std::string& data) {
    CAPTURE(type);
    const auto array = ParseNpy(Npy(HeaderOf(type, "2, 3"), data));
    REQUIRE(array.status() == absl::OkStatus());
    CHECK(array->shape == std::vector<size_t>{2, 3});
    CHECK(array->values == want);
  };
  check("|u1", Bytes<uint8_t>({1, 2, 100, 0, 7, 3}));
  check("|i1", Bytes<int8_t>({1, 2, 100, 0, 7, 3}));
  check("<u2", Bytes<uint16_t>({1, 2, 100, 0, 7, 3}));
  check("<i2", Bytes<int16_t>({1, 2, 100, 0, 7, 3}));
  check("<u4", Bytes<uint32_t>({1, 2, 100, 0, 7, 3}));
  check("<i4", Bytes<int32_t>({1, 2, 100, 0, 7, 3}));
  check("<u8", Bytes<uint64_t>({1, 2, 100, 0, 7, 3}));
  check("<i8", Bytes<int64_t>({1, 2, 100, 0, 7, 3}));
  check("<f4", Bytes<float>({1, 2, 100, 0, 7, 3}));
  check("<f8", Bytes<double>({1.2, 1.9, 100, -0.0, 7, 3}));
}

TEST_CASE("version 2 headers and one-dimensional shapes are read", "[npy]") {
  const auto array = ParseNpy(Npy(HeaderOf("<u4", "3,"), Bytes<uint32_t>({7, 8, 4'000'000'000}), 2));
  REQUIRE(array.ok());
  CHECK(array->shape == std::vector<size_t>{3});
  CHECK(array->values == std::vector<uint64_t>{7, 8, 4'000'000'000});
}

TEST_CASE("what is no array of counts is refused with the reason", "[npy]") {
  CHECK(MessageOf("") == "npy: no NumPy file");
  CHECK(MessageOf("PK\x03\x04 some zip file") == "npy: no NumPy file");
  CHECK(MessageOf(Npy(HeaderOf("<u4", "1"), Bytes<uint32_t>({1}), 9)) == "npy: version 9 is unknown");
  CHECK(MessageOf(Npy(HeaderOf("<u4", "1"), "").substr(0, 30)) == "npy: cut off in its header");
  CHECK(MessageOf(Npy(HeaderOf(">u4", "1"), Bytes<uint32_t>({1}))) == "npy: values of type '>u4' cannot be read");
  CHECK(MessageOf(Npy(HeaderOf("<u4", "x"), Bytes<uint32_t>({1}))) == "npy: size 'x' is no number");
  CHECK(MessageOf(Npy("{'descr': '<u4', 'fortran_order': True, 'shape': (1,)}", Bytes<uint32_t>({1}))) ==
        "npy: values are in Fortran order");
  CHECK(MessageOf(Npy("{'descr': '<u4', 'shape': (1,)}", Bytes<uint32_t>({1}))) ==
        "npy: its header has no fortran_order");
  CHECK(MessageOf(Npy("{'descr': '<u4", "")) == "npy: descr has no end");
  CHECK(MessageOf(Npy(HeaderOf("<i4", "2"), Bytes<int32_t>({5, -1}))) == "npy: value [1] is negative");
  CHECK(MessageOf(Npy(HeaderOf("<f8", "1"), Bytes<double>({1e300}))) == "npy: value [0] is beyond 64 bits");
}

TEST_CASE("a shape that does not fit the data is refused, also one whose product overflows", "[npy]") {
  const std::string two = Bytes<uint32_t>({1, 2});
  for (const char* shape : {"3", "1", "0", "4294967296, 4294967296, 2", "18446744073709551615, 2", "30, 3, 0",
                            "4294967296, 4294967296, 0"}) {
    CAPTURE(shape);
    CHECK(MessageOf(Npy(HeaderOf("<u4", shape), two)).find("holds 8 bytes, which is not 4 for each") !=
          std::string::npos);
  }
  CHECK_FALSE(ParseNpy(Npy(HeaderOf("<u4", "2"), two + "x")).ok());
}

TEST_CASE("a file cut off anywhere is refused", "[npy]") {
  const std::string whole = Npy(HeaderOf("<u2", "2, 2"), Bytes<uint16_t>({1, 2, 3, 4}));
  REQUIRE(ParseNpy(whole).ok());
  for (size_t length = 0; length < whole.size(); ++length) CHECK_FALSE(ParseNpy(whole.substr(0, length)).ok());
}

TEST_CASE("what is no count is named with its place", "[npy]") {
  const auto message = [](double value) {
    return MessageOf(Npy(HeaderOf("<f8", "2, 1, 2"), Bytes<double>({1, 2, 3, value})));
  };
  CHECK(message(std::nan("")) == "npy: value [1, 0, 1] is NaN");
  CHECK(message(INFINITY) == "npy: value [1, 0, 1] is infinite");
  CHECK(message(-0.6) == "npy: value [1, 0, 1] is negative");
  CHECK(message(-0.4).empty());
  CHECK(MessageOf(Npy(HeaderOf("<u4", "1, 1, 1, 1, 1, 1, 1, 1, 1"), Bytes<uint32_t>({1}))) == "npy: has 9 dimensions");
}

TEST_CASE("what was written is read again, in 4 bytes a value where they do", "[npy]") {
  const NpyArray narrow{.shape = {2, 3}, .values = {0, 1, 2, 3, 4, UINT32_MAX}};
  const NpyArray wide{.shape = {1}, .values = {uint64_t{UINT32_MAX} + 1}};
  for (const NpyArray& array : {narrow, wide}) {
    const std::string bytes = RenderNpy(array);
    const auto read = ParseNpy(bytes);
    REQUIRE(read.status() == absl::OkStatus());
    CHECK(read->shape == array.shape);
    CHECK(read->values == array.values);
  }
  CHECK(RenderNpy(narrow).size() == 128 + 24);
  CHECK(RenderNpy(wide).size() == 128 + 8);
}

TEST_CASE("files are read, and errors name the file", "[npy]") {
  const std::string path =
      std::string(std::getenv("TEST_TMPDIR") != nullptr ? std::getenv("TEST_TMPDIR") : "/tmp") + "/npy_test.npy";
  std::ofstream(path, std::ios::binary) << Npy(HeaderOf("<u4", "1, 2"), Bytes<uint32_t>({5, 6}));
  const auto array = ReadNpy(path);
  REQUIRE(array.ok());
  CHECK(array->values == std::vector<uint64_t>{5, 6});
  std::ofstream(path, std::ios::binary) << "nothing";
  CHECK(ReadNpy(path).status().message() == path + ": npy: no NumPy file");
  std::remove(path.c_str());
  CHECK(ReadNpy(path).status().code() == absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace evenkeel::cli
