// SPDX-License-Identifier: Apache-2.0
//
// Token: a bearer's secret, and what is kept of it: SHA-256 of a salt and the token, never the token.
//
// Tokens are made here, of 256 random bits: so a plain hash cannot be searched, and none slower is needed.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace evenkeel::runtime {

// `size` bytes that nobody can guess.
std::string RandomBytes(size_t size);

// SHA-256, 32 bytes.
std::string Sha256(absl::string_view bytes);
// HMAC with SHA-256, 32 bytes.
std::string Hmac(absl::string_view key, absl::string_view bytes);
// Without telling by its time where they differ.
bool SameSecret(absl::string_view a, absl::string_view b);

// "ek_" and 43 characters that may stand in a header.
std::string NewToken();

// "sha256:SALT:HASH" in hexadecimal, with a new salt of 16 bytes.
std::string HashToken(absl::string_view token);

// What HashToken wrote.
struct TokenHash {
  std::string salt, hash;

  bool Fits(absl::string_view token) const;
};
absl::StatusOr<TokenHash> ParseTokenHash(absl::string_view text);

}  // namespace evenkeel::runtime
