// SPDX-License-Identifier: Apache-2.0
#include "runtime/token.h"

#include <string>

#include "absl/strings/escaping.h"
#include "catch2/catch.hpp"

namespace evenkeel::runtime {
namespace {

TEST_CASE("a hash fits its token alone, and no two hashes are alike", "[token]") {
  const std::string token = NewToken();
  CHECK(token.size() == 46);
  CHECK(NewToken() != token);
  const std::string hash = HashToken(token);
  CHECK(hash.find(token) == std::string::npos);
  CHECK(HashToken(token) != hash);
  const auto read = ParseTokenHash(hash);
  REQUIRE(read.ok());
  CHECK(read->Fits(token));
  CHECK_FALSE(read->Fits(token.substr(1)));
  CHECK_FALSE(read->Fits(""));
}

TEST_CASE("what is no hash of a token is refused", "[token]") {
  const std::string hash = HashToken("ek_x");
  const std::string text =
      GENERATE_COPY(as<std::string>(), "", "sha256", "sha256::", hash + "0", hash + ":1", hash.substr(1),
                    "sha512" + hash.substr(6), hash.substr(0, hash.size() - 1) + "g");
  CAPTURE(text);
  CHECK_FALSE(ParseTokenHash(text).ok());
}

TEST_CASE("digests are those of the standards", "[token]") {
  CHECK(absl::BytesToHexString(Sha256("abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  // RFC 4231, case 2.
  CHECK(absl::BytesToHexString(Hmac("Jefe", "what do ya want for nothing?")) ==
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  CHECK(SameSecret("ab", "ab"));
  CHECK_FALSE(SameSecret("ab", "ac"));
  CHECK_FALSE(SameSecret("ab", "abc"));
}

}  // namespace
}  // namespace evenkeel::runtime
