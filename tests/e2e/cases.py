# SPDX-License-Identifier: Apache-2.0
"""The small runner that all end-to-end scripts share.

A case is a function decorated with @case; main() runs those named on the command line (all by default), prints how
each ended and closes with "N passed, N failed". Processes and shared memory that a case leaves behind fail it.
"""

import os
import pathlib
import sys
import time
import traceback

from cluster import Binaries, Options

CASES = []


def case(function):
    CASES.append(function)
    return function


def options(**kwargs) -> Options:
    root = pathlib.Path(os.environ["EVENKEEL_BINARIES"])
    return Options(binaries=Binaries(root), model_dir=root / "engine/reference/tinymoe", **kwargs)


def check(condition, message: str):
    if not condition:
        raise AssertionError(message)


def check_equal(actual, expected, what: str):
    check(actual == expected, f"{what}: {actual!r} instead of {expected!r}")


def left_behind() -> set[str]:
    """Of this process's clusters, and regions that lie about; another run's are its own."""
    return {name for name in os.listdir("/dev/shm") if name.startswith((f"evenkeel-{os.getpid()}-", "evenkeel."))}


def main() -> int:
    wanted = sys.argv[1:]
    passed = failed = 0
    for function in CASES:
        if wanted and function.__name__ not in wanted:
            continue
        before, started = left_behind(), time.monotonic()
        try:
            function()
            check(not (left_behind() - before), f"left in /dev/shm: {sorted(left_behind() - before)}")
        except Exception:
            traceback.print_exc(file=sys.stdout)
            failed += 1
            verdict = "FAILED"
        else:
            passed += 1
            verdict = "ok"
        print(f"{function.__name__}: {verdict} ({time.monotonic() - started:.1f} s)", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0
