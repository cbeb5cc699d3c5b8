#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All GPU tests and benchmarks, for a machine that has a GPU, its driver and nothing else of ours.
set -euo pipefail

usage() {
  cat <<'TEXT'
tests/gpu/run.sh collect DIR        builds everything here (needs nvcc, no GPU) and puts it into DIR, run.sh included
DIR/run.sh run [RESULTS]            runs it there (needs a GPU; Python with PyTorch for what is in torch) and writes RESULTS
                                    (default: results.txt in the current folder)
DIR/run.sh torch [RESULTS]          the same for PyTorch's tests and figures alone
TEXT
}

tests=(fingerprint_cuda_test route_cuda_test slots_cuda_test)
programs=(controller/evenkeel-controller agent/evenkeel-agent cli/keelctl engine/libevenkeel.so engine/reference/reference_engine
  tests/gpu/device_engine tests/gpu/device_memory_test tests/gpu/ipc_bench tests/gpu/kernels_bench
  tests/gpu/stream_steps_test tests/gpu/disturb_bench tests/gpu/libroute_library.so)

# Beside the programs what they are linked with, but for what every Linux has.
collect_libraries() {
  local to=$1
  mkdir -p "$to/lib"
  find "$to" -maxdepth 1 -type f -perm -u+x ! -name '*.sh' ! -name '*.py' -exec ldd {} + 2>/dev/null |
    awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
    grep -Ev '/(libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+|ld-linux-x86-64)\.so' | xargs -I {} cp -fL {} "$to/lib/"
}

collect() {
  local here to=$1 bin
  here=$(cd "$(dirname "$0")/../.." && pwd)
  mkdir -p "$to"
  to=$(cd "$to" && pwd)
  cd "$here"
  local targets=("${tests[@]/#///tests/kernels:}")
  for one in "${programs[@]}"; do targets+=("//${one%/*}:${one##*/}"); done
  deploy/bazel.sh build --config=opt "${targets[@]}"
  bin=$(deploy/bazel.sh info --config=opt bazel-bin)
  for one in "${tests[@]/#/tests/kernels/}" "${programs[@]}"; do
    cp -fL "$bin/$one" "$to/"
    chmod u+w "$to/${one##*/}"
    strip "$to/${one##*/}"
  done
  collect_libraries "$to"
  mkdir -p "$to/deploy" "$to/engine/reference" "$to/engine/python/evenkeel" "$to/engine/python/examples"
  cp -fL deploy/demo.py deploy/cluster.py "$to/deploy/"
  cp -RLf engine/reference/tinymoe "$to/engine/reference/"
  cp -fL engine/python/evenkeel/*.py "$to/engine/python/evenkeel/"
  cp -fL engine/python/examples/moe.py "$to/engine/python/examples/"
  cp -fL tests/gpu/device_loss.py tests/gpu/route_vs_torch.py tests/gpu/torch_moe.py tests/gpu/gain.py tests/gpu/overhead.py \
    tests/engine/python_torch_test.py tests/gpu/run.sh "$to/"
  echo "collected in $to"
}

in_torch() {
  local here=$1 gpus
  if ! python3 -c 'import torch' 2>/dev/null; then
    echo "== evenkeel.torch, torch_moe, overhead, route_vs_torch: skipped: no PyTorch here"
    return
  fi
  export EVENKEEL_LIBRARY=$here/libevenkeel.so
  gpus=$(nvidia-smi -L | wc -l)
  echo "== python_torch_test"
  timeout 300 python3 "$here/python_torch_test.py" "$here/engine/python/evenkeel/__init__.py" "$EVENKEEL_LIBRARY" cuda 2>&1 ||
    echo "FAILED: python_torch_test"
  echo "== torch_moe, $((gpus > 2 ? gpus : 2)) ranks on $gpus GPUs"
  timeout 600 python3 "$here/torch_moe.py" "$here" --ranks=$((gpus > 2 ? gpus : 2)) 2>&1 || echo "FAILED: torch_moe"
  echo "== torch_moe, experts of DeepSeek-V3's size"
  timeout 300 python3 "$here/torch_moe.py" "$here" --ranks=$((gpus > 2 ? gpus : 2)) -- --hidden=7168 --intermediate=2048 --weights=fp8 \
    --derived=cached 2>&1 || echo "FAILED: torch_moe of DeepSeek-V3's size"
  if [ "$gpus" -ge 2 ]; then
    echo "== gain, $gpus ranks"
    timeout 600 python3 "$here/gain.py" "$here" --ranks="$gpus" -- --hidden=7168 --intermediate=2048 --experts=64 --top_k=8 --tokens=512 \
      --sigma=1.0 2>&1 || echo "FAILED: gain"
  else
    echo "== gain: skipped: it takes a GPU for each rank, here is one"
  fi
  echo "== overhead"
  timeout 300 python3 "$here/overhead.py" "$here" 2>&1 || echo "FAILED: overhead"
  echo "== route_vs_torch"
  timeout 300 python3 "$here/route_vs_torch.py" "$here/libroute_library.so" 2>&1 || echo "FAILED: route_vs_torch"
}

run() {
  local here results=$1 what=$2
  here=$(cd "$(dirname "$0")" && pwd)
  if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L >/dev/null; then
    echo "no NVIDIA GPU here: nothing was run" >&2
    return 1
  fi
  {
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
    if [ "$what" = all ]; then without_torch "$here"; fi
    in_torch "$here"
  } > >(tee "$results")
  wait
  ! grep -q '^FAILED' "$results"
}

without_torch() {
  local here=$1 one ranks
  for one in "${tests[@]}" device_memory_test stream_steps_test; do
    echo "== $one"
    LD_LIBRARY_PATH=$here/lib timeout 300 "$here/$one" 2>&1 || echo "FAILED: $one"
  done
  echo "== device_loss"
  LD_LIBRARY_PATH=$here/lib timeout 300 python3 "$here/device_loss.py" "$here" 2>&1 || echo "FAILED: device_loss"
  for ranks in 2 8; do
    echo "== demo.sh --device cuda, $ranks ranks"
    LD_LIBRARY_PATH=$here/lib timeout 300 python3 "$here/deploy/demo.py" --binaries "$here" --device cuda \
      --ranks "$ranks" --seconds 30 2>&1 || echo "FAILED: demo of $ranks ranks"
  done
  for one in ipc_bench kernels_bench disturb_bench; do
    echo "== $one"
    LD_LIBRARY_PATH=$here/lib timeout 300 "$here/$one" 2>&1 || echo "FAILED: $one"
  done
}

case "${1:-}" in
  collect) [ $# = 2 ] || { usage >&2; exit 2; }; collect "$2" ;;
  run) run "${2:-results.txt}" all ;;
  torch) run "${2:-results.txt}" torch ;;
  -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
