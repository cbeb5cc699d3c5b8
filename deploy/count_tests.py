# SPDX-License-Identifier: Apache-2.0
"""Counts test cases of a Bazel test run from its logs and prints one line: NAME: N passed, N failed.

A Catch2 program closes with how many cases passed and failed; any other test counts as one case. A test without a
log, or one whose log does not close properly, counts as one failed case, so that a crash is never lost.
"""

import argparse
import pathlib
import re
import sys

ALL_PASSED = re.compile(r"All tests passed \(\d+ assertions? in (\d+) test cases?\)")
SOME_FAILED = re.compile(r"test cases:\s*(\d+)(?:\s*\|\s*(\d+) passed)?(?:\s*\|\s*(\d+) failed)?")
OTHER = re.compile(r"^(\d+) passed, (\d+) failed(?:, \d+ skipped)?$", re.M)


def count(log: pathlib.Path) -> tuple[int, int]:
    """(passed, failed) test cases of one test's log."""
    text = log.read_text(errors="replace")
    exit_ok = (log.parent / "test.xml").exists() and 'errors="0"' in (log.parent / "test.xml").read_text(errors="replace")
    if found := ALL_PASSED.findall(text):
        return (int(found[-1]), 0) if exit_ok else (int(found[-1]), 1)
    if found := SOME_FAILED.findall(text):
        return int(found[-1][1] or 0), max(1, int(found[-1][2] or 0))
    if found := OTHER.findall(text):
        passed, failed = map(int, found[-1])
        return (passed, failed) if exit_ok else (passed, max(1, failed))
    return (1, 0) if exit_ok else (0, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--status", type=int, required=True, help="exit status of bazel test")
    parser.add_argument("--logs", type=pathlib.Path, required=True)
    parser.add_argument("--targets", type=pathlib.Path, required=True, help="file of labels that were to run")
    arguments = parser.parse_args()
    passed = failed = 0
    for label in arguments.targets.read_text().split():
        log = arguments.logs / label.removeprefix("//").replace(":", "/") / "test.log"
        ok, bad = count(log) if log.exists() else (0, 1)
        if bad:
            print(f"{arguments.name}: {label}: {bad} failed ({log if log.exists() else 'did not run'})", file=sys.stderr)
        passed, failed = passed + ok, failed + bad
    if arguments.status != 0 and failed == 0:
        failed = 1
    print(f"{arguments.name}: {passed} passed, {failed} failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
