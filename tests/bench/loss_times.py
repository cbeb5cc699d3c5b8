# SPDX-License-Identifier: Apache-2.0
"""What a lost rank costs, measured on real processes: eight reference engines serve TinyMoE and one is lost.

A new group for each loss.

    deploy/bazel.sh build --config=opt //tests/e2e:binaries
    python3 tests/bench/loss_times.py [--kills 20] [--prebuilt bazel-bin] [--write docs/membership.md]

For each way to be lost: milliseconds from the kill until all survivors' steps see the word that says so, until the newest
maps of all lack the rank, and until all have begun a step by such maps; read from the regions a thousand times a second;
and until every expert has a live replica again, as the controller's clock and its operation say.
Where engine and agent are stopped, and nobody sees an end, they are counted from the second witness, which is when a
second survivor says that it waits; the agent's lease (3 s) has to run out as well. Then the bytes that
were moved until no operation ran, beside the least that could have been; the survivors' imbalance; and their tokens that
were dropped. Three copies of each expert are all that most ways have; where it is restored from a pool or a snapshot the lost rank
alone held six experts of each layer. --write replaces what stands between the marks `<!-- loss_times -->` of a file.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "deploy")]
from cluster import NUM_EXPERTS, NUM_LAYERS, Binaries, Cluster, Options, wait_for  # noqa: E402

RANKS = 8
SLOTS = 24  # three copies of each expert
SLOTS_ALONE = 10  # of every layer six experts that only one rank holds
LOST_ALONE = 6 * NUM_LAYERS
# Every expert stays on two ranks, also when placements change.
CONFIG = {"defaults": {"shares_interval_ms": 500, "survive": {"ranks": 1}}}
EXPERT_BYTES = 4 * 3 * 128 * 32 + 64  # as the engine has it: three matrices of floats and a stamp
POOL_GB = 0.05
SERVING = ["--batch=8", "--prompt_bytes=32", "--decode_bytes=16", "--tokens_per_second_max=300", "--answer_seconds=60",
           "--check=sample"]
MARK = "<!-- loss_times -->"


def percentile(values: list[float], fraction: float) -> float:
    return sorted(values)[min(len(values) - 1, int(fraction * len(values)))]


class Probe:
    """loss_probe over the regions of the ranks that stay."""

    def __init__(self, cluster: Cluster, victim: int):
        binary = cluster.options.binaries.path("tests/e2e", "loss_probe")
        living = [str(path) for path in cluster.region_dir.glob("evenkeel.*")
                  if int(path.name.split(".")[2]) in set(cluster.running()) - {victim}]
        self._process = subprocess.Popen([str(binary), str(victim), *living], stdout=subprocess.PIPE, text=True)
        if self._process.stdout.readline().strip() != "ready":
            raise RuntimeError("loss_probe did not start")

    def result(self) -> dict:
        text = self._process.stdout.read()
        if self._process.wait() != 0:
            raise RuntimeError("survivors still had the rank after 60 s")
        return json.loads(text)


def operations_end(cluster: Cluster):
    """No operation has run for a second."""
    quiet_since = [time.monotonic()]

    def is_quiet():
        if cluster.group()["running_operation"]:
            quiet_since[0] = time.monotonic()
        return time.monotonic() - quiet_since[0] > 1

    wait_for("operations to end", is_quiet, 120, interval=0.2)


def options_of(binaries: pathlib.Path, way: str, folder: str) -> Options:
    slots, config, on_loss = SLOTS, CONFIG, "reroute"
    if way in ("pool", "snapshot"):
        store = {"pool_gb_per_host": POOL_GB} if way == "pool" else {"snapshot_directory": folder}
        config = {"defaults": {"shares_interval_ms": 500, "placement_enabled": False, "agent": store}}
        slots, on_loss = SLOTS_ALONE, "wait"
    return Options(binaries=Binaries(binaries), model_dir=ROOT / "engine/reference/tinymoe", ranks=RANKS,
                   redundant=slots * RANKS - NUM_EXPERTS, config=config,
                   engine_flags=[*SERVING, f"--on_loss={on_loss}", "--drop_seconds=120"])


def stores_are_full(cluster: Cluster, way: str, folder: str) -> bool:
    if way == "pool":
        logs = [cluster.run_dir / f"agent-{rank}.log" for rank in range(RANKS)]
        return all("holds all that this rank is to fill in" in log.read_text(errors="replace") for log in logs)
    files = pathlib.Path(folder).rglob("*.snapshot")
    spans = [path.name.split(".")[1].removeprefix("experts-").split("-") for path in files]
    return sum(int(last) - int(first) + 1 for first, last in spans) >= NUM_LAYERS * NUM_EXPERTS


def replicated_unix_us(cluster: Cluster, killed_unix_us: float) -> float:
    """When the first emergency since the kill was over."""
    operations = cluster.keelctl_json("operations", "--last=50")["operations"]
    ends = [operation["changed_unix_us"] for operation in operations
            if operation["cause"] == "OPERATION_CAUSE_EMERGENCY" and operation["started_unix_us"] > killed_unix_us
            and operation["state"] == "OPERATION_STATE_DONE" and "every expert has a live replica" in operation["detail"]]
    return min(ends)


def lose_one(cluster: Cluster, victim: int, way: str) -> dict:
    before = cluster.group()
    dropped = cluster.engine_total("dropped_tokens") - cluster.engine_status(victim).get("dropped_tokens", 0)
    probe = Probe(cluster, victim)
    killed_ns, killed_unix_us = time.monotonic_ns(), time.time() * 1e6
    if way == "silent":
        cluster.signal(f"engine-{victim}", signal.SIGSTOP)
        cluster.signal(f"agent-{victim}", signal.SIGSTOP)
    else:
        cluster.kill_ranks(victim, agents=way != "engine")
    result = probe.result()
    from_ns = result["witnessed_ns"] if way == "silent" else killed_ns
    if way == "silent":
        cluster.kill_ranks(victim)
    operations_end(cluster)
    after = cluster.group()
    times = {key: (result[f"{key}_ns"] - from_ns) / 1e6 for key in ("lost", "written", "applied")}
    return {**times, "replicated": (replicated_unix_us(cluster, killed_unix_us) - killed_unix_us) / 1e3 -
            (from_ns - killed_ns) / 1e6, "whole_ms": (time.monotonic_ns() - killed_ns) / 1e6 - 1000,
            "bytes": after["totals"]["bytes_moved"] - before["totals"]["bytes_moved"],
            "imbalance_before": before["imbalance_now"], "imbalance_after": after["imbalance_now"],
            "dropped": sum(cluster.engine_status(rank)["dropped_tokens"] for rank in cluster.running()) - dropped}


def measure(binaries: pathlib.Path, way: str, kills: int) -> list[dict]:
    results = []
    for turn in range(kills):
        with tempfile.TemporaryDirectory() as folder, Cluster(options_of(binaries, way, folder)) as cluster:
            cluster.start()
            cluster.wait_until_serving()
            if way in ("pool", "snapshot"):
                wait_for("the store to hold all", lambda: stores_are_full(cluster, way, folder), 90)
            wait_for("a first window of load", lambda: cluster.group()["imbalance_now"], 60)
            operations_end(cluster)
            results.append(lose_one(cluster, (3 * turn) % RANKS, way))
            print(f"{way} {turn}: {results[-1]}", file=sys.stderr, flush=True)
            cluster.stop_engines()
            for key in ("mismatched_tokens", "stale_slot_uses"):
                if total := cluster.engine_total(key):
                    raise AssertionError(f"{key}: {total}")
    return results


def row(way: str, results: list[dict]) -> str:
    def spread(key):
        values = [result[key] for result in results]
        return f"{percentile(values, 0.5):.0f} / {percentile(values, 0.99):.0f}"

    def median(key):
        return percentile([result[key] for result in results], 0.5)

    name = f"{way}, restored from it" if way in ("pool", "snapshot") else way
    least = LOST_ALONE * EXPERT_BYTES if way in ("pool", "snapshot") else 0
    return (f"| {name} | {len(results)} | {spread('lost')} | {spread('written')} | {spread('applied')} | "
            f"{spread('replicated')} | {spread('whole_ms')} | {median('bytes') / 1e6:.2f} / {least / 1e6:.2f} | {median('imbalance_before'):.3f} -> {median('imbalance_after'):.3f} | "
            f"{sum(result['dropped'] for result in results)} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ways", default="engine and agent,engine,silent,pool,snapshot")
    parser.add_argument("--prebuilt", type=pathlib.Path, default=ROOT / "bazel-bin", help="folder of the programs")
    parser.add_argument("--write", type=pathlib.Path)
    arguments = parser.parse_args()
    lines = ["| lost | kills | word, ms | maps written, ms | maps applied, ms | every expert alive, ms | "
             "all operations over, ms | MB moved / least | imbalance | tokens dropped |", "|---|---|---|---|---|---|---|---|---|---|"]
    for way in arguments.ways.split(","):
        lines.append(row(way, measure(arguments.prebuilt, way, arguments.kills)))
    lines.append(f"\n{RANKS} ranks of {SLOTS} slots, three copies of each expert (pool and snapshot: {SLOTS_ALONE} slots, six of a "
                 f"layer's experts on the lost rank alone); median / 99th percentile; "
                 f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.0f}.")
    text = "\n".join(lines)
    print(text)
    if arguments.write:
        before, _, after = arguments.write.read_text().split(MARK)
        arguments.write.write_text(f"{before}{MARK}\n{text}\n{MARK}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
