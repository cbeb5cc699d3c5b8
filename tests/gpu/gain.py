# SPDX-License-Identifier: Apache-2.0
"""Tokens per second of the PyTorch example without balancing, with DeepSeek's EPLB planned once, and with Evenkeel, beside the
gain that the imbalance of what its ranks computed predicts.

    gain.py FOLDER [--ranks=N] [--device=cuda|cpu] [--seconds=S] [--python=COMMAND] [-- FLAGS OF moe.py]

Takes a GPU for each rank: ranks that share one are not slowed by each other's load as ranks of their own would be, and the
output says so. FOLDER as for torch_moe.py, which compares outputs; here nothing but speed is looked at. The imbalance is the
sum over layers of the busiest rank's rows by that of the mean rank's.
"""

import argparse
import os
import pathlib
import sys
import time

from torch_moe import GROUP, ROOT, TorchCluster

sys.path.insert(0, str(ROOT / "deploy"))

from cluster import Binaries, Options, wait_for  # noqa: E402

SOONER = {"window_ms": 100, "shares_interval_ms": 500, "num_windows_for_shares": 10, "placement_interval_ms": 2000,
          "num_windows_for_placement": 20}
MODES = {
    "no balancing": {"mode": "record", **SOONER},
    "deepseek, planned once": {"mode": "record", **SOONER},
    "evenkeel": {"mode": "full", **SOONER},
}
GOAL = 0.80


def snapshot(cluster) -> list:
    return [cluster.engine_status(rank) for rank in range(cluster.options.ranks)]


def imbalance(before: list, after: list) -> float:
    busiest = mean = 0.0
    for layer in range(len(before[0]["rows"])):
        rows = [b["rows"][layer] - a["rows"][layer] for a, b in zip(before, after)]
        busiest, mean = busiest + max(rows), mean + sum(rows) / len(rows)
    return busiest / mean


def measure(binaries: Binaries, arguments, environment: dict, mode: str, flags: list) -> tuple[float, float, int]:
    """(tokens per second of all ranks, imbalance, experts moved) once what the mode does has settled."""
    options = Options(binaries=binaries, model_dir=pathlib.Path(), ranks=arguments.ranks, group=GROUP,
                      config={"defaults": MODES[mode]})
    with TorchCluster(options, arguments.python, [f"--device={arguments.device}", "--check_every=0", *flags],
                      environment) as cluster:
        cluster.start()
        cluster.wait_until_serving(arguments.wait)
        time.sleep(arguments.settle)
        if mode.startswith("deepseek"):
            operation = cluster.rearrange(policy="deepseek", timeout=arguments.wait)
            print(f"  planned once: {operation.get('state', 'it was refused')}", flush=True)
            wait_for("the plan to be in place", cluster.settled, arguments.wait)
        cluster.check_alive()
        before = snapshot(cluster)
        time.sleep(arguments.seconds)
        after = snapshot(cluster)
        rates = [(b["tokens"] - a["tokens"]) / (b["at"] - a["at"]) for a, b in zip(before, after)]
        moved = cluster.totals()["moves"]
        if arguments.device == "cuda" and after[0]["exchange"] != "nccl":
            print("  ranks share a GPU: tokens per second say nothing of balance here", flush=True)
        cluster.stop_engines()
        return sum(rates), imbalance(before, after), moved


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20, help="that are measured of each mode")
    parser.add_argument("--settle", type=float, default=15, help="seconds before that")
    parser.add_argument("--wait", type=float, default=180, help="for each thing that is waited for")
    parser.add_argument("--python", default="python3")
    arguments, flags = parser.parse_known_args()
    flags = [flag for flag in flags if flag != "--"]
    folder = arguments.folder.resolve()
    binaries = Binaries(folder / "bazel-bin" if (folder / "bazel-bin").exists() else folder)
    os.environ.setdefault("EVENKEEL_LIBRARY", str(binaries.path("engine", "libevenkeel.so")))
    environment = dict(os.environ)
    if (folder / "lib").exists():
        os.environ["LD_LIBRARY_PATH"] = str(folder / "lib")
    measured = {}
    for mode in MODES:
        measured[mode] = measure(binaries, arguments, environment, mode, flags)
        rate, ratio, moved = measured[mode]
        print(f"{mode:24}: {rate:12.1f} tokens/s, imbalance {ratio:.3f}, {moved} experts moved", flush=True)
    base_rate, base_ratio, _ = measured["no balancing"]
    for mode in list(MODES)[1:]:
        rate, ratio, _ = measured[mode]
        gain, predicted = rate / base_rate - 1, base_ratio / ratio - 1
        share = f"{gain / predicted:.2f} of it" if predicted > 0 else "nothing to gain"
        print(f"{mode:24}: {100 * gain:+.1f} % tokens/s, {100 * predicted:+.1f} % predicted by the imbalance: {share} (goal {GOAL:.2f})")
    if arguments.device == "cpu":
        print("on the CPU this shows that the script works, and nothing of GPUs")


if __name__ == "__main__":
    main()
