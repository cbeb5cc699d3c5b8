// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/safetensors.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

namespace evenkeel::engine {
namespace {

std::string File(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof(length));
  bytes += header;
  bytes.append(data_bytes, '\0');
  return bytes;
}

std::string Error(const std::string& header, size_t data_bytes) {
  const auto result = Safetensors::Parse(File(header, data_bytes));
  return result.ok() ? "no error" : std::string(result.status().message());
}

TEST_CASE("half precision widens exactly", "[safetensors]") {
  CHECK(HalfToFloat(0x3C00) == 1.0f);
  CHECK(HalfToFloat(0xC000) == -2.0f);
  CHECK(HalfToFloat(0x3555) == 0.333251953125f);
  CHECK(HalfToFloat(0x0001) == 0x1.0p-24f);
  CHECK(HalfToFloat(0x83FF) == -0x1.ff8p-15f);
  CHECK(HalfToFloat(0x7BFF) == 65504.0f);
  CHECK(std::signbit(HalfToFloat(0x8000)));
  CHECK(std::isinf(HalfToFloat(0x7C00)));
  CHECK(std::isnan(HalfToFloat(0x7E00)));
}

TEST_CASE("tensors are read by name with the shape that the caller needs", "[safetensors]") {
  std::string bytes = File(
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[2],"data_offsets":[4,8]},"a":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]}})",
      8);
  const uint16_t values[] = {0x3C00, 0x4000, 0x4200, 0x4400};
  std::memcpy(bytes.data() + bytes.size() - 8, values, 8);
  const auto file = Safetensors::Parse(bytes);
  REQUIRE(file.ok());
  CHECK(file->tensors().size() == 2);
  CHECK(file->Read("a", {2, 1}).value() == std::vector<float>{1, 2});
  CHECK(file->Read("b", {2}).value() == std::vector<float>{3, 4});
  CHECK_THAT(std::string(file->Read("a", {2}).status().message()), Catch::Contains("a has shape [2,1]"));
  CHECK_THAT(std::string(file->Read("c", {2}).status().message()), Catch::Contains("c is missing"));
  std::string changed = bytes;
  changed.back() ^= 1;
  CHECK(Safetensors::Parse(changed)->digest() != file->digest());
}

TEST_CASE("a file that is not exactly right is refused, and the error says why", "[safetensors]") {
  using Catch::Contains;
  CHECK_THAT(std::string(Safetensors::Parse("1234567").status().message()), Contains("has no header"));
  std::string cut = File("{}", 0);
  cut.pop_back();
  CHECK_THAT(std::string(Safetensors::Parse(cut).status().message()), Contains("a header of 2 bytes"));
  const uint64_t huge = ~uint64_t{0};
  CHECK_THAT(std::string(Safetensors::Parse(std::string(reinterpret_cast<const char*>(&huge), 8)).status().message()),
             Contains("a header of 18446744073709551615 bytes"));
  CHECK_THAT(Error("{", 0), Contains("not valid JSON"));
  CHECK_THAT(Error("[]", 0), Contains("not a JSON object"));
  CHECK_THAT(Error(R"({"a":3})", 0), Contains("a: not an object"));
  CHECK_THAT(Error(R"({"a":{"shape":[1],"data_offsets":[0,2]}})", 2), Contains("no dtype"));
  CHECK_THAT(Error(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4), Contains("only F16"));
  CHECK_THAT(Error(R"({"a":{"dtype":"F16","data_offsets":[0,2]}})", 2), Contains("no valid shape"));
  CHECK_THAT(Error(R"({"a":{"dtype":"F16","shape":[-1],"data_offsets":[0,2]}})", 2), Contains("dimension"));
  CHECK_THAT(Error(R"({"a":{"dtype":"F16","shape":[1.5],"data_offsets":[0,2]}})", 2), Contains("dimension"));
  CHECK_THAT(Error(R"({"a":{"dtype":"F16","shape":[4294967296],"data_offsets":[0,2]}})", 2), Contains("too large"));
  CHECK_THAT(Error(R"({"a":{"dtype":"F16","shape":[2147483647,2147483647,2147483647],"data_offsets":[0,2]}})", 2),
             Contains("too large"));
  CHECK_THAT(Error(R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[0]}})", 2), Contains("data_offsets"));
  CHECK_THAT(Error(R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[2,0]}})", 2), Contains("bytes 2 to 0 of 2"));
  CHECK_THAT(Error(R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})", 2), Contains("bytes 0 to 4 of 2"));
  CHECK_THAT(Error(R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,2]}})", 2), Contains("its shape needs 4"));
  CHECK_THAT(
      Error(
          R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})",
          2),
      Contains("a is named twice"));
  CHECK_THAT(
      Error(
          R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"F16","shape":[2],"data_offsets":[2,6]}})",
          6),
      Contains("b overlaps"));
  CHECK_THAT(
      Error(
          R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})",
          2),
      Contains("overlap"));
  CHECK_THAT(Error(R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[2,4]}})", 4), Contains("a hole before tensor a"));
  CHECK_THAT(Error(R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})", 4), Contains("2 bytes after the last"));
  CHECK(Safetensors::ReadFile("/nonexistent").status().code() == absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace evenkeel::engine
