# SPDX-License-Identifier: Apache-2.0
"""Text stays identical, byte for byte, while at least 200 moves run under it, for each transport."""

import re
import sys
import time

import cases
from cases import case, check, check_equal
from cluster import Cluster, wait_for

MOVES = 200
# Only the operator rearranges here, so that the moves of a case are its own.
CONFIG = {"defaults": {"placement_enabled": False, "shares_interval_ms": 500}}


def rearrange_until(cluster: Cluster, moves: int, seconds: float) -> int:
    """Rearranges to one policy's placement and another's in turn until `moves` slots have received an expert; how often."""
    deadline, turn = time.monotonic() + seconds, 0
    while (done := cluster.totals()["moves"]) < moves:
        check(time.monotonic() < deadline, f"only {done} of {moves} moves within {seconds:g} s")
        cluster.rearrange(policy=("deepseek", "greedy")[turn % 2], timeout=seconds)
        cluster.check_alive()
        turn += 1
    return turn


def check_logs(cluster: Cluster, operations: int, moves: int):
    """Each event of a life is a line; what happens many times a second is none."""
    ranks = range(cluster.options.ranks)
    said = cluster.log_of("controller", 10_000)
    events = ["listening on", "term 1 taken", *(f"rank {rank} incarnation" for rank in ranks)]
    for event in events:
        check(event in said, f"the controller's log does not tell: {event}")
    ended = re.findall(r" operation \S+ group \S+ .*?state (done|skipped)", said)
    check_equal(len(ended), operations, "operations whose end the log tells")
    told = re.findall(r"state done .*? imbalance (\S+) to (\S+) seconds planning (\S+) retiring (\S+) moving (\S+)", said)
    check_equal(len(told), ended.count("done"), "operations done whose balance and time the log tells")
    for before, after, *seconds in told:
        check(1 <= float(after) < 100 and 1 <= float(before) < 100, f"imbalance {before} to {after}")
        check(0 <= sum(map(float, seconds)) < 600, f"seconds {seconds}")
    spent = sum(float(second) for _, _, *seconds in told for second in seconds)
    check(spent > 0, f"{len(told)} operations done in no time")
    lines = len(said.splitlines())
    check(lines <= 2 * len(events) + 4 * operations, f"{lines} lines of the controller for {operations} operations")
    told = 0  # moves
    for rank in ranks:
        said = cluster.log_of(f"agent-{rank}", 100_000)
        for event in ("takes over", "obeys term 1", f"members {len(ranks)}"):
            check(event in said, f"the log of agent {rank} does not tell: {event}")
        finished = len(re.findall(r" move \d+ .* finished bytes", said))
        told += finished
        check(len(said.splitlines()) <= finished + 20, f"{len(said.splitlines())} lines of agent {rank} for {finished} moves")
    check_equal(told, moves, "moves that the agents' logs tell")


def serve_and_move(transport: str):
    options = cases.options(ranks=4, config=CONFIG, agent_flags=[f"--transport={transport}"])
    with Cluster(options) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        wait_for("load to be counted", lambda: cluster.group()["imbalance_now"] > 0, 60)
        operations = rearrange_until(cluster, MOVES, seconds=120)
        before = cluster.engine_total("checked_tokens")
        wait_for("tokens checked after the last move", lambda: cluster.engine_total("checked_tokens") > before, 60)
        totals = cluster.totals()
        check_logs(cluster, operations, totals["moves"])
        statuses = cluster.stop_engines()
        cluster.check_text()
        check_equal(set(statuses.values()), {0}, "exit statuses of the engines")
        check(totals["moves"] >= MOVES, f"{totals['moves']} moves")
        check(totals["bytes_moved"] > 0, "no bytes were moved")
        check_equal(totals["fingerprint_failures"], 0, "fingerprint failures")


@case
def local_moves_leave_the_text_as_it_is():
    serve_and_move("local")


@case
def ucx_moves_leave_the_text_as_it_is():
    serve_and_move("ucx")


if __name__ == "__main__":
    sys.exit(cases.main())
