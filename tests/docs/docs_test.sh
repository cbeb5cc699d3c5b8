#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs docs_test.py over the checkout that this test was built from: runfiles are links into it.
set -euo pipefail
root=$(dirname "$(readlink -f WORKSPACE)")
exec python3 "$root/tests/docs/docs_test.py" "$root"
