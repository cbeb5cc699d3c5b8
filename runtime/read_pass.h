// SPDX-License-Identifier: Apache-2.0
//
// ReadPass: what an agent must know to read another's weights over the network.
//
// Who offers weights makes a secret of its own and tells it to the controller alone, with its endpoint. For each rollout's
// epoch and each reader the controller makes a pass of that: the reader is told the pass, never the secret, and the one that
// offers makes the same pass again to see that the reader has it. Without it none is made, whoever asks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace evenkeel::runtime {

inline constexpr size_t kOfferSecretBytes = 32;

// Who reads: a member.
struct PassReader {
  int32_t rank = -1;
  uint64_t incarnation = 0;
};

// 32 bytes, of HMAC-SHA-256. `rollout`: the epoch at which the slot to be filled was retired, as one number.
std::string PassSecret(absl::string_view offer_secret, uint64_t rollout, const PassReader& reader);

// A pass as it travels: the rollout in 8 bytes, then its secret. Empty where the offer has no secret.
std::string MakePass(absl::string_view offer_secret, uint64_t rollout, const PassReader& reader);

struct ReadPass {
  uint64_t rollout = 0;
  std::string secret;
};
// No secret: it is no pass.
ReadPass ParsePass(absl::string_view pass);

}  // namespace evenkeel::runtime
