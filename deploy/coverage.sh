#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Line coverage per folder and file of the tests named (called by deploy/test.sh --coverage).
# Builds with gcov instrumentation in a Bazel configuration of its own, runs the tests, and lets gcov's own JSON speak.
set -euo pipefail
cd "$(dirname "$0")/.."
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
# GCOV_PREFIX sends the counters of every process, killed ones aside, to one folder, whatever sandbox it ran in.
status=0
deploy/bazel.sh test --config=coverage_gcc --test_env=GCOV_PREFIX="$data" --test_env=GCOV_PREFIX_STRIP=0 \
  --spawn_strategy=local --nocache_test_results --test_tag_filters=-gpu,-multi-gpu,-manual,-nightly --build_tests_only --keep_going \
  -- "$@" || status=$?
[ "$status" = 0 ] || echo "coverage: some tests failed; what they ran is counted" >&2
python3 deploy/coverage.py --data "$data" --objects "$(deploy/bazel.sh info --config=coverage_gcc bazel-bin)"
exit "$status"
