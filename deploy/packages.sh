#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that building and testing need and that are missing; sourced or run.
set -euo pipefail

evenkeel_build_packages=(
  bazel-bootstrap bazel-platforms bazel-rules-java bazel-rules-proto bazel-skylib
  g++ pkg-config ca-certificates curl python3
  libgrpc++-dev libgrpc-dev libssl-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev
  libabsl-dev libspdlog-dev libfmt-dev catch2 libucx-dev libsqlite3-dev libyaml-dev nlohmann-json3-dev
  libcpp-httplib-dev prometheus-cpp-dev
)
evenkeel_test_packages=(clang clang-format git iproute2 openssl prometheus python3-yaml chromium)
# Of `deploy/test.sh --nightly` alone.
evenkeel_nightly_packages=(debhelper fakeroot debootstrap)
# Where they are not there from elsewhere; Debian's npm and others' node do not go together.
command -v npm >/dev/null || evenkeel_test_packages+=(nodejs npm)

# install_missing PACKAGE...: as root or through sudo; says what it does, does nothing where all are there.
install_missing() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
      echo "installing ${missing[*]}: needs root, and there is no sudo" >&2
      return 1
    }
    as_root=(sudo)
  fi
  echo "installing ${#missing[@]} packages: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# say_cuda: which way the build will go.
say_cuda() {
  local home
  for home in "${CUDA_HOME:-}" /usr/local/cuda /usr/lib/cuda; do
    if [ -n "$home" ] && [ -x "$home/bin/nvcc" ]; then
      echo "cuda: $home/bin/nvcc found, CUDA targets are built"
      return
    fi
  done
  echo "cuda: no nvcc found (CUDA_HOME, /usr/local/cuda, /usr/lib/cuda), CUDA targets are left out"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  install_missing "${evenkeel_build_packages[@]}" "${evenkeel_test_packages[@]}"
  say_cuda
fi
