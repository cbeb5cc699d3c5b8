#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the Python binding's tests against the built library: python_binding_test.sh TEST.py BINDING.py LIBRARY.so HEADER.h
set -eu
# A sanitizer's runtime has to be in the process before the library is, and the process is Python's, leaks and all.
runtime=$(ldd "$3" | awk '/lib[at]san/ { print $3 }')
if [ -n "$runtime" ]; then export LD_PRELOAD="$runtime" ASAN_OPTIONS=detect_leaks=0; fi
exec python3 "$@"
