# SPDX-License-Identifier: Apache-2.0
"""Experts whose last rank is killed come back from a pool or a snapshot, whatever became of either, under traffic.

Eight ranks of which each holds, of every layer, six experts that nobody else has. Engines wait (rule 25), so that text
stays identical throughout.
"""

import mmap
import pathlib
import re
import resource
import sys

import cases
from cases import case, check, check_equal
from cluster import NUM_EXPERTS, NUM_LAYERS, Cluster, wait_for

RANKS = 8
SLOTS = 10  # the seven that stay have six slots to spare, as many as are needed
ALONE = 6  # experts of a layer that only one rank holds: those before and after share two each
VICTIM = 3
LOST = [VICTIM * RANKS + 2 + i for i in range(ALONE)]
SERVING = ["--batch=8", "--prompt_bytes=32", "--decode_bytes=16", "--tokens_per_second_max=200", "--answer_seconds=60",
           "--check=full"]


def group_of(agent: dict, on_loss: str = "wait") -> Cluster:
    config = {"defaults": {"placement_enabled": False, "shares_interval_ms": 500, "agent": agent}}
    return Cluster(cases.options(ranks=RANKS, redundant=RANKS * SLOTS - NUM_EXPERTS, config=config, engine_flags=[
        *SERVING, f"--on_loss={on_loss}", "--drop_seconds=300"]))


def serve_with_snapshots(cluster: Cluster) -> pathlib.Path:
    folder = cluster.run_dir / "snapshot"
    folder.mkdir()
    cluster.options.config["defaults"]["agent"]["snapshot_directory"] = str(folder)
    return folder


def await_text(cluster: Cluster):
    cluster.wait_until_serving()
    wait_for("text to be checked", lambda: cluster.engine_total("checked_tokens"), 60)


def start(cluster: Cluster):
    cluster.start()
    await_text(cluster)


def logs_with(cluster: Cluster, pattern: str) -> list[re.Match]:
    """The first match in each agent's log."""
    logs = (path.read_text(errors="replace") for path in sorted(cluster.run_dir.glob("agent-*.log")))
    return [match for log in logs if (match := re.search(pattern, log))]


def await_pool(cluster: Cluster):
    wait_for("the pool to hold all", lambda: len(logs_with(cluster, "holds all that this rank is to fill in")) == RANKS, 90)


def snapshot_files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.rglob("*.snapshot"))


def experts_in(files: list[pathlib.Path]) -> set[tuple[int, int]]:
    found = set()
    for path in files:
        layer, first, last = map(int, re.match(r"layer-(\d+)\.experts-(\d+)-(\d+)\.", path.name).groups())
        found |= {(layer, expert) for expert in range(first, last + 1)}
    return found


def await_snapshot(folder: pathlib.Path, seconds: float = 90):
    wait_for("the snapshot to hold all",
             lambda: len(experts_in(snapshot_files(folder))) == NUM_LAYERS * NUM_EXPERTS, seconds)


def experts_lost(cluster: Cluster) -> list[list[int]]:
    return [layer.get("experts_lost", []) for layer in cluster.group()["layers"]]


def await_restored(cluster: Cluster, seconds: float = 60):
    """The victim is out, every expert has a live slot again, and everybody goes on with the right text."""
    wait_for("the view without the victim", lambda: cluster.standings().get(VICTIM) == "lost", 30)
    wait_for("every expert to live", cluster.fully_replicated, seconds)
    before = {rank: cluster.engine_status(rank).get("checked_tokens", 0) for rank in cluster.running()}
    wait_for("all engines to go on", lambda: all(
        cluster.engine_status(rank).get("checked_tokens", 0) > tokens for rank, tokens in before.items()), 60)
    cluster.check_alive()
    cluster.check_text()
    check_equal(cluster.engine_total("dropped_tokens"), 0, "tokens that were dropped")
    for rank in cluster.running():
        check_equal(cluster.standings()[rank], "serving", f"standing of rank {rank}, which lives")


def damage(path: pathlib.Path, begin: int, every: int):
    """Another bit in every so many bytes, in place."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        for at in range(begin, len(data), every):
            data[at] ^= 1


@case
def the_only_replicas_are_killed_and_come_back_from_the_pool_while_engines_wait():
    with group_of({"pool_gb_per_host": 0.05}) as cluster:
        start(cluster)
        await_pool(cluster)
        before = cluster.totals().get("moves", 0)
        cluster.kill_ranks(VICTIM)
        await_restored(cluster)
        check(cluster.totals()["moves"] - before >= ALONE * NUM_LAYERS, f"totals {cluster.totals()}")
        check(sum(cluster.engine_status(rank)["aborted_steps"] for rank in cluster.running()), "nobody waited")
        cluster.stop_engines()


@case
def a_damaged_pool_is_found_out_and_the_snapshot_is_read_instead():
    with group_of({"pool_gb_per_host": 0.05}) as cluster:
        folder = serve_with_snapshots(cluster)
        start(cluster)
        await_pool(cluster)
        await_snapshot(folder)
        pool, num_frames, num_bytes = logs_with(cluster, r"uses pool (\S+) of (\d+) experts, (\d+) bytes")[0].groups()
        frame_bytes = int(num_bytes) // int(num_frames) // 4096 * 4096
        check_equal(int(num_frames), NUM_LAYERS * NUM_EXPERTS, "experts in the pool")
        path = pathlib.Path(pool)
        damage(path if path.exists() else cluster.region_dir / path.name,
               int(num_bytes) - int(num_frames) * frame_bytes + 100, frame_bytes)
        cluster.kill_ranks(VICTIM)
        await_restored(cluster)
        cluster.stop_engines()


@case
def a_full_disk_costs_the_snapshot_alone_and_is_made_up_for_once_there_is_room():
    with group_of({}) as cluster:
        folder = serve_with_snapshots(cluster)
        cluster.start_controller()
        # As on a full disk, no file grows beyond what logs need.
        room = ["sh", "-c", 'trap "" XFSZ; ulimit -S -f 64; exec "$@"', "sh"]
        for rank in range(RANKS):
            cluster.start_engine(rank)
            cluster.start_agent(rank, before=room)
        await_text(cluster)
        wait_for("all agents to have said so", lambda: len(logs_with(cluster, "snapshot: RESOURCE_EXHAUSTED")) == RANKS, 60)
        check_equal(snapshot_files(folder), [], "files under their final names")
        cluster.check_alive()
        cluster.check_text()
        for rank in range(RANKS):
            pid = cluster.processes[f"agent-{rank}"].pid
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await_snapshot(folder)  # looked at every 30 s
        cluster.kill_ranks(VICTIM)
        await_restored(cluster)
        cluster.stop_engines()


@case
def experts_whose_snapshot_is_damaged_stay_lost_and_named_until_it_is_put_right():
    with group_of({}) as cluster:
        folder = serve_with_snapshots(cluster)
        start(cluster)
        await_snapshot(folder)
        whole = {path: path.read_bytes() for path in snapshot_files(folder)}
        for path in whole:
            damage(path, 4096, 4096)
        cluster.kill_ranks(VICTIM)
        wait_for("the lost to be named", lambda: experts_lost(cluster) == [LOST] * NUM_LAYERS, 30)
        wait_for("an attempt to fail", lambda: cluster.totals().get("moves_failed", 0), 30)
        check_equal(experts_lost(cluster), [LOST] * NUM_LAYERS, "experts lost after attempts")
        told = cluster.keelctl("check", f"--group={cluster.options.group}", check=False)
        check("lost" in told and str(LOST[0]) in told, f"keelctl check: {told}")
        cluster.check_alive()
        cluster.check_text()  # waiting, not serving what was damaged
        for path, data in whole.items():
            path.write_bytes(data)
        await_restored(cluster, seconds=120)  # tried every 30 s at the latest
        cluster.stop_engines()


def versions_in(folder: pathlib.Path) -> dict[str, set[tuple[int, int]]]:
    """What each version's folder of the snapshot holds."""
    return {child.name: experts_in(snapshot_files(child)) for child in folder.iterdir() if child.is_dir()}


def new_weights_then_lose(source: str):
    """All ranks take version 2, stores follow, and experts that nobody else has come back from `source`."""
    with group_of({"pool_gb_per_host": 0.05} if source == "pool" else {}) as cluster:
        folder = serve_with_snapshots(cluster) if source == "snapshot" else None
        start(cluster)
        await_snapshot(folder) if folder else await_pool(cluster)
        old = set(versions_in(folder)) if folder else set()
        cluster.reload(2, *range(RANKS))
        wait_for("all ranks to have version 2", lambda: all(
            cluster.engine_status(rank).get("weights_version") == 2 and not cluster.engine_status(rank)["suspended"]
            for rank in range(RANKS)), 60)
        if folder:
            wait_for("a snapshot of version 2 beside the old one", lambda: [
                found for name, found in versions_in(folder).items()
                if name not in old and len(found) == NUM_LAYERS * NUM_EXPERTS], 90)
        else:
            filled = "holds all that this rank is to fill in"
            wait_for("a pool of version 2", lambda: all(
                path.read_text(errors="replace").count(filled) == 2 for path in cluster.run_dir.glob("agent-*.log")), 90)
        cluster.kill_ranks(VICTIM)
        await_restored(cluster)
        cluster.stop_engines()


@case
def after_new_weights_experts_come_back_from_a_pool_of_these():
    new_weights_then_lose("pool")


@case
def after_new_weights_experts_come_back_from_a_snapshot_of_these():
    new_weights_then_lose("snapshot")


if __name__ == "__main__":
    sys.exit(cases.main())
