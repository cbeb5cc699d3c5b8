#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the web page from controller/page/src into controller/page/dist, which is kept with the sources.
set -euo pipefail
cd "$(dirname "$0")/../controller/page"

usage() {
  cat <<'TEXT'
deploy/page.sh [--check]
  Builds the controller's web page (needs npm and its registry).
  --check   only says whether dist/ is what src/ makes
TEXT
}

case "${1:-}" in
  "" | --check) ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

command -v npm >/dev/null || { echo "deploy/page.sh: npm is missing (Debian: nodejs, npm)" >&2; exit 1; }
npm ci --no-audit --no-fund --silent
npx tsc --noEmit
if [ "${1:-}" = --check ]; then
  built=$(mktemp -d)
  trap 'rm -rf "$built"' EXIT
  npx vite build --logLevel warn --outDir "$built" --emptyOutDir
  diff -r dist "$built" && echo "dist/ is what src/ makes"
else
  npx vite build --logLevel warn
fi
