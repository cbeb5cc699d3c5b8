// SPDX-License-Identifier: Apache-2.0
#include "runtime/token.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "algos/base/check.h"

namespace evenkeel::runtime {
namespace {

constexpr size_t kSaltBytes = 16;
constexpr size_t kHashBytes = 32;
constexpr size_t kTokenBytes = 32;

const unsigned char* Bytes(absl::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }
unsigned char* Bytes(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }

bool IsHex(absl::string_view text, size_t num_bytes) {
  return text.size() == 2 * num_bytes &&
         std::ranges::all_of(text, [](unsigned char c) { return absl::ascii_isxdigit(c); });
}

}  // namespace

std::string RandomBytes(size_t size) {
  std::string bytes(size, '\0');
  EVENKEEL_CHECK(RAND_bytes(Bytes(bytes), static_cast<int>(size)) == 1);
  return bytes;
}

std::string Sha256(absl::string_view bytes) {
  std::string hash(kHashBytes, '\0');
  EVENKEEL_CHECK(EVP_Digest(bytes.data(), bytes.size(), Bytes(hash), nullptr, EVP_sha256(), nullptr) == 1);
  return hash;
}

std::string Hmac(absl::string_view key, absl::string_view bytes) {
  std::string code(kHashBytes, '\0');
  unsigned int size = 0;
  EVENKEEL_CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), Bytes(bytes), bytes.size(), Bytes(code),
                      &size) != nullptr);
  return code;
}

bool SameSecret(absl::string_view a, absl::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string NewToken() { return absl::StrCat("ek_", absl::WebSafeBase64Escape(RandomBytes(kTokenBytes))); }

std::string HashToken(absl::string_view token) {
  const std::string salt = RandomBytes(kSaltBytes);
  return absl::StrCat("sha256:", absl::BytesToHexString(salt), ":",
                      absl::BytesToHexString(Sha256(absl::StrCat(salt, token))));
}

bool TokenHash::Fits(absl::string_view token) const { return SameSecret(hash, Sha256(absl::StrCat(salt, token))); }

absl::StatusOr<TokenHash> ParseTokenHash(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  if (parts.size() != 3 || parts[0] != "sha256" || !IsHex(parts[1], kSaltBytes) || !IsHex(parts[2], kHashBytes)) {
    return absl::InvalidArgumentError("no hash of a token: sha256:SALT:HASH wanted, as 'keelctl token new' prints it");
  }
  return TokenHash{absl::HexStringToBytes(parts[1]), absl::HexStringToBytes(parts[2])};
}

}  // namespace evenkeel::runtime
