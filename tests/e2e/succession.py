# SPDX-License-Identifier: Apache-2.0
"""The only controller is killed by kill -9 at seeded moments, and a successor finds what was acknowledged.

Operations are asked for with ids of the asker's own while moves are throttled, so that kills land between an answer and
the next write, in mid-write, between a decision and its publishing, and in the middle of moves.
"""

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time

import cases
from cases import case, check, check_equal
from cluster import Cluster, wait_for

KILLS = 5
RANKS = 4
CONFIG = {"listen_interval_ms": 300,
          "defaults": {"placement_enabled": False, "shares_interval_ms": 500, "wave_deadline_ms": 10000}}
FINAL = ("DONE", "FAILED", "SKIPPED", "SUPERSEDED", "CANCELLED")


class Asker:
    """Asks for one rearrangement after the other, each with an id, and notes those whose end it was told."""

    def __init__(self, cluster: Cluster):
        self.told: dict[str, str] = {}  # state by id
        self._cluster = cluster
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="asker")
        self._thread.start()

    def _run(self):
        turn = 0
        while not self._stop.is_set():
            name = f"asked-{turn}"
            try:
                # Every other one moves nothing, so that ends and writes come often.
                operation = self._cluster.rearrange(policy=("deepseek", "greedy")[turn % 2], timeout=30, request_id=name,
                                                    **({"dry_run": True} if turn % 3 else {}))
            except (ValueError, subprocess.TimeoutExpired):
                time.sleep(0.05)  # no controller, or it hears its agents
            else:
                check_equal(operation["id"], name, "id of the operation")
                self.told[name] = state_of(operation)
            turn += 1

    def close(self):
        self._stop.set()
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def state_of(operation: dict) -> str:
    return operation["state"].removeprefix("OPERATION_STATE_")


def operations(cluster: Cluster) -> dict[str, str]:
    """State by id; the newest thousand."""
    told = cluster.keelctl_json("operations", f"--group={cluster.options.group}", "--last=1000")
    return {operation["id"]: state_of(operation) for operation in told["operations"]}


@case
def what_was_acknowledged_is_known_to_the_successor_and_nothing_is_dropped_silently():
    seed = int(os.environ.get("EVENKEEL_SEED", "20261124"))
    print(f"seed {seed}")
    rng = random.Random(seed)
    options = cases.options(ranks=RANKS, config=CONFIG, agent_flags=["--bytes_per_second=600000"])
    with Cluster(options) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        with Asker(cluster) as asker:
            for turn in range(KILLS):
                known = len(asker.told)
                wait_for("operations to end", lambda: len(asker.told) >= known + 2, 60)
                begun, term = operations(cluster), cluster.group()["epoch"]["term"]
                time.sleep(rng.uniform(0, 0.5))
                told = dict(asker.told)
                cluster.kill("controller")
                tokens = cluster.engine_total("tokens")
                cluster.start_controller()
                wait_for("the group to form", lambda: (group := cluster.group()) and not group["forming"], 60)
                check(cluster.group()["epoch"]["term"] > term, f"term {cluster.group()['epoch']['term']} after {term}")
                # What was under way goes on to an end that is told.
                wait_for("what was begun before to end", lambda: all(
                    operations(cluster).get(name, "missing") in (*FINAL, "missing") for name in begun), 90, interval=0.3)
                after = operations(cluster)
                for name, state in told.items():
                    check_equal(after.get(name), state, f"kill {turn}: state of {name}, which its asker was told")
                for name in begun:
                    check(after.get(name) in FINAL, f"kill {turn}: {name} was {begun[name]}, is {after.get(name)}")
                wait_for("engines to go on", lambda: cluster.engine_total("tokens") > tokens, 30)
        print(f"{len(asker.told)} operations, {KILLS} kills, states {sorted(set(operations(cluster).values()))}")
        cluster.check_alive()
        cluster.check_text()
        check_equal(set(cluster.stop_engines().values()), {0}, "exit statuses of the engines")


@case
def what_was_counted_is_in_the_store_of_a_killed_controller():
    config = {"defaults": {"window_ms": 200, "num_windows_for_placement": 20, "placement_enabled": False}}
    with Cluster(cases.options(ranks=RANKS, config=config)) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        time.sleep(8)  # forty windows; the store is asked to keep twenty, in rows of up to ten
        cluster.kill("controller")
        with contextlib.closing(sqlite3.connect(cluster.run_dir / "controller.db")) as store:
            rows = store.execute("SELECT group_name, length(load) FROM loads").fetchall()
        print(f"rows of {[size for _, size in rows]} bytes")
        check(2 <= len(rows) <= 4, f"{len(rows)} rows")
        check_equal({bytes(name).decode() for name, _ in rows}, {cluster.options.group}, "groups in the store")
        cluster.start_controller()
        wait_for("the group to form", lambda: (group := cluster.group()) and not group["forming"], 60)
        cluster.check_text()


if __name__ == "__main__":
    sys.exit(cases.main())
