// SPDX-License-Identifier: Apache-2.0
#include "agent/ucx_greeting.h"

#include "absl/strings/str_cat.h"

#include "runtime/token.h"

namespace evenkeel::agent {
namespace {

constexpr size_t kNumberBytes = 8;
constexpr size_t kProofBytes = 32;
constexpr size_t kHelloBytes = 4 * kNumberBytes + kProofBytes;
constexpr size_t kKeyBytesMax = 64 * 1024;

std::string Number(uint64_t value) {
  std::string bytes;
  for (int shift = 0; shift < 64; shift += 8) bytes.push_back(static_cast<char>(value >> shift & 255));
  return bytes;
}

uint64_t NumberAt(absl::string_view bytes, size_t at) {
  uint64_t value = 0;
  for (size_t i = 0; i < kNumberBytes; ++i) value |= uint64_t{static_cast<unsigned char>(bytes[at + i])} << (8 * i);
  return value;
}

std::string Proof(absl::string_view secret, absl::string_view what, absl::string_view bytes) {
  return runtime::Hmac(secret, absl::StrCat(what, bytes));
}

// The same twice gives the text again. Each nonce is used for one answer.
std::string Hidden(absl::string_view text, absl::string_view secret, uint64_t nonce) {
  std::string hidden;
  std::string stream;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i % kProofBytes == 0) {
      stream = Proof(secret, "evenkeel stream", absl::StrCat(Number(nonce), Number(i / kProofBytes)));
    }
    hidden.push_back(static_cast<char>(text[i] ^ stream[i % kProofBytes]));
  }
  return hidden;
}

}  // namespace

std::string MakeHello(const runtime::ReadPass& pass, uint64_t nonce, const Member& reader) {
  const std::string said = absl::StrCat(Number(nonce), Number(pass.rollout),
                                        Number(static_cast<uint64_t>(reader.rank.value())), Number(reader.incarnation));
  return absl::StrCat(said, Proof(pass.secret, "evenkeel hello", said));
}

std::optional<UcxAnswer> AnswerHello(absl::string_view hello, absl::string_view offer_secret, const UcxGrant& grant) {
  if (hello.size() != kHelloBytes) return std::nullopt;
  const absl::string_view said = hello.substr(0, kHelloBytes - kProofBytes);
  UcxAnswer answer;
  const uint64_t nonce = NumberAt(said, 0), rank = NumberAt(said, 2 * kNumberBytes);
  answer.rollout = NumberAt(said, kNumberBytes);
  answer.reader = {RankId(static_cast<int32_t>(rank & 0x7FFFFFFF)), NumberAt(said, 3 * kNumberBytes)};
  answer.bytes = Number(nonce);
  if (offer_secret.empty() || rank > 0x7FFFFFFF) return answer;
  const std::string secret =
      runtime::PassSecret(offer_secret, answer.rollout, {answer.reader.rank.value(), answer.reader.incarnation});
  if (!runtime::SameSecret(hello.substr(said.size()), Proof(secret, "evenkeel hello", said))) return answer;
  answer.granted = true;
  answer.bytes += Hidden(absl::StrCat(Number(grant.memory_begin), grant.key), secret, nonce);
  answer.bytes += Proof(secret, "evenkeel grant", answer.bytes);
  return answer;
}

uint64_t NonceOf(absl::string_view answer) { return answer.size() < kNumberBytes ? 0 : NumberAt(answer, 0); }

std::optional<UcxGrant> ReadAnswer(absl::string_view answer, const runtime::ReadPass& pass) {
  if (answer.size() < 2 * kNumberBytes + kProofBytes || answer.size() > kKeyBytesMax || pass.secret.empty()) {
    return std::nullopt;
  }
  const absl::string_view said = answer.substr(0, answer.size() - kProofBytes);
  if (!runtime::SameSecret(answer.substr(said.size()), Proof(pass.secret, "evenkeel grant", said))) return std::nullopt;
  const std::string plain = Hidden(said.substr(kNumberBytes), pass.secret, NumberAt(said, 0));
  return UcxGrant{plain.substr(kNumberBytes), NumberAt(plain, 0)};
}

}  // namespace evenkeel::agent
