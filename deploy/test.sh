#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds, and runs every test that needs no GPU.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
deploy/test.sh [--all] [--nightly] [--coverage] [--no-install] [TARGET...]
  Builds and runs every test that needs no GPU; the last line is "N passed, N failed" over all test cases.
  --all         also: unit and simulation tests under asan+ubsan and tsan, clang's thread-safety analysis
  --nightly     instead: the long suites: four hosts of network namespaces, half an hour of faults, the packages in a
                bare system (about 45 minutes)
  --coverage    instead: line coverage per folder and file, from the same tests
  --no-install  do not install Debian packages
  TARGET        Bazel test targets instead of //tests/... (for example //tests/algos:suite)
TEXT
}

all=0 nightly=0 coverage=0 install=1 targets=()
for argument in "$@"; do
  case "$argument" in
    --all) all=1 ;;
    --nightly) nightly=1 ;;
    --coverage) coverage=1 ;;
    --no-install) install=0 ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "deploy/test.sh: unknown option $argument" >&2; usage >&2; exit 2 ;;
    *) targets+=("$argument") ;;
  esac
done
[ ${#targets[@]} -gt 0 ] || targets=(//tests/...)

source deploy/packages.sh
if [ "$install" = 1 ]; then install_missing "${evenkeel_build_packages[@]}" "${evenkeel_test_packages[@]}"; fi
if [ "$install" = 1 ] && [ "$nightly" = 1 ]; then install_missing "${evenkeel_nightly_packages[@]}"; fi
say_cuda
page_flags=()
if [ "$install" = 1 ] && [ "$coverage" = 0 ]; then deploy/page.sh --test-tools || echo "the page's test is left out"; fi
if [ -d tests/page/node_modules/playwright-core ]; then
  page_flags=(--test_env="EVENKEEL_PLAYWRIGHT=$PWD/tests/page/node_modules/playwright-core")
fi
bazel="deploy/bazel.sh"

if [ "$coverage" = 1 ]; then exec deploy/coverage.sh "${targets[@]}"; fi

results=$(mktemp)
trap 'rm -f "$results"' EXIT

left_out='gpu|manual|nightly'  # tags of tests, a pattern
# run_tests NAME BAZEL_FLAGS... -- TARGETS...: appends "passed failed" to $results.
run_tests() {
  local name=$1; shift
  local flags=()
  while [ "$1" != -- ]; do flags+=("$1"); shift; done
  shift
  echo "== $name"
  local status=0
  "$bazel" test --test_tag_filters="-multi-gpu,-${left_out//|/,-}" "${flags[@]}" --build_tests_only --keep_going -- "$@" || status=$?
  local asked="tests($(echo "$@" | sed 's/ / + /g'))"
  python3 deploy/count_tests.py --name "$name" --status "$status" --logs "$("$bazel" info "${flags[@]}" bazel-testlogs)" \
    --targets <("$bazel" query "$asked except attr(tags, '$left_out', $asked)" 2>/dev/null) >>"$results"
  tail -n 1 "$results"
}

if [ "$nightly" = 1 ]; then
  left_out='gpu|manual'
  mapfile -t targets < <("$bazel" query "attr(tags, nightly, tests($(echo "${targets[@]}" | sed 's/ / + /g')))" 2>/dev/null)
  run_tests nightly --config=opt --test_output=all -- "${targets[@]}"
else
  run_tests opt --config=opt "${page_flags[@]}" -- "${targets[@]}"
fi
if [ "$all" = 1 ]; then
  pure=(//tests/{agent,algos,cli,controller,engine,flex,fuzz,proto,replay,runtime,sim}/...)
  run_tests asan --config=asan -- "${pure[@]}"
  left_out+='|no-tsan'
  run_tests tsan --config=tsan -- //tests/runtime/... //tests/engine/... //tests/controller/... //tests/agent/...
  echo "== tsa"
  if "$bazel" build --config=tsa //runtime/... //controller/... //agent/...; then echo "tsa: 1 passed, 0 failed" >>"$results"
  else echo "tsa: 0 passed, 1 failed" >>"$results"; fi
fi

awk '{ for (i = 1; i < NF; i++) { if ($(i + 1) ~ /^passed/) p += $i; if ($(i + 1) ~ /^failed/) f += $i } }
     END { printf "%d passed, %d failed\n", p, f; exit f > 0 || p == 0 }' "$results"
