#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
PYTHONDONTWRITEBYTECODE=1 exec python3 tests/packages/packages.py --root "$PWD"
