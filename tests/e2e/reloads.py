# SPDX-License-Identifier: Apache-2.0
"""Engines that are suspended, read their weights anew as another version and resume, while the others serve.

Real processes. The weights are the same ones under another version: text stays identical, every slot's stamps name the
version that its engine serves, and fingerprints, of which the version is a part, tell if anything was copied between two.
"""

import subprocess
import sys
import time

import cases
from cases import case, check, check_equal
from cluster import Cluster, wait_for

RANKS = 4
ALL = range(RANKS)
QUIET = {"defaults": {"placement_enabled": False, "shares_interval_ms": 500}}
SERVING = ["--batch=8", "--prompt_bytes=32", "--decode_bytes=16", "--tokens_per_second_max=300", "--answer_seconds=60",
           "--check=full"]


def group_of(**kwargs) -> Cluster:
    return Cluster(cases.options(ranks=RANKS, redundant=3 * RANKS, config=QUIET, engine_flags=SERVING, **kwargs))


def await_version(cluster: Cluster, version: int, *ranks: int, seconds: float = 60):
    wait_for(f"ranks {ranks} to have version {version}", lambda: all(
        cluster.engine_status(rank).get("weights_version") == version and not cluster.engine_status(rank)["suspended"]
        for rank in ranks), seconds)
    wait_for("the controller to know", lambda: all(
        {status.get("rank", 0): status for status in cluster.membership()["ranks"]}[rank].get("weights_version") == version
        for rank in ranks), seconds)


def await_progress(cluster: Cluster, seconds: float = 60):
    before = {rank: cluster.engine_status(rank).get("checked_tokens", 0) for rank in cluster.running()}
    wait_for("all engines to go on", lambda: all(
        cluster.engine_status(rank).get("checked_tokens", 0) > tokens for rank, tokens in before.items()), seconds)


def check_moves(cluster: Cluster):
    """A rearrangement of everything ends well, with moves."""
    before = cluster.totals().get("moves", 0)
    operation = cluster.rearrange(policy="random")
    check_equal(operation["state"], "OPERATION_STATE_DONE", f"rearrangement: {operation}")
    check(cluster.totals().get("moves", 0) > before, f"nothing was moved: {operation}")


def check_whole(cluster: Cluster):
    """Text as before, and no copy that did not match what it was to be."""
    cluster.check_alive()
    cluster.check_text()
    check_equal(cluster.totals().get("fingerprint_failures", 0), 0, "fingerprint failures")
    check_equal(set(cluster.standings().values()), {"serving"}, "standings")


def background(cluster: Cluster) -> subprocess.Popen:
    binary = str(cluster.options.binaries.keelctl)
    return subprocess.Popen([binary, f"--controller={cluster.address}", "rearrange", "--policy=random",
                             f"--group={cluster.options.group}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@case
def all_ranks_reload_under_traffic_with_moves_before_and_after():
    with group_of() as cluster:
        cluster.start()
        cluster.wait_until_serving()
        check_moves(cluster)
        for version in (2, 3):
            cluster.reload(version, *ALL)
            await_version(cluster, version, *ALL)
            await_progress(cluster)
            check_moves(cluster)
        check_whole(cluster)
        print("ms until suspended:", [cluster.engine_status(rank)["suspend_ms"] for rank in ALL])


@case
def ranks_reload_one_after_the_other_in_the_middle_of_moves():
    with group_of(agent_flags=["--bytes_per_second=300000"]) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        request = background(cluster)
        try:
            for rank in ALL:
                if rank == 0:
                    wait_for("a slot to be written", lambda: any(cluster.slots_writing().values()), 60, interval=0.01)
                cluster.reload(2, rank)
                await_version(cluster, 2, rank)
            check_equal(request.wait(timeout=120), 0, "exit status of the rearrangement")
        finally:
            request.kill()
            request.wait()
        await_progress(cluster)
        check_whole(cluster)


@case
def an_agent_is_killed_while_its_engine_is_suspended_and_another_goes_on():
    with group_of() as cluster:
        cluster.start()
        cluster.wait_until_serving()
        cluster.reload(2, 1, seconds=6)
        wait_for("rank 1 to be suspended", lambda: any(
            status.get("rank", 0) == 1 and status.get("suspended") for status in cluster.membership()["ranks"]), 30)
        cluster.kill("agent-1")
        time.sleep(1)
        cluster.start_agent(1)
        # One whose agent is gone when it asks: it is suspended all the same.
        cluster.kill("agent-2")
        cluster.reload(2, 2)
        wait_for("rank 2 to go on alone", lambda: cluster.engine_status(2)["reloads"] == 1, 60)
        cluster.start_agent(2)
        cluster.reload(2, 0, 3)
        await_version(cluster, 2, *ALL)
        await_progress(cluster)
        check_moves(cluster)
        check_whole(cluster)


@case
def one_rank_stays_at_its_version_and_nothing_is_moved_until_it_follows():
    with group_of() as cluster:
        cluster.start()
        cluster.wait_until_serving()
        cluster.reload(2, 0, 2, 3)
        await_version(cluster, 2, 0, 2, 3)
        before = cluster.totals().get("moves", 0)
        request = background(cluster)
        try:
            alert = wait_for("an alert", lambda: [
                alert["text"] for alert in cluster.group().get("alerts", []) if "weights versions differ" in alert["text"]], 60)[-1]
            check("version 2 on ranks 0, 2, 3" in alert and " on rank 1" in alert, f"the alert says: {alert}")
            text = cluster.keelctl("check", f"--group={cluster.options.group}", check=False)
            check("version 2 on ranks 0, 2, 3" in text, f"keelctl check says: {text}")
            text = cluster.keelctl("ranks", f"--group={cluster.options.group}")
            check("has weights version 2" in text, f"keelctl ranks says: {text}")
            await_progress(cluster)
            check_equal(cluster.totals().get("moves", 0), before, "moves while versions differ")
            cluster.reload(2, 1)
            check_equal(request.wait(timeout=120), 0, "exit status of the rearrangement")
        finally:
            request.kill()
            request.wait()
        check(cluster.totals().get("moves", 0) > before, "nothing was moved afterwards")
        await_progress(cluster)
        check_whole(cluster)


@case
def ranks_reload_without_a_controller_and_its_successor_finds_one_version():
    with group_of() as cluster:
        cluster.start()
        cluster.wait_until_serving()
        check_moves(cluster)
        cluster.kill("controller")
        cluster.reload(2, *ALL)
        wait_for("all to have reloaded", lambda: all(cluster.engine_status(rank)["reloads"] == 1 for rank in ALL), 60)
        cluster.start_controller()
        wait_for("the group to form", lambda: (group := cluster.group()) and not group["forming"], 60)
        await_version(cluster, 2, *ALL)
        await_progress(cluster)
        check_moves(cluster)
        check_whole(cluster)


if __name__ == "__main__":
    sys.exit(cases.main())
