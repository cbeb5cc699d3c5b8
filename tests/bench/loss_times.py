# SPDX-License-Identifier: Apache-2.0
"""What a lost rank costs, measured on real processes: eight reference engines serve TinyMoE and one is lost.

A new group for each loss.

    deploy/bazel.sh build --config=opt //tests/e2e:binaries
    python3 tests/bench/loss_times.py [--kills 20] [--prebuilt bazel-bin] [--write docs/membership.md]

For each way to be lost: milliseconds from the kill until all survivors' steps see the word that says so, until the newest
maps of all lack the rank, and until all have begun a step by such maps; read from the regions a thousand times a second.
Where engine and agent are stopped, and nobody sees an end, they are counted from the second witness, which is when a
second survivor says that it waits; the agent's lease (3 s) has to run out as well. Then the bytes that
were moved until no operation ran, beside the least that could have been; the survivors' imbalance; and their tokens that
were dropped. --write replaces what stands between the marks `<!-- loss_times -->` of a file.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "deploy")]
from cluster import Binaries, Cluster, Options, wait_for  # noqa: E402

RANKS = 8
SLOTS = 24  # three copies of each expert
# Every expert stays on two ranks, also when placements change.
CONFIG = {"defaults": {"shares_interval_ms": 500, "survive": {"ranks": 1}}}
SERVING = ["--batch=8", "--prompt_bytes=32", "--decode_bytes=16", "--tokens_per_second_max=300", "--answer_seconds=60",
           "--on_loss=reroute", "--check=sample"]
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


def lose_one(cluster: Cluster, victim: int, way: str) -> dict:
    before = cluster.group()
    dropped = cluster.engine_total("dropped_tokens") - cluster.engine_status(victim).get("dropped_tokens", 0)
    probe = Probe(cluster, victim)
    killed_ns = time.monotonic_ns()
    if way == "silent":
        cluster.signal(f"engine-{victim}", signal.SIGSTOP)
        cluster.signal(f"agent-{victim}", signal.SIGSTOP)
    else:
        cluster.kill_ranks(victim, agents=way == "engine and agent")
    result = probe.result()
    from_ns = result["witnessed_ns"] if way == "silent" else killed_ns
    if way == "silent":
        cluster.kill_ranks(victim)
    operations_end(cluster)
    after = cluster.group()
    times = {key: (result[f"{key}_ns"] - from_ns) / 1e6 for key in ("lost", "written", "applied")}
    return {**times, "whole_ms": (time.monotonic_ns() - killed_ns) / 1e6 - 1000,
            "bytes": after["totals"]["bytes_moved"] - before["totals"]["bytes_moved"],
            "imbalance_before": before["imbalance_now"], "imbalance_after": after["imbalance_now"],
            "dropped": sum(cluster.engine_status(rank)["dropped_tokens"] for rank in cluster.running()) - dropped}


def measure(binaries: pathlib.Path, way: str, kills: int) -> list[dict]:
    options = Options(binaries=Binaries(binaries), model_dir=ROOT / "engine/reference/tinymoe", ranks=RANKS,
                      redundant=SLOTS * RANKS - 64, config=CONFIG, engine_flags=SERVING)
    results = []
    for turn in range(kills):
        with Cluster(options) as cluster:
            cluster.start()
            cluster.wait_until_serving()
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

    return (f"| {way} | {len(results)} | {spread('lost')} | {spread('written')} | {spread('applied')} | {spread('whole_ms')} | "
            f"{median('bytes') / 1e6:.1f} / 0 | {median('imbalance_before'):.3f} -> {median('imbalance_after'):.3f} | "
            f"{sum(result['dropped'] for result in results)} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ways", default="engine and agent,engine,silent")
    parser.add_argument("--prebuilt", type=pathlib.Path, default=ROOT / "bazel-bin", help="folder of the programs")
    parser.add_argument("--write", type=pathlib.Path)
    arguments = parser.parse_args()
    lines = ["| lost | kills | word, ms | maps written, ms | maps applied, ms | all operations over, ms | MB moved / least | "
             "imbalance | tokens dropped |", "|---|---|---|---|---|---|---|---|---|"]
    for way in arguments.ways.split(","):
        lines.append(row(way, measure(arguments.prebuilt, way, arguments.kills)))
    lines.append(f"\n{RANKS} ranks of {SLOTS} slots, three copies of each expert; median / 99th percentile; "
                 f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.0f}.")
    text = "\n".join(lines)
    print(text)
    if arguments.write:
        before, _, after = arguments.write.read_text().split(MARK)
        arguments.write.write_text(f"{before}{MARK}\n{text}\n{MARK}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
