#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs agreement.py with what Bazel built.
set -euo pipefail
root=$(dirname "$(readlink -f WORKSPACE)")
exec python3 tests/replay/agreement.py cli/keelctl tests/replay/score_maps.py engine/reference/tinymoe/routing_counts.npy "$root"
