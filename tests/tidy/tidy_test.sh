#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs tidy.py over the checkout that this test was built from: runfiles are links into it.
set -euo pipefail
root=$(dirname "$(readlink -f WORKSPACE)")
exec python3 "$root/tests/tidy/tidy.py" --root "$root" --self-test
