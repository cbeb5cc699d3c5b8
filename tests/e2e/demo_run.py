# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it, shorter and with other sizes: it keeps its promises, and says so in its last line."""

import json
import os
import pathlib
import subprocess
import sys

import cases
from cases import case, check, check_equal

ROOT = pathlib.Path(os.environ["EVENKEEL_BINARIES"])
KEYS = ["seconds", "ranks", "redundant", "tokens", "imbalance_before", "imbalance_after", "shares_updates", "rollouts",
        "moves", "bytes_moved", "mismatched_tokens", "stale_slot_uses", "calls_that_waited", "realised_vs_predicted"]


def run(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(["bash", str(ROOT / "deploy/demo.sh"), "--prebuilt", str(ROOT), *arguments], capture_output=True,
                          text=True, timeout=240)


@case
def eight_ranks_are_balanced_live():
    done = run("--seconds=30")
    print(done.stdout[-3000:], done.stderr[-2000:])
    summary = json.loads(done.stdout.splitlines()[-1])
    check_equal(list(summary), KEYS, "keys of the summary")
    check_equal(done.returncode, 0, "exit status")
    check_equal((summary["ranks"], summary["redundant"]), (8, 8), "ranks and redundant slots")
    check(summary["tokens"] > 0 and summary["moves"] > 0, f"{summary}")


@case
def a_number_of_ranks_that_does_not_divide_the_experts_works_too():
    done = run("--seconds=20", "--ranks=3", "--redundant=8")
    print(done.stdout[-2000:], done.stderr[-2000:])
    summary = json.loads(done.stdout.splitlines()[-1])
    check_equal(summary["mismatched_tokens"] + summary["stale_slot_uses"] + summary["calls_that_waited"], 0, "failures")
    check(summary["tokens"] > 0 and summary["moves"] > 0, f"{summary}")
    check_equal((summary["ranks"], summary["redundant"]), (3, 8), "ranks and redundant slots")


@case
def wrong_arguments_are_refused():
    for arguments in (["--ranks=1"], ["--seconds=1"], ["--nope"], ["--ranks=many"]):
        done = run(*arguments)
        check_equal(done.returncode, 2, f"exit status of {arguments}")
        check(arguments[0].split("=")[0] in done.stderr, f"{arguments}: {done.stderr}")


if __name__ == "__main__":
    sys.exit(cases.main())
