#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All GPU tests and benchmarks, for a machine that has a GPU, its driver and nothing else of ours.
set -euo pipefail

usage() {
  cat <<'TEXT'
tests/gpu/run.sh collect DIR        builds everything here (needs nvcc, no GPU) and puts it into DIR, run.sh included
DIR/run.sh run [RESULTS]            runs it there (needs a GPU; PyTorch for the comparison with torch.compile) and
                                    writes RESULTS (default: results.txt in the current folder)
TEXT
}

tests=(fingerprint_cuda_test route_cuda_test slots_cuda_test)

collect() {
  local here to=$1 bin
  here=$(cd "$(dirname "$0")/../.." && pwd)
  mkdir -p "$to"
  to=$(cd "$to" && pwd)
  cd "$here"
  deploy/bazel.sh build --config=opt //tests/gpu:kernels_bench //tests/gpu:libroute_library.so "${tests[@]/#///tests/kernels:}"
  bin=$(deploy/bazel.sh info --config=opt bazel-bin)
  for one in "${tests[@]}"; do cp -fL "$bin/tests/kernels/$one" "$to/"; done
  cp -fL "$bin/tests/gpu/kernels_bench" "$bin/tests/gpu/libroute_library.so" tests/gpu/route_vs_torch.py tests/gpu/run.sh "$to/"
  echo "collected in $to"
}

run() {
  local here results=$1
  here=$(cd "$(dirname "$0")" && pwd)
  if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L >/dev/null; then
    echo "no NVIDIA GPU here: nothing was run" >&2
    return 1
  fi
  {
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
    for one in "${tests[@]}"; do
      echo "== $one"
      timeout 300 "$here/$one" 2>&1 || echo "FAILED: $one"
    done
    echo "== kernels_bench"
    timeout 300 "$here/kernels_bench" || echo "FAILED: kernels_bench"
    echo "== route_vs_torch"
    if python3 -c 'import torch' 2>/dev/null; then
      timeout 300 python3 "$here/route_vs_torch.py" "$here/libroute_library.so" 2>&1 || echo "FAILED: route_vs_torch"
    else
      echo "skipped: no PyTorch here"
    fi
  } > >(tee "$results")
  wait
  ! grep -q '^FAILED' "$results"
}

case "${1:-}" in
  collect) [ $# = 2 ] || { usage >&2; exit 2; }; collect "$2" ;;
  run) run "${2:-results.txt}" ;;
  -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
