# SPDX-License-Identifier: Apache-2.0
"""A stalled engine delays only its own group's waves; a byte flipped in flight is caught and the move retried."""

import signal
import subprocess
import sys
import time

import cases
from cases import case, check, check_equal
from cluster import Cluster, wait_for

QUIET = {"defaults": {"placement_enabled": False, "shares_interval_ms": 500}}
STALL = 5.0


@case
def a_stalled_engine_delays_only_its_own_groups_waves():
    slow = {**QUIET, "groups": {"stalled": {"agent": {"bytes_per_second_max": 200_000}}}}
    with Cluster(cases.options(ranks=3, config=slow, group="stalled")) as cluster, \
            Cluster(cases.options(ranks=2, group="other")) as other:
        cluster.start()
        other.address = cluster.address
        for rank in range(2):
            other.start_engine(rank)
            other.start_agent(rank)
        cluster.wait_until_serving()
        other.wait_until_serving()
        cluster.signal("engine-1", signal.SIGSTOP)
        stalled = time.monotonic()
        binary = str(cluster.options.binaries.keelctl)
        request = subprocess.Popen([binary, f"--controller={cluster.address}", "rearrange", "--group=stalled",
                                    "--policy=deepseek"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # The other group's moves run and end meanwhile.
        operation = other.rearrange(policy="deepseek")
        check_equal(operation["state"], "OPERATION_STATE_DONE", "the other group's rearrangement")
        check(operation["num_moves_done"] > 0, "the other group moved nothing")
        check(time.monotonic() - stalled < STALL, "the other group took as long as the stall")
        while time.monotonic() - stalled < STALL:
            check_equal(cluster.totals()["moves"], 0, "moves while a rank had not quiesced")
            check_equal(sum(cluster.slots_writing().values()), 0, "slots written under a stalled engine")
            time.sleep(0.2)
        blocked = cluster.group()["waves_blocked"]
        check(any(entry["rank"] == 1 for entry in blocked), f"rank 1 is not named as what waves wait for: {blocked}")
        cluster.signal("engine-1", signal.SIGCONT)
        check_equal(request.wait(timeout=120), 0, "exit status of the delayed rearrangement")
        check(cluster.totals()["moves"] > 0, "nothing moved after the stall")
        cluster.stop_engines()
        other.stop_engines()
        cluster.check_text()
        other.check_text()


@case
def a_flipped_byte_is_caught_and_the_move_retried_from_another_source():
    with Cluster(cases.options(ranks=4, redundant=64, config=QUIET)) as cluster:
        cluster.start_controller()
        for rank in range(4):
            cluster.start_engine(rank)
        for rank in range(4):
            # The first transfer of each agent arrives with one byte changed.
            cluster.start_agent(rank, "--fault=flip:1")
        cluster.wait_until_serving()
        operation = cluster.rearrange(policy="deepseek")
        check_equal(operation["state"], "OPERATION_STATE_DONE", "the rearrangement")
        check(operation["num_corrupt"] > 0, f"no mismatch is told: {operation}")
        check(operation["num_moves_done"] > 0, f"no move was done: {operation}")
        check(cluster.totals()["fingerprint_failures"] > 0, "no fingerprint failure is counted")
        wait_for("the group to settle", cluster.settled, 60)
        cluster.stop_engines()
        cluster.check_text()


if __name__ == "__main__":
    sys.exit(cases.main())
