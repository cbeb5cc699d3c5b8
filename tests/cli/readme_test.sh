#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the README's commands with what Bazel built.
exec python3 tests/cli/readme_test.py README.md cli/keelctl .
