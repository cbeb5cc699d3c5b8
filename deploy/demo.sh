#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One controller and N ranks on this machine serve TinyMoE on text whose mix of domains shifts, and are rearranged live.
set -euo pipefail
cd "$(dirname "$0")/.."

prebuilt="" rest=()
while [ $# -gt 0 ]; do
  case "$1" in
    --prebuilt) [ $# -ge 2 ] || { echo "deploy/demo.sh: --prebuilt needs a folder" >&2; exit 2; }; prebuilt=$2; shift ;;
    --prebuilt=*) prebuilt=${1#*=} ;;
    -h | --help) exec python3 deploy/demo.py --help ;;
    *) rest+=("$1") ;;
  esac
  shift
done

if [ -z "$prebuilt" ]; then
  source deploy/packages.sh
  install_missing "${evenkeel_build_packages[@]}"
  say_cuda
  echo "building (the first time takes minutes)"
  deploy/bazel.sh build --config=opt //controller:evenkeel-controller //agent:evenkeel-agent //cli:keelctl \
    //engine/reference:reference_engine
  prebuilt=$(deploy/bazel.sh info --config=opt bazel-bin)
fi
exec python3 deploy/demo.py --binaries "$prebuilt" "${rest[@]}"
