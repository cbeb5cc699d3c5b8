#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the page's test with the binaries of this build.
set -euo pipefail
root=$PWD
export PYTHONPATH="$root/deploy:$root/tests/e2e" PYTHONDONTWRITEBYTECODE=1 EVENKEEL_BINARIES="$root"
exec python3 "$root/tests/page/page_test.py" "$@"
