// SPDX-License-Identifier: Apache-2.0
#include "runtime/read_pass.h"

#include "absl/strings/str_cat.h"

#include "runtime/token.h"

namespace evenkeel::runtime {
namespace {

constexpr size_t kRolloutBytes = 8;
constexpr size_t kPassBytes = kRolloutBytes + 32;

std::string Number(uint64_t value) {
  std::string bytes;
  for (int shift = 0; shift < 64; shift += 8) bytes.push_back(static_cast<char>(value >> shift & 255));
  return bytes;
}

}  // namespace

std::string PassSecret(absl::string_view offer_secret, uint64_t rollout, const PassReader& reader) {
  return Hmac(offer_secret, absl::StrCat("evenkeel read pass", Number(rollout),
                                         Number(static_cast<uint64_t>(reader.rank)), Number(reader.incarnation)));
}

std::string MakePass(absl::string_view offer_secret, uint64_t rollout, const PassReader& reader) {
  return offer_secret.empty() ? "" : absl::StrCat(Number(rollout), PassSecret(offer_secret, rollout, reader));
}

ReadPass ParsePass(absl::string_view pass) {
  if (pass.size() != kPassBytes) return {};
  ReadPass read;
  for (size_t i = 0; i < kRolloutBytes; ++i) read.rollout |= uint64_t{static_cast<unsigned char>(pass[i])} << (8 * i);
  read.secret = std::string(pass.substr(kRolloutBytes));
  return read;
}

}  // namespace evenkeel::runtime
