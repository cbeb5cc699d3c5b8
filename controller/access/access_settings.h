// SPDX-License-Identifier: Apache-2.0
//
// AccessSettings: who may call, and how much, as configured.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "controller/access/access.h"
#include "runtime/token.h"

namespace evenkeel::controller {

struct TokenSettings {
  std::string name;
  Grant grant;
  runtime::TokenHash hash;
};

struct AccessSettings {
  std::string authorities;                 // file: of those whose certificates are trusted; empty: none
  std::vector<TokenSettings> tokens;       // names differ
  bool trust_network = false;              // serve beyond loopback without TLS, or without telling callers apart
  uint32_t calls_per_second_max = 10'000;  // of each caller, and as many at once; 0: no limit
  size_t message_bytes_max = 64 << 20;
  int agents_max = 16'384;
  int watches_max = 1'024;

  bool tells_apart() const { return !authorities.empty() || !tokens.empty(); }
};

}  // namespace evenkeel::controller
