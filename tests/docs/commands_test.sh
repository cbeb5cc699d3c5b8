#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs commands_test.py with the binaries of this build, over the docs of the checkout that it was built from.
set -euo pipefail
checkout=$(dirname "$(readlink -f WORKSPACE)")
export PYTHONPATH="$checkout/deploy:$PWD/tests/e2e" PYTHONDONTWRITEBYTECODE=1 EVENKEEL_BINARIES="$PWD"
exec python3 "$checkout/tests/docs/commands_test.py" "$checkout" "$@"
