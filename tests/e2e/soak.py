# SPDX-License-Identifier: Apache-2.0
"""A group that serves for half an hour while its processes fail: text stays identical and memory does not grow.

EVENKEEL_SOAK_SECONDS sets another length, EVENKEEL_SEED another course. Faults come a few seconds apart: agents and the
controller are killed and started again, engines are stopped for seconds or killed and come back to join. They end at
the middle of the run: what memory a process holds after its last start and after all windows of history are filled is
compared with what it holds at the end.
"""

import os
import pathlib
import random
import sys
import time

import cases
from cases import case, check
from cluster import Cluster, wait_for

RANKS = 8
SECONDS = float(os.environ.get("EVENKEEL_SOAK_SECONDS", "1800"))
GROWTH_MAX = 0.01
# Histories that are full long before memory is first read.
CONFIG = {"defaults": {"placement_interval_ms": 5000, "shares_interval_ms": 500, "num_windows_kept": 60}}
SERVING = ["--batch=8", "--prompt_bytes=32", "--decode_bytes=16", "--tokens_per_second_max=300", "--answer_seconds=60",
           "--on_loss=reroute"]


def resident_kib(pid: int) -> int:
    """Of a process, without the shared memory that it has mapped."""
    fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0])


def memory(cluster: Cluster) -> dict[str, int]:
    return {name: resident_kib(process.pid) for name, process in cluster.processes.items()}


def fail_something(cluster: Cluster, rng: random.Random) -> str:
    """One fault, and what brings its victim back; returns what it was."""
    rank = rng.randrange(RANKS)
    what = rng.choice(["agent killed", "controller killed", "engine stopped", "rank killed"])
    if what == "agent killed":
        cluster.kill(f"agent-{rank}")
        cluster.start_agent(rank)
    elif what == "controller killed":
        cluster.kill("controller")
        cluster.start_controller()
    elif what == "engine stopped":
        cluster.signal(f"engine-{rank}", 19)
        time.sleep(rng.uniform(0.5, 3))
        cluster.signal(f"engine-{rank}", 18)
    else:
        cluster.kill_ranks(rank)
        wait_for(f"rank {rank} to be lost", lambda: cluster.standings().get(rank) == "lost", 60)
        cluster.join(rank)
        wait_for(f"rank {rank} to serve again", lambda: cluster.standings().get(rank) == "serving", 120)
    wait_for(f"the group to settle after '{what}' of rank {rank}", cluster.settled, 180, interval=0.2)
    cluster.check_alive()
    return what


def rearrange_until(cluster: Cluster, end: float) -> int:
    """To one policy's placement and another's in turn; how often."""
    turn = 0
    while time.monotonic() < end:
        cluster.rearrange(policy=("deepseek", "greedy")[turn % 2])
        cluster.check_alive()
        time.sleep(2)
        turn += 1
    return turn


@case
def faults_come_and_go_and_memory_stays():
    seed = int(os.environ.get("EVENKEEL_SEED", "20261124"))
    print(f"seed {seed}, {SECONDS:g} s", flush=True)
    rng, faults = random.Random(seed), {}
    options = cases.options(ranks=RANKS, redundant=RANKS * 16 - 64, config=CONFIG, engine_flags=SERVING)
    with Cluster(options) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        started = time.monotonic()
        while time.monotonic() < started + SECONDS / 2:
            what = fail_something(cluster, rng)
            faults[what] = faults.get(what, 0) + 1
            time.sleep(rng.uniform(1, 5))
        print(f"faults {faults}", flush=True)
        rearrange_until(cluster, started + SECONDS * 3 / 4)  # histories fill, allocators settle
        before, moves = memory(cluster), cluster.totals()["moves"]
        turn = rearrange_until(cluster, started + SECONDS)
        after, moved = memory(cluster), cluster.totals()["moves"] - moves
        for name in sorted(before):
            print(f"{name}: {before[name]} KiB, then {after[name]} KiB ({after[name] / before[name] - 1:+.2%})")
        print(f"{turn} rearrangements, {moved} moves between the two readings", flush=True)
        cluster.stop_engines()
        cluster.check_text()
        check(moved > 0, "nothing was moved")
        kinds = {kind: [name for name in before if name.startswith(kind)] for kind in ("controller", "agent", "engine")}
        for kind, names in kinds.items():
            was, then = sum(before[name] for name in names), sum(after[name] for name in names)
            check(then <= was * (1 + GROWTH_MAX), f"memory of {kind}: {was} KiB, then {then} KiB")


if __name__ == "__main__":
    sys.exit(cases.main())
