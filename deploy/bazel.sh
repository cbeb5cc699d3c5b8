#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Debian's bazel without the warnings of its Java; same arguments.
cd "$(dirname "$0")/.." && exec bazel "$@" 2> >(grep -v 'OpenJDK 64-Bit Server VM warning' >&2)
