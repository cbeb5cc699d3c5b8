#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the web page from controller/page/src into controller/page/dist, which is kept with the sources.
set -euo pipefail
cd "$(dirname "$0")/../controller/page"

usage() {
  cat <<'TEXT'
deploy/page.sh [--check | --test-tools]
  Builds the controller's web page (needs npm and its registry).
  --check       only says whether dist/ is what src/ makes
  --test-tools  instead: installs what the page's test drives Chromium with, into tests/page/node_modules
TEXT
}

case "${1:-}" in
  "" | --check | --test-tools) ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

command -v npm >/dev/null || { echo "deploy/page.sh: npm is missing (Debian: nodejs, npm)" >&2; exit 1; }
if [ "${1:-}" = --test-tools ]; then cd ../../tests/page; fi
npm ci --no-audit --no-fund --silent
if [ "${1:-}" = --test-tools ]; then exit 0; fi
npx tsc --noEmit
if [ "${1:-}" = --check ]; then
  built=$(mktemp -d)
  trap 'rm -rf "$built"' EXIT
  npx vite build --logLevel warn --outDir "$built" --emptyOutDir
  diff -r dist "$built" && echo "dist/ is what src/ makes"
else
  npx vite build --logLevel warn
fi
