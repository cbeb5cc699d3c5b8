# SPDX-License-Identifier: Apache-2.0
"""One group over four hosts, each a network of its own: it is rearranged, a host is cut off, a host dies.

Two ranks a host. Controller, agents and what they move go through the hosts' networks; the reference engines exchange
tokens among themselves by sockets of the file system, as engines have a fabric of their own.
"""

import subprocess
import sys
import time

import cases
from cases import case, check, check_equal
from cluster import Cluster, wait_for
from hosts_of_namespaces import Hosts, unavailable

HOSTS, RANKS_A_HOST = 4, 2
RANKS = HOSTS * RANKS_A_HOST
MOVES = 200
SERVING = ["--batch=8", "--prompt_bytes=32", "--decode_bytes=16", "--tokens_per_second_max=300", "--answer_seconds=60"]
OPERATED = {"placement_enabled": False, "shares_interval_ms": 500}


def host_of(rank: int) -> int:
    return rank // RANKS_A_HOST


class Group(Cluster):
    """A cluster whose agents live in the hosts, and the controller where all can reach it."""

    def __init__(self, hosts: Hosts, slots_per_rank: int, defaults: dict | None = None, agent_flags: tuple = ()):
        super().__init__(cases.options(
            ranks=RANKS, redundant=slots_per_rank * RANKS - 64, config={"defaults": {**OPERATED, **(defaults or {})}},
            engine_flags=[*SERVING, "--on_loss=reroute", "--check=full"], agent_flags=[*agent_flags],
            listen_host=hosts.bridge_address))
        self.hosts = hosts

    def start_agent(self, rank: int, *extra, before: list | None = None):
        host = host_of(rank)
        super().start_agent(rank, f"--host_name=host-{host}", *extra, before=[
            *self.hosts.command(host), "env", "UCX_TLS=tcp,self", "UCX_NET_DEVICES=eth0", *(before or [])])

    def begin_rearranging(self, policy: str) -> subprocess.Popen:
        return subprocess.Popen([str(self.options.binaries.keelctl), f"--controller={self.address}", "rearrange",
                                 f"--group={self.options.group}", f"--policy={policy}"],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def moves_to(self, moves: int, seconds: float = 240):
        """Rearranges to one policy's placement and another's in turn."""
        deadline, turn = time.monotonic() + seconds, 0
        while (done := self.totals()["moves"]) < moves:
            check(time.monotonic() < deadline, f"only {done} of {moves} moves within {seconds:g} s")
            self.rearrange(policy=("deepseek", "greedy")[turn % 2], timeout=seconds)
            self.check_alive()
            turn += 1


def await_checked(cluster: Cluster):
    """Every engine that runs goes on to compute and to check tokens."""
    before = {rank: cluster.engine_status(rank).get("checked_tokens", 0) for rank in cluster.running()}
    wait_for("all engines to go on", lambda: all(
        cluster.engine_status(rank).get("checked_tokens", 0) > tokens for rank, tokens in before.items()), 60)


@case
def experts_move_between_four_hosts_and_the_text_stays():
    with Hosts(HOSTS) as hosts, Group(hosts, slots_per_rank=9) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        before = [hosts.bytes_out(host) for host in range(HOSTS)]
        cluster.moves_to(MOVES)
        wait_for("the group to settle", cluster.settled, 60)
        sent = [hosts.bytes_out(host) - bytes for host, bytes in zip(range(HOSTS), before)]
        totals = cluster.totals()
        print(f"{totals['moves']} moves, {totals['bytes_moved']} bytes; sent by hosts {sent}")
        check(sum(sent) > 0.5 * totals["bytes_moved"], f"{sum(sent)} bytes left the hosts for {totals['bytes_moved']} moved")
        check_equal(totals["fingerprint_failures"], 0, "fingerprint failures")
        await_checked(cluster)
        cluster.stop_engines()
        cluster.check_text()


@case
def a_host_is_cut_off_in_mid_rollout_and_comes_back():
    # Slow moves, so that the cut lands inside them.
    with Hosts(HOSTS) as hosts, Group(hosts, 9, {"wave_deadline_ms": 20000}, ("--bytes_per_second=300000",)) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        view = cluster.group()["view"]
        with cluster.begin_rearranging("deepseek") as request:
            try:
                wait_for("a move to be under way", lambda: sum(cluster.slots_writing().values()), 60, interval=0.01)
                hosts.cut(3)
            finally:
                request.kill()
        time.sleep(8)  # more than twice a lease
        await_checked(cluster)
        check_equal(cluster.group()["view"], view, "the view while a host was away")
        attached = [member["attached"] for member in cluster.group()["members"]]
        check_equal(attached, [host_of(rank) != 3 for rank in range(RANKS)], "who is attached while host 3 is away")
        hosts.heal(3)
        wait_for("its agents to be back", lambda: all(m["attached"] for m in cluster.group()["members"]), 60)
        wait_for("the group to settle", cluster.settled, 120)
        cluster.rearrange(policy="deepseek", timeout=240)
        cluster.moves_to(cluster.totals()["moves"] + 20)
        check_equal(cluster.group()["view"], view, "the view at the end")
        await_checked(cluster)
        cluster.stop_engines()
        cluster.check_text()


@case
def a_host_dies_with_its_network_and_no_expert_is_lost():
    with Hosts(HOSTS) as hosts, Group(hosts, 24, {"survive": {"hosts": 1}, "placement_enabled": True,
                                                  "placement_interval_ms": 2000}) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        wait_for("every expert to be on two hosts", lambda: not cluster.experts_at_risk(), 120, interval=1)
        dead = [rank for rank in range(RANKS) if host_of(rank) == 2]
        hosts.cut(2)  # first, so that nothing on the host can tell of the end
        cluster.kill_ranks(*dead)
        started = time.monotonic()
        wait_for(f"ranks {dead} to be lost", lambda: all(cluster.standings()[rank] == "lost" for rank in dead), 60)
        print(f"lost {time.monotonic() - started:.2f} s after their host")
        for rank in cluster.running():
            check_equal(cluster.standings()[rank], "serving", f"standing of rank {rank}, which lives")
        lost = [layer["experts_lost"] for layer in cluster.group()["layers"] if layer.get("experts_lost")]
        check_equal(lost, [], "experts lost with the host")
        await_checked(cluster)
        cluster.stop_engines()
        cluster.check_text()


if __name__ == "__main__":
    if reason := unavailable():
        print(f"skipped: {reason}\n0 passed, 0 failed")
        sys.exit(0)
    sys.exit(cases.main())
