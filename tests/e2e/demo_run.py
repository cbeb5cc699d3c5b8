# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it, shorter and with other sizes: it keeps its promises, and says so in its last line."""

import json
import os
import pathlib
import subprocess
import sys

import cases
import demo
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
def each_promise_that_was_not_kept_is_named():
    kept = {"tokens": 9, "moves": 1, "mismatched_tokens": 0, "stale_slot_uses": 0, "calls_that_waited": 0,
            "imbalance_before": 1.4, "imbalance_after": 1.1}
    check_equal(demo.broken_promises(kept), [], "of a good run")
    for key, value in [("tokens", 0), ("moves", 0), ("mismatched_tokens", 1), ("stale_slot_uses", 2),
                       ("calls_that_waited", 3), ("imbalance_after", 1.3)]:
        broken = demo.broken_promises(kept | {key: value})
        check_equal(len(broken), 1, f"promises broken by {key} {value}: {broken}")
        check(key.split("_")[0] in broken[0] and str(value) in broken[0], f"{key} {value}: {broken}")


@case
def wrong_arguments_are_refused():
    for arguments in (["--ranks=1"], ["--seconds=1"], ["--nope"], ["--ranks=many"]):
        done = run(*arguments)
        check_equal(done.returncode, 2, f"exit status of {arguments}")
        check(arguments[0].split("=")[0] in done.stderr, f"{arguments}: {done.stderr}")


if __name__ == "__main__":
    sys.exit(cases.main())
