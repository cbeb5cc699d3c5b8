# SPDX-License-Identifier: Apache-2.0
"""A guard over real engines: their step times reach it, and it holds moves without keeping operators from theirs."""

import sys
import time

import cases
from cases import case, check, check_equal
from cluster import Cluster, wait_for

# No engine takes steps of a microsecond: all are above the budget by themselves.
CONFIG = {"defaults": {"guard": {"step_time_p99_max_us": 1, "slowdown_max": 100, "window_ms": 1000},
                       "freeze": ["daily 00:00-12:00", "daily 12:00-24:00"], "placement_interval_ms": 500}}


@case
def engines_above_the_budget_are_moved_slowly_and_a_frozen_group_only_when_asked():
    with Cluster(cases.options(ranks=4, config=CONFIG)) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        wait_for("the guard to see steps", lambda: cluster.group()["guard"]["step_time_p99_us"] > 1, 30)
        wait_for("load to be counted", lambda: cluster.group()["imbalance_now"] > 0, 60)
        wait_for("the engines to be taken for slow", lambda: cluster.group()["guard"]["pace"] == "slow", 30)
        guard = cluster.group()["guard"]
        check(0 < guard["step_time_p50_us"] <= guard["step_time_p99_us"], f"{guard}")
        time.sleep(2)  # several times the slow loop's interval
        totals = cluster.totals()
        check_equal((totals["moves"], totals["shares_updates"]), (0, 0), "what a frozen group does by itself")
        check(cluster.group()["held"].startswith("frozen until "), cluster.group()["held"])
        told = cluster.keelctl("explain", f"--group={cluster.options.group}")
        check("frozen until " in told and "moves are slow" in told, told)
        operation = cluster.rearrange(policy="greedy")
        check_equal(operation["state"], "OPERATION_STATE_DONE", "the rearrangement that was asked for")
        check(cluster.totals()["moves"] > 0, "no moves")
        statuses = cluster.stop_engines()
        cluster.check_text()
        check_equal(set(statuses.values()), {0}, "exit statuses of the engines")


if __name__ == "__main__":
    sys.exit(cases.main())
