"""The native C++ rules under the name that Bazel's own suffix loads them by.

Debian's bazel-rules-cc is newer than Debian's Bazel and does not load with it.
"""

cc_library = native.cc_library
cc_binary = native.cc_binary
cc_test = native.cc_test
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
