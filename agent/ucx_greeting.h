// SPDX-License-Identifier: Apache-2.0
//
// UcxGreeting: what agents say to each other before one reads the other's weights by UCX.
//
// The reader says who it is, for which rollout it reads, and proves that it has the pass for it. The one that is read
// proves the same and tells the key and place of its memory, hidden from those without the pass. Pure: no UCX here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

#include "algos/protocol/identity.h"
#include "runtime/read_pass.h"

namespace evenkeel::agent {

// What a reader needs beside the address.
struct UcxGrant {
  std::string key;  // of ucp_rkey_pack
  uint64_t memory_begin = 0;

  friend bool operator==(const UcxGrant&, const UcxGrant&) = default;
};

// `nonce`: names the greeting, never used twice by a reader.
std::string MakeHello(const runtime::ReadPass& pass, uint64_t nonce, const Member& reader);

// The answer to a hello: a grant where its sender has a pass made of `offer_secret`, else a refusal. Nothing: it is no hello.
struct UcxAnswer {
  bool granted = false;
  std::string bytes;
  uint64_t rollout = 0;
  Member reader;  // as it says of itself
};
std::optional<UcxAnswer> AnswerHello(absl::string_view hello, absl::string_view offer_secret, const UcxGrant& grant);

// The nonce of the hello that this answers; 0: it is no answer.
uint64_t NonceOf(absl::string_view answer);
// Nothing: it is refused, or from one that does not have the pass either.
std::optional<UcxGrant> ReadAnswer(absl::string_view answer, const runtime::ReadPass& pass);

}  // namespace evenkeel::agent
