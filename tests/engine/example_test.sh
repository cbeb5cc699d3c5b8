#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The example engine runs, says where its experts are, and leaves nothing behind: example_test.sh EXAMPLE
set -eu
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
output=$("$1" "$directory")
echo "$output"
[ "$(echo "$output" | grep -c '^step [0-2]: expert 4 is served by rank [01]$')" = 3 ]
[ -z "$(ls -A "$directory")" ]
# Without room for its region it says why.
if output=$("$1" "$directory/missing"); then exit 1; fi
echo "$output" | grep -q 'No such file or directory'
echo "1 passed, 0 failed"
