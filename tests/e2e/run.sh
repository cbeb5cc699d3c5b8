#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs one end-to-end script with the binaries of this build: run.sh SCRIPT [ARGUMENT...]
set -euo pipefail
root=$PWD
script=$1
shift
export PYTHONPATH="$root/deploy:$root/tests/e2e" PYTHONDONTWRITEBYTECODE=1 EVENKEEL_BINARIES="$root"
exec python3 "$root/tests/e2e/$script" "$@"
