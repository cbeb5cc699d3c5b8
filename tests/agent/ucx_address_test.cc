// SPDX-License-Identifier: Apache-2.0
#include "agent/ucx_address.h"

#include <string>

#include "absl/strings/escaping.h"
#include "catch2/catch.hpp"

#include "algos/base/rng.h"

namespace evenkeel::agent {
namespace {

UcxAddress Example() {
  UcxAddress address;
  address.member = {RankId(3), 0xFEDCBA9876543210u};
  address.ucx_version = 1 << 16 | 13;
  address.worker = std::string("worker\0address", 14);
  address.memory_bytes = 100'000;
  address.table.slots_per_rank = 3;
  address.table.layers = {{{0, 1024, 1000}, {4096, 16, 16}}, {{50'000, 25'000, 0}}};
  return address;
}

}  // namespace

TEST_CASE("an address comes back as it was written", "[ucx]") {
  CHECK(DecodeUcxAddress(EncodeUcxAddress(Example())).value() == Example());
}

TEST_CASE("a cut or changed address is refused wherever that happened", "[ucx]") {
  const std::string text = EncodeUcxAddress(Example());
  std::string bytes;
  REQUIRE(absl::Base64Unescape(text, &bytes));
  for (size_t at = 0; at < bytes.size(); ++at) {
    CAPTURE(at);
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ 4);
    CHECK(absl::IsFailedPrecondition(DecodeUcxAddress(absl::Base64Escape(changed)).status()));
    CHECK(absl::IsFailedPrecondition(DecodeUcxAddress(absl::Base64Escape(bytes.substr(0, at))).status()));
  }
  CHECK(absl::IsFailedPrecondition(DecodeUcxAddress(text + "AAAA").status()));
  CHECK(absl::IsFailedPrecondition(DecodeUcxAddress("/dev/shm/evenkeel.g.0.1").status()));
  CHECK(absl::IsFailedPrecondition(DecodeUcxAddress("").status()));
}

TEST_CASE("tensors outside the memory are refused", "[ucx]") {
  const TensorPlace bad =
      GENERATE(TensorPlace{99'001, 0, 1000}, TensorPlace{0, 50'000, 1}, TensorPlace{UINT64_MAX, 1, 1},
               TensorPlace{0, UINT64_MAX, 1}, TensorPlace{8, 8, UINT64_MAX});
  UcxAddress address = Example();
  address.table.layers[1][0] = bad;
  CHECK(absl::IsFailedPrecondition(DecodeUcxAddress(EncodeUcxAddress(address)).status()));
}

TEST_CASE("random bytes are never an address", "[ucx]") {
  const uint64_t seed = static_cast<uint64_t>(GENERATE(range(0, 50)));
  CAPTURE(seed);
  Rng rng(seed);
  std::string bytes;
  for (uint64_t n = rng.Below(300); n > 0; --n) bytes.push_back(static_cast<char>(rng.Next()));
  CHECK_FALSE(DecodeUcxAddress(absl::Base64Escape(bytes)).ok());
}

}  // namespace evenkeel::agent
