#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the Python binding's tests against the built library: python_binding_test.sh TEST.py BINDING.py LIBRARY.so HEADER.h
exec python3 "$@"
