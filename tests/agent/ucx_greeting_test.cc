// SPDX-License-Identifier: Apache-2.0
#include "agent/ucx_greeting.h"

#include <string>

#include "catch2/catch.hpp"

namespace evenkeel::agent {
namespace {

const std::string kSecret(32, 's');
const Member kReader{RankId(3), 0xABCDEF};
const UcxGrant kGrant{"a packed key, long enough to need more than one block", 0x7F0000001000u};

runtime::ReadPass PassOf(const std::string& secret, uint64_t rollout, const Member& reader) {
  return runtime::ParsePass(runtime::MakePass(secret, rollout, {reader.rank.value(), reader.incarnation}));
}

TEST_CASE("who has the pass is granted key and place, which others cannot see", "[ucx_greeting]") {
  const runtime::ReadPass pass = PassOf(kSecret, 9, kReader);
  CHECK(pass.rollout == 9);
  const auto answer = AnswerHello(MakeHello(pass, 42, kReader), kSecret, kGrant);
  REQUIRE(answer.has_value());
  CHECK(answer->granted);
  CHECK(answer->reader == kReader);
  CHECK(answer->rollout == 9);
  CHECK(NonceOf(answer->bytes) == 42);
  CHECK(ReadAnswer(answer->bytes, pass) == kGrant);
  CHECK(answer->bytes.find("key") == std::string::npos);
  const auto again = AnswerHello(MakeHello(pass, 43, kReader), kSecret, kGrant);
  CHECK(again->bytes.substr(8, 16) != answer->bytes.substr(8, 16));
}

TEST_CASE("a pass of another secret, reader or rollout is none", "[ucx_greeting]") {
  const auto granted = [](const runtime::ReadPass& pass, const Member& reader, const std::string& secret) {
    return AnswerHello(MakeHello(pass, 42, reader), secret, kGrant)->granted;
  };
  const Member other{RankId(4), kReader.incarnation}, later{kReader.rank, kReader.incarnation + 1};
  const runtime::ReadPass pass = PassOf(kSecret, 9, kReader);
  CHECK(granted(pass, kReader, kSecret));
  CHECK_FALSE(granted(pass, other, kSecret));
  CHECK_FALSE(granted(pass, later, kSecret));
  CHECK_FALSE(granted(pass, kReader, std::string(32, 't')));
  CHECK_FALSE(granted(pass, kReader, ""));
  runtime::ReadPass moved = pass;
  moved.rollout = 10;
  CHECK_FALSE(granted(moved, kReader, kSecret));
  CHECK(runtime::MakePass("", 9, {3, 1}).empty());
}

TEST_CASE("a hello or an answer of which any bit is changed, or that is cut, is refused", "[ucx_greeting]") {
  const runtime::ReadPass pass = PassOf(kSecret, 9, kReader);
  const std::string hello = MakeHello(pass, 42, kReader), answer = AnswerHello(hello, kSecret, kGrant)->bytes;
  for (size_t at = 0; at < hello.size(); ++at) {
    std::string changed = hello;
    changed[at] = static_cast<char>(changed[at] ^ (1 << at % 8));
    CAPTURE(at);
    CHECK_FALSE(AnswerHello(changed, kSecret, kGrant)->granted);
    CHECK_FALSE(AnswerHello(hello.substr(0, at), kSecret, kGrant).has_value());
  }
  for (size_t at = 0; at < answer.size(); ++at) {
    std::string changed = answer;
    changed[at] = static_cast<char>(changed[at] ^ (1 << at % 8));
    CAPTURE(at);
    CHECK_FALSE(ReadAnswer(changed, pass).has_value());
    CHECK_FALSE(ReadAnswer(answer.substr(0, at), pass).has_value());
  }
  CHECK_FALSE(ReadAnswer(answer, PassOf(kSecret, 9, {RankId(4), 1})).has_value());
  CHECK_FALSE(ReadAnswer(answer, runtime::ReadPass()).has_value());
}

}  // namespace
}  // namespace evenkeel::agent
