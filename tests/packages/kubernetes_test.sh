#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Debian's own Python has Debian's own yaml.
set -euo pipefail
PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 tests/packages/kubernetes_test.py "$PWD"
