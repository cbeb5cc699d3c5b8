# SPDX-License-Identifier: Apache-2.0
"""How long a group is without its only controller: kill -9, a successor started at once, real processes.

    deploy/bazel.sh build --config=opt //tests/e2e:binaries
    python3 tests/bench/succession_times.py [--kills 20] [--prebuilt bazel-bin] [--write docs/membership.md]

Eight reference engines serve TinyMoE. Milliseconds from the kill until the successor's process listens (`listens`), until it
leads and has published maps under its term (`leads`), and until every rank is attached and has quiesced at these
(`serves`: from then on everything is as before the kill). The group is asked through keelctl, twenty times a second at most, so
that each is late by up to a tenth of a second. Beside it what engines computed meanwhile, as a share of the tokens a second
before the kill. --write replaces what stands between the marks `<!-- succession_times -->` of a file.
"""

import argparse
import os
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "deploy")]
from cluster import Binaries, Cluster, Options, wait_for  # noqa: E402

RANKS = 8
CONFIG = {"defaults": {"placement_enabled": False, "shares_interval_ms": 500}}
SERVING = ["--batch=8", "--prompt_bytes=32", "--decode_bytes=16", "--tokens_per_second_max=300", "--answer_seconds=60",
           "--check=sample"]
RATE_SECONDS = 3
MARK = "<!-- succession_times -->"


def token_rate(cluster: Cluster) -> float:
    begin, tokens = time.monotonic(), cluster.engine_total("tokens")
    time.sleep(RATE_SECONDS)
    return (cluster.engine_total("tokens") - tokens) / (time.monotonic() - begin)


def follow_one(cluster: Cluster) -> dict[str, float]:
    wait_for("the group to settle", cluster.settled, 60)
    rate, term = token_rate(cluster), cluster.group()["epoch"]["term"]
    tokens = cluster.engine_total("tokens")
    killed = time.monotonic()
    cluster.kill("controller")
    cluster.start_controller()
    times = {"listens": time.monotonic() - killed}

    def leads():
        group = cluster.group()
        return group and not group["forming"] and group.get("epoch", {}).get("term", 0) > term

    wait_for("the successor to lead", leads, 60)
    times["leads"] = time.monotonic() - killed
    wait_for("all to have quiesced at its maps", cluster.settled, 60)
    times["serves"] = time.monotonic() - killed
    # Status files are a quarter of a second old at most.
    time.sleep(RATE_SECONDS)
    served = (cluster.engine_total("tokens") - tokens) / (time.monotonic() - killed)
    return {**{key: value * 1e3 for key, value in times.items()}, "share": served / rate}


def percentile(values: list[float], fraction: float) -> float:
    return sorted(values)[min(len(values) - 1, int(fraction * len(values)))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--prebuilt", type=pathlib.Path, default=ROOT / "bazel-bin", help="folder of the programs")
    parser.add_argument("--write", type=pathlib.Path)
    arguments = parser.parse_args()
    options = Options(binaries=Binaries(arguments.prebuilt), model_dir=ROOT / "engine/reference/tinymoe", ranks=RANKS,
                      config=CONFIG, engine_flags=SERVING)
    results = []
    with Cluster(options) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        for turn in range(arguments.kills):
            results.append(follow_one(cluster))
            print(f"{turn}: {results[-1]}", file=sys.stderr, flush=True)
        cluster.check_alive()
        cluster.check_text()
        waited = cluster.engine_total("calls_that_waited") + cluster.engine_total("aborted_steps")
        cluster.stop_engines()

    def spread(key):
        values = [result[key] for result in results]
        return f"{percentile(values, 0.5):.0f} / {percentile(values, 0.99):.0f}"

    share = percentile([result["share"] for result in results], 0.5)
    text = "\n".join([
        "| kills | listens, ms | leads, ms | serves, ms | engines' tokens a second meanwhile, of those before | steps given up, calls that waited |",
        "|---|---|---|---|---|---|",
        f"| {len(results)} | {spread('listens')} | {spread('leads')} | {spread('serves')} | {share:.2f} | {waited} |",
        f"\n{RANKS} ranks; median / 99th percentile; {os.cpu_count()} processors, load {os.getloadavg()[0]:.0f}."])
    print(text)
    if arguments.write:
        before, _, after = arguments.write.read_text().split(MARK)
        arguments.write.write_text(f"{before}{MARK}\n{text}\n{MARK}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
