// SPDX-License-Identifier: Apache-2.0
//
// WindowSpan: what is known of a window of load beside its tokens per expert: a plain value.
#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace evenkeel::algos {

// Which tokens are meant: all of them, or those that engines tagged with a phase.
enum class LoadPhase { kAll, kPrefill, kDecode };

// A closed window beside its loads.
struct WindowSpan {
  absl::Time from;          // excluded
  absl::Time to;            // included
  uint64_t first_step = 0;  // least and largest engine step of any report that touched it; 0, 0 where none did
  uint64_t last_step = 0;
  uint64_t num_tokens = 0;  // over all layers, of all phases
  uint64_t num_prefill_tokens = 0;
  uint64_t num_decode_tokens = 0;

  uint64_t NumTokens(LoadPhase phase) const {
    return phase == LoadPhase::kAll       ? num_tokens
           : phase == LoadPhase::kPrefill ? num_prefill_tokens
                                          : num_decode_tokens;
  }

  friend bool operator==(const WindowSpan&, const WindowSpan&) = default;
};

}  // namespace evenkeel::algos
