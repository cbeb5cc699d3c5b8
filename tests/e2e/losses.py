# SPDX-License-Identifier: Apache-2.0
"""Engines and agents that are killed, come back, are added and drained, while the others serve.

Real processes, killed by kill -9 at seeded moments. What survivors write stays identical with reroute and wait, what is
dropped is counted with drop; nobody who lives is expelled.
"""

import os
import random
import subprocess
import sys
import time

import cases
from cases import case, check, check_equal
from cluster import Cluster, wait_for
from proxy import Proxy

RANKS = 8
# Maps change for losses alone, so that the default placement says how often each expert is there.
QUIET = {"defaults": {"placement_enabled": False, "shares_interval_ms": 500}}
# Small batches: eight engines share what processors there are.
SERVING = ["--batch=8", "--prompt_bytes=32", "--decode_bytes=16", "--tokens_per_second_max=300", "--answer_seconds=60"]
SLOTS_OF_COPIES = {2: 16, 3: 24, 5: 40}  # slots a rank for so many copies of each expert, on as many ranks


def seeded() -> random.Random:
    seed = int(os.environ.get("EVENKEEL_SEED", "20261123"))
    print(f"seed {seed}")
    return random.Random(seed)


def group_of(copies: int, on_loss: str, config: dict | None = None, **kwargs) -> Cluster:
    redundant = SLOTS_OF_COPIES[copies] * RANKS - 64
    options = cases.options(ranks=RANKS, redundant=redundant, config=config or QUIET,
                            engine_flags=[*SERVING, f"--on_loss={on_loss}", "--check=full"], **kwargs)
    return Cluster(options)


def await_lost(cluster: Cluster, ranks, seconds: float = 30):
    """The view lacks `ranks` and no others that run, and the maps no longer name them."""
    def lost():
        standings = cluster.standings()
        return all(standings.get(rank) in ("lost", "left") for rank in ranks)

    wait_for(f"ranks {sorted(ranks)} to be lost", lost, seconds)
    for rank in cluster.running():
        check_equal(cluster.standings()[rank], "serving", f"standing of rank {rank}, which lives")


def await_progress(cluster: Cluster, seconds: float = 60):
    """Every engine that runs goes on to compute and to check tokens."""
    before = {rank: cluster.engine_status(rank).get("checked_tokens", 0) for rank in cluster.running()}
    wait_for("all engines to go on", lambda: all(
        cluster.engine_status(rank).get("checked_tokens", 0) > tokens for rank, tokens in before.items()), seconds)


def check_survivors(cluster: Cluster, dropped: bool = False):
    cluster.check_alive()
    cluster.check_text()
    for rank in cluster.running():
        status = cluster.engine_status(rank)
        check(dropped or not status["dropped_tokens"], f"rank {rank} dropped {status['dropped_tokens']} tokens")


def kill_at_a_seeded_moment(cluster: Cluster, rng: random.Random, ranks: list[int]):
    wait_for("a moment to pass", lambda: rng.random() < 0.1, 10, interval=0.02)
    cluster.kill_ranks(*ranks)
    print(f"killed {ranks}", flush=True)


def lose(copies: int, num_killed: int, on_loss: str):
    rng = seeded()
    with group_of(copies, on_loss) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        victims = rng.sample(range(RANKS), num_killed)
        kill_at_a_seeded_moment(cluster, rng, victims)
        await_lost(cluster, victims)
        await_progress(cluster)
        check_survivors(cluster, dropped=on_loss == "drop")
        if on_loss != "drop":
            for rank in cluster.running():
                check_equal(cluster.engine_status(rank)["aborted_steps"], 0, f"steps of rank {rank} that were given up")


@case
def one_of_eight_is_lost_and_survivors_reroute():
    lose(copies=2, num_killed=1, on_loss="reroute")


@case
def two_of_eight_are_lost_at_once_and_survivors_reroute():
    lose(copies=3, num_killed=2, on_loss="reroute")


@case
def four_of_eight_are_lost_at_once_and_survivors_reroute():
    lose(copies=5, num_killed=4, on_loss="reroute")


@case
def an_engine_ends_in_mid_step_and_what_was_sent_to_it_is_dropped_and_counted():
    with group_of(2, "drop") as cluster:
        cluster.start_controller()
        for rank in range(RANKS):
            cluster.start_engine(rank, "--fail_rank=5", "--fail_after_steps=60", "--fail_as=exit")
            cluster.start_agent(rank)
        cluster.wait_until_serving()
        engine = cluster.processes["engine-5"]
        check_equal(engine.wait(timeout=90), 3, "exit status of the engine")
        cluster.processes.pop("engine-5")
        cluster.stop("agent-5")
        await_lost(cluster, [5])
        await_progress(cluster)
        check_survivors(cluster, dropped=True)
        copies = sum(cluster.engine_status(rank)["dropped_copies"] for rank in cluster.running())
        tokens = sum(cluster.engine_status(rank)["dropped_tokens"] for rank in cluster.running())
        check(0 < tokens <= copies, f"{tokens} tokens dropped, for {copies} experts")
        # Every expert is on another rank too: once the rank is lost nothing more is dropped.
        await_progress(cluster)
        check_equal(sum(cluster.engine_status(rank)["dropped_copies"] for rank in cluster.running()), copies,
                    "copies dropped later")


@case
def ranks_are_lost_twice_in_a_row_in_mid_rollout_and_come_back():
    rng = seeded()
    config = {"defaults": {"placement_enabled": False, "shares_interval_ms": 500, "wave_deadline_ms": 10000}}
    with group_of(5, "wait", config, agent_flags=["--bytes_per_second=150000"]) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        binary = str(cluster.options.binaries.keelctl)
        request = subprocess.Popen([binary, f"--controller={cluster.address}", "rearrange", "--policy=deepseek",
                                    f"--group={cluster.options.group}"], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        victims = rng.sample(range(RANKS), 4)
        try:
            for pair in (victims[:2], victims[2:]):
                wait_for("a slot to be written", lambda: any(cluster.slots_writing().values()), 60, interval=0.01)
                kill_at_a_seeded_moment(cluster, rng, pair)
        finally:
            request.kill()
            request.wait()
        await_lost(cluster, victims)
        await_progress(cluster)
        check_survivors(cluster)
        cluster.join(*victims)
        wait_for("the dead to serve again", lambda: all(
            cluster.standings()[rank] == "serving" and cluster.engine_status(rank).get("tokens", 0)
            for rank in victims), 90)
        await_progress(cluster)
        check_survivors(cluster)


@case
def protection_is_back_after_a_loss_and_after_the_rank_is_back_whatever_the_policy():
    config = {"defaults": {"policy": "greedy", "shares_interval_ms": 500, "survive": {"ranks": 1}}}
    with group_of(2, "reroute", config) as cluster:
        cluster.options.redundant = 18 * RANKS - 64  # two slots a rank more than protection takes
        cluster.start()
        cluster.wait_until_serving()
        kill = seeded().randrange(RANKS)
        wait_for("every expert to be protected", lambda: not cluster.experts_at_risk(), 60)
        cluster.kill_ranks(kill)
        # Seven ranks have 126 slots, two fewer than two for each expert.
        await_lost(cluster, [kill])
        wait_for("all but two to be protected", lambda: cluster.settled() and len(cluster.experts_at_risk()) <= 2 * 4, 60)
        cluster.join(kill)
        wait_for("the rank to serve", lambda: cluster.standings()[kill] == "serving", 60)
        wait_for("every expert to be protected again", lambda: cluster.settled() and not cluster.experts_at_risk(), 60)
        await_progress(cluster)
        check_survivors(cluster)


@case
def a_group_grows_to_ten_ranks_and_is_drained_to_six_under_traffic():
    config = {"defaults": {"shares_interval_ms": 500}}
    with group_of(2, "reroute", config, ranks_max=10) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        cluster.join(8, 9)
        operation = cluster.admit(8, 9)
        check_equal(operation["state"], "OPERATION_STATE_DONE", f"admission: {operation}")
        wait_for("the new ranks to be asked", lambda: all(
            cluster.engine_status(rank).get("served_rows", 0) for rank in (8, 9)), 90)
        await_progress(cluster)
        check_survivors(cluster)
        leaving = [1, 3, 8, 9]
        operation = cluster.drain(*leaving, grace="1")
        check_equal(operation["state"], "OPERATION_STATE_DONE", f"drain: {operation}")
        check_equal({cluster.standings()[rank] for rank in leaving}, {"left"}, "standings of the drained")
        statuses = {rank: (cluster.stop(f"engine-{rank}"), cluster.stop(f"agent-{rank}")) for rank in leaving}
        check_equal({status for status, _ in statuses.values()}, {0}, "exit statuses of the drained engines")
        await_progress(cluster)
        check_survivors(cluster)


@case
def the_controller_is_killed_between_an_end_and_its_answer_and_its_successor_finds_out():
    rng = seeded()
    with group_of(2, "reroute", {**QUIET, "listen_interval_ms": 300}) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        victim = rng.randrange(RANKS)
        cluster.kill_ranks(victim)
        wait_for("a moment to pass", lambda: rng.random() < 0.3, 5, interval=0.02)
        cluster.kill("controller")
        time_down = time.monotonic()
        cluster.start_controller()
        await_lost(cluster, [victim], seconds=60)
        print(f"rank {victim} was lost {time.monotonic() - time_down:.2f} s after the controller")
        await_progress(cluster)
        check_survivors(cluster)


@case
def a_partition_between_one_agent_and_the_controller_expels_nobody():
    with group_of(2, "reroute") as cluster:
        cluster.start_controller()
        with Proxy(cluster.address) as proxy:
            for rank in range(RANKS):
                cluster.start_engine(rank)
            for rank in range(RANKS):
                cluster.agents_call = proxy.address if rank == 3 else ""
                cluster.start_agent(rank)
            cluster.wait_until_serving()
            view = cluster.group()["view"]
            proxy.cut()
            time.sleep(8)  # more than twice a lease
            await_progress(cluster)
            check_equal(cluster.group()["view"], view, "the view while an agent was away")
            proxy.heal()
            wait_for("the agent to be back", lambda: all(
                member["attached"] for member in cluster.group()["members"][:RANKS]), 60)
            wait_for("the group to settle", cluster.settled, 60)
            check_survivors(cluster)
            cluster.stop_engines()


@case
def an_engine_that_announced_its_pause_is_not_expelled():
    # Unannounced, the pause would be four times what is taken for silence, and all others wait for the rank.
    config = {"defaults": {**QUIET["defaults"], "engine_lease_ms": 2000}}
    with group_of(2, "reroute", config) as cluster:
        cluster.start_controller()
        for rank in range(RANKS):
            cluster.start_engine(rank, "--fail_rank=2", "--fail_after_steps=60", "--fail_as=pause", "--fail_seconds=8")
            cluster.start_agent(rank)
        cluster.wait_until_serving()
        wait_for("others to wait for it", lambda: cluster.engine_status(0).get("waiting_for") == 2, 60)
        await_progress(cluster)
        check_equal(set(cluster.standings().values()), {"serving"}, "standings after the pause")
        check_survivors(cluster)


if __name__ == "__main__":
    sys.exit(cases.main())
