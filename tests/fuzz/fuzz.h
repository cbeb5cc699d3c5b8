// SPDX-License-Identifier: Apache-2.0
//
// What one fuzzed parser is: bytes from outside go in, and whatever they are, it answers. Each *_fuzz.cc defines both
// functions; replay_main.cc runs them with chance alone, libFuzzer (deploy/fuzz.sh) guided by what code is reached.
//
// Threads:   one.
// Errors:    a crash, a sanitizer's word, a failed FUZZ_CHECK, memory or time without bound.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

// libFuzzer's name. Returns 0.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace evenkeel::fuzz {

// Valid inputs, to begin from.
std::vector<std::string> Seeds();

inline std::string_view TextOf(const uint8_t* data, size_t size) { return {reinterpret_cast<const char*>(data), size}; }

}  // namespace evenkeel::fuzz

// What must hold of every input that was taken.
#define FUZZ_CHECK(condition)                                                             \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                       \
    }                                                                                     \
  } while (false)
