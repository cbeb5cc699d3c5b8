#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Coverage-guided fuzzing of every parser of bytes from outside, with clang's libFuzzer, address and undefined sanitizers.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
deploy/fuzz.sh [--runs N] [--seconds N] [--corpus DIRECTORY] [NAME...]
  Builds and runs the fuzzers of tests/fuzz; exit status 1 if one of them crashed, hung or leaked.
  --runs N      executions of each (default 1,000,000)
  --seconds N   at most so long each (default 600)
  --corpus DIR  where inputs that reached new code are kept, a folder a fuzzer (default out/fuzz)
  NAME          for example map_file; default: all
  Prints per fuzzer: executions, edges reached, features, inputs kept, and the input of a crash.
TEXT
}

runs=1000000 seconds=600 corpus=out/fuzz names=()
while [ $# -gt 0 ]; do
  case "$1" in
    --runs) runs=${2:?--runs needs a number}; shift ;;
    --seconds) seconds=${2:?--seconds needs a number}; shift ;;
    --corpus) corpus=${2:?--corpus needs a folder}; shift ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "deploy/fuzz.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
    *) names+=("$1") ;;
  esac
  shift
done
for number in "$runs" "$seconds"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || { echo "deploy/fuzz.sh: '$number' is no number above 0" >&2; exit 2; }
done
if [ ${#names[@]} -eq 0 ]; then
  for file in tests/fuzz/*_fuzz.cc; do file=${file##*/}; names+=("${file%_fuzz.cc}"); done
fi
for name in "${names[@]}"; do
  [ -f "tests/fuzz/${name}_fuzz.cc" ] || { echo "deploy/fuzz.sh: there is no tests/fuzz/${name}_fuzz.cc" >&2; exit 2; }
done

deploy/bazel.sh build --config=opt $(printf '//tests/fuzz:%s_fuzz_test ' "${names[@]}")
bin=$(deploy/bazel.sh info --config=opt bazel-bin)
for name in "${names[@]}"; do
  mkdir -p "$corpus/$name"
  "$bin/tests/fuzz/${name}_fuzz_test" --write_seeds="$corpus/$name"
done
deploy/bazel.sh build --config=fuzz $(printf '//tests/fuzz:%s_fuzzer ' "${names[@]}")
bin=$(deploy/bazel.sh info --config=fuzz bazel-bin)
failed=0
for name in "${names[@]}"; do
  log="$corpus/$name.log"
  echo "== $name"
  if "$bin/tests/fuzz/${name}_fuzzer" -runs="$runs" -max_total_time="$seconds" -max_len=262144 -timeout=20 -rss_limit_mb=2048 \
    -print_final_stats=1 -artifact_prefix="$corpus/$name-" "$corpus/$name" >"$log" 2>&1; then
    echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions, $(grep -o 'cov: [0-9]* ft: [0-9]* corp: [0-9]*' "$log" | tail -n 1)"
  else
    failed=1
    echo "$name: FAILED, see $log"
    tail -n 30 "$log"
  fi
done
exit "$failed"
