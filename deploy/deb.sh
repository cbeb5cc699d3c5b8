#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the Debian packages of controller, agent, engine library and command line.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
deploy/deb.sh [--out DIR] [--prebuilt DIR]
  Builds with Bazel and makes four packages: evenkeel-controller, evenkeel-agent, libevenkeel (with the C headers and
  the Python binding) and keelctl. Prints their names.
  --out DIR       where they go (default: dist)
  --prebuilt DIR  a bazel-bin of -c opt: nothing is installed or built
TEXT
}

out=dist prebuilt=""
while [ $# -gt 0 ]; do
  case "$1" in
    --out | --prebuilt)
      [ $# -ge 2 ] || { echo "deploy/deb.sh: $1 needs a folder" >&2; exit 2; }
      if [ "$1" = --out ]; then out=$2; else prebuilt=$2; fi
      shift ;;
    --out=*) out=${1#*=} ;;
    --prebuilt=*) prebuilt=${1#*=} ;;
    -h | --help) usage; exit 0 ;;
    *) echo "deploy/deb.sh: unknown argument $1" >&2; usage >&2; exit 2 ;;
  esac
  shift
done

if [ -z "$prebuilt" ]; then
  source deploy/packages.sh
  install_missing "${evenkeel_build_packages[@]}" debhelper fakeroot
  say_cuda
  deploy/bazel.sh build --config=opt //controller:evenkeel-controller //agent:evenkeel-agent //engine:libevenkeel.so //cli:keelctl
  prebuilt=$(deploy/bazel.sh info --config=opt bazel-bin)
fi
for binary in controller/evenkeel-controller agent/evenkeel-agent engine/libevenkeel.so cli/keelctl; do
  [ -x "$prebuilt/$binary" ] || { echo "deploy/deb.sh: $prebuilt has no $binary" >&2; exit 1; }
done

mkdir -p "$out"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir "$stage/source"
cp -r deploy/debian "$stage/source/debian"
(
  cd "$stage/source"
  EVENKEEL_ROOT=$OLDPWD EVENKEEL_BINARIES=$(realpath "$prebuilt") fakeroot debian/rules binary >"$stage/log" 2>&1
) || { cat "$stage/log" >&2; echo "deploy/deb.sh: debian/rules failed" >&2; exit 1; }
mv "$stage"/*.deb "$out"
ls "$out"/*.deb
