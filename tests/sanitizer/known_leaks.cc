// SPDX-License-Identifier: Apache-2.0
//
// Leaks of libraries that tests link, which are not ours to mend. Empty in builds without the address sanitizer.
#if defined(__SANITIZE_ADDRESS__)

// UCX 1.13 keeps 100 bytes when it ends.
extern "C" const char* __lsan_default_suppressions() { return "leak:libuct.so"; }  // NOLINT

#endif
