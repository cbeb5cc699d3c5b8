// SPDX-License-Identifier: Apache-2.0
//
// EVENKEEL_CHECK: for our own bugs, on in every build; never for input, network, disk, GPU or configuration.
#pragma once

#include <cstdio>
#include <cstdlib>

#define EVENKEEL_CHECK(condition)                                                        \
  do {                                                                                   \
    if (!(condition)) [[unlikely]] {                                                     \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
