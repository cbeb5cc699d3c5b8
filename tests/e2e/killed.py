# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the controller, of an agent, or of both, in the middle of a rollout, twenty seeded times.

Moves are throttled so that the kills land inside them, which is asserted: a slot is being written at the moment of the
kill. Engines never block or fail, the text stays identical, new processes take over, and rollouts are finished or
cleanly planned again.
"""

import os
import random
import subprocess
import sys

import cases
from cases import case, check, check_equal
from cluster import Cluster, wait_for

KILLS = 20
RANKS = 4
CONFIG = {"listen_interval_ms": 300,
          "defaults": {"placement_enabled": False, "shares_interval_ms": 500, "wave_deadline_ms": 10000}}
THROTTLE = 150_000  # bytes a second into one rank: an expert takes a third of a second


def begin_rearranging(cluster: Cluster, turn: int) -> subprocess.Popen:
    binary = str(cluster.options.binaries.keelctl)
    return subprocess.Popen([binary, f"--controller={cluster.address}", "rearrange", f"--group={cluster.options.group}",
                             f"--policy={('deepseek', 'greedy')[turn % 2]}", "--timeout-s=120"],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_in_mid_move(cluster: Cluster, rng: random.Random, turn: int) -> str:
    """Starts a rearrangement, kills within one of its moves, starts successors; who was killed, or "late" where the last
    move was over by then."""
    request = begin_rearranging(cluster, turn)
    who = ("controller", "agent", "both")[turn % 3]
    try:
        writing = wait_for("a slot to be written", lambda: busy_ranks(cluster), 60, interval=0.01)
        # An expert takes a third of a second, so a slot found in `writing` is so for a while: land within that.
        wait_for("a moment to pass", lambda: rng.random() < 0.2, 5, interval=0.02)
        writing = busy_ranks(cluster) or wait_for("another slot to be written", lambda: busy_ranks(cluster), 60, 0.01)
        victims = ["controller"] * (who != "agent") + [f"agent-{rng.choice(writing)}"] * (who != "controller")
        for victim in victims:
            cluster.kill(victim)
        landed = bool(busy_ranks(cluster))
    finally:
        request.kill()
        request.wait()
    if "controller" in victims:
        cluster.start_controller()
    for victim in victims:
        if victim.startswith("agent-"):
            cluster.start_agent(int(victim.removeprefix("agent-")))
    return who if landed else "late"


def busy_ranks(cluster: Cluster) -> list[int]:
    return sorted(rank for rank, writing in cluster.slots_writing().items() if writing)


@case
def kills_in_mid_rollout_change_nothing_for_engines():
    seed = int(os.environ.get("EVENKEEL_SEED", "20261122"))
    print(f"seed {seed}")
    rng = random.Random(seed)
    options = cases.options(ranks=RANKS, config=CONFIG, agent_flags=[f"--bytes_per_second={THROTTLE}"])
    with Cluster(options) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        counts = {"controller": 0, "agent": 0, "both": 0, "late": 0}
        turn = 0
        while sum(counts.values()) - counts["late"] < KILLS:
            check(counts["late"] < KILLS, f"too many kills came after the last move: {counts}")
            tokens = cluster.engine_total("tokens")
            counts[kill_in_mid_move(cluster, rng, turn)] += 1
            wait_for("engines to go on", lambda: cluster.engine_total("tokens") > tokens, 30)
            wait_for(f"the group to settle after kill {turn}", cluster.settled, 180, interval=0.2)
            cluster.check_alive()
            turn += 1
        print(f"kills {counts}")
        check(min(counts[who] for who in ("controller", "agent", "both")) > 0, f"nobody of one kind was killed: {counts}")
        operation = cluster.rearrange(policy="deepseek")
        check(operation["state"] in ("OPERATION_STATE_DONE", "OPERATION_STATE_SKIPPED"), f"afterwards: {operation}")
        statuses = cluster.stop_engines()
        cluster.check_text()
        check_equal(set(statuses.values()), {0}, "exit statuses of the engines")


if __name__ == "__main__":
    sys.exit(cases.main())
