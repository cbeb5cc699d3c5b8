# SPDX-License-Identifier: Apache-2.0
"""The demo: a group of ranks serves TinyMoE expert-parallel on text whose mix of domains shifts.

The controller changes shares by itself once a second and rearranges experts by itself and once more on request, while
every rank's text is checked against a single-process copy of the model. The last line is one JSON object.
"""

import argparse
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

from cluster import Binaries, Cluster, Options, numbers, wait_for

ROOT = pathlib.Path(__file__).resolve().parent.parent
WINDOW_MS = 250  # the fast loop looks at the last second, four times a second
CONFIG = {  # the demo is short and its text shifts fast: decide sooner than a production group would
    "defaults": {
        "window_ms": WINDOW_MS,
        "shares_interval_ms": WINDOW_MS,
        "num_windows_for_shares": 1000 // WINDOW_MS,
        "placement_interval_ms": 3000,
        "num_windows_for_placement": 3000 // WINDOW_MS,
    }
}
IMBALANCES = ("imbalance_realised", "imbalance_initial", "imbalance_predicted")
MIX = "python:15,cxx:15,prose:15,data:15"  # seconds from each domain to the next, linearly
BAR = 24


def parse(argv) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="deploy/demo.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30, help="how long to serve (default %(default)g)")
    parser.add_argument("--ranks", type=int, default=8, help="ranks on this machine (default %(default)d)")
    parser.add_argument("--redundant", type=int, default=-1,
                        help="slots in all beyond one per expert, rounded up to whole slots per rank (default: one a rank)")
    parser.add_argument("--prebuilt", metavar="DIR", help="run the binaries in DIR; install and build nothing")
    parser.add_argument("--transport", default="", help="force one transport: local, ucx or ipc")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"),
                        help="where the experts are: host memory, or the memory of the GPUs, which ranks share by turns")
    parser.add_argument("--keep", action="store_true", help="leave everything running and print what to try")
    parser.add_argument("--binaries", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.ranks < 2:
        parser.error(f"--ranks {arguments.ranks}: a group needs at least 2")
    if arguments.ranks > 256:
        parser.error(f"--ranks {arguments.ranks}: at most 256 on one machine")
    if arguments.seconds < 10:
        parser.error(f"--seconds {arguments.seconds:g}: at least 10, so that there is something to compare")
    return arguments


class Watch:
    """Follows `keelctl stats --watch --json`: one sample a second, over the second before it."""

    def __init__(self, cluster: Cluster):
        self.samples: list[dict] = []
        command = [str(cluster.options.binaries.keelctl), f"--controller={cluster.address}", "stats", "--watch", "--json",
                   f"--windows={1000 // WINDOW_MS}"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._thread = threading.Thread(target=self._read, name="watch", daemon=True)
        self._thread.start()

    def _read(self):
        for line in self._process.stdout:
            try:
                update = numbers(json.loads(line))
            except json.JSONDecodeError:
                continue
            self.samples.append({"seen": time.monotonic(), **update})

    def close(self):
        self._process.terminate()
        self._process.wait(timeout=10)
        self._thread.join(timeout=10)


class Screen:
    """Bars that redraw themselves on a terminal, plain lines elsewhere."""

    def __init__(self):
        self.live = sys.stdout.isatty()
        self.height = 0

    def show(self, cluster: Cluster, sample: dict, left: float):
        group, stats = sample["group"], sample["stats"]
        loads = [sum(column) for column in zip(*(layer["tokens_of_rank"] for layer in stats["layers"]))]
        mean = sum(loads) / max(1, len(loads)) or 1
        totals, epoch = group["totals"], group["epoch"]
        head = (f"epoch {epoch['term']}.{epoch['number']}  imbalance {stats['imbalance_realised']:.3f} "
                f"(without Evenkeel {stats['imbalance_initial']:.3f})  waves {totals['waves']}  "
                f"moves {totals['moves']}  {totals['bytes_moved'] / 1e6:.1f} MB  shares {totals['shares_updates']}")
        if not self.live:
            print(f"{left:5.1f} s left  {head}  load/mean {' '.join(f'{load / mean:.2f}' for load in loads)}", flush=True)
            return
        lines = [f"Evenkeel demo: {cluster.options.ranks} ranks, {left:4.1f} s left", head,
                 f"rearranging: {group['running_operation'] or 'no'}"[: shutil.get_terminal_size().columns - 1]]
        for rank, load in enumerate(loads):
            filled = min(2 * BAR, round(BAR * load / mean))
            bar = "".join("|" if i == BAR else "#" if i < filled else " " for i in range(2 * BAR))
            lines.append(f"rank {rank:3d} [{bar}] {load / mean:5.2f}")
        lines.append(f"tokens {cluster.engine_total('tokens')}  checked {cluster.engine_total('checked_tokens')}  "
                     f"mismatched {cluster.engine_total('mismatched_tokens')}")
        sys.stdout.write((f"\033[{self.height}F" if self.height else "") + "".join(f"\033[2K{line}\n" for line in lines))
        sys.stdout.flush()
        self.height = len(lines)


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def summarise(cluster: Cluster, samples: list[dict], started: float, seconds: float) -> dict:
    second_half, counted_until = [], 0
    for sample in samples:  # seconds that do not overlap, each over all its windows
        stats = sample["stats"]
        if sample["seen"] - started > seconds / 2 and stats["begin_unix_us"] >= counted_until:
            second_half.append({key: mean(layer[key] for layer in stats["layers"]) for key in IMBALANCES})
            counted_until = stats["end_unix_us"]
    second_half = [s for s in second_half if s["imbalance_realised"] > 0]
    totals = samples[-1]["group"]["totals"] if samples else {}
    before = mean(w["imbalance_initial"] for w in second_half)
    after = mean(w["imbalance_realised"] for w in second_half)
    predicted = mean(w["imbalance_predicted"] for w in second_half if w["imbalance_predicted"] > 0)
    total = cluster.engine_total
    return {
        "seconds": round(seconds, 1),
        "ranks": cluster.options.ranks,
        "redundant": cluster.options.slots_per_rank * cluster.options.ranks - 64,
        "tokens": total("tokens"),
        "imbalance_before": round(before, 4),
        "imbalance_after": round(after, 4),
        "shares_updates": totals.get("shares_updates", 0),
        "rollouts": totals.get("rollouts", 0),
        "moves": totals.get("moves", 0),
        "bytes_moved": totals.get("bytes_moved", 0),
        "mismatched_tokens": total("mismatched_tokens"),
        "stale_slot_uses": total("stale_slot_uses"),
        "calls_that_waited": total("calls_that_waited"),
        "realised_vs_predicted": round(after / predicted, 4) if predicted else 0.0,
    }


def broken_promises(summary: dict) -> list[str]:
    """Those of the README that the run did not keep."""
    broken = [f"{key} is 0" for key in ("tokens", "moves", "imbalance_before") if summary[key] <= 0]
    broken += [f"{key} is {summary[key]}, not 0" for key in ("mismatched_tokens", "stale_slot_uses", "calls_that_waited")
               if summary[key] != 0]
    before, after = summary["imbalance_before"], summary["imbalance_after"]
    if after - 1 > (before - 1) / 2:
        broken.append(f"imbalance {after} is over 1 by more than half as much as {before}, which it is without Evenkeel")
    return broken


def serve(cluster: Cluster, seconds: float, keep: bool) -> tuple[dict, list[str]]:
    """The summary, and what went wrong beside what it tells. With `keep` the engines go on."""
    cluster.start()
    wait_for("all ranks to serve and the controller to know them",
             lambda: (cluster.check_alive(), all(cluster.engine_status(r).get("tokens", 0) for r in range(cluster.options.ranks)))[1],
             seconds=60 + cluster.options.ranks)
    watch, screen = Watch(cluster), Screen()
    started, asked = time.monotonic(), False
    try:
        shown = None
        while (elapsed := time.monotonic() - started) < seconds:
            cluster.check_alive()
            if not asked and elapsed > seconds * 0.4:
                asked = True
                request = subprocess.Popen([str(cluster.options.binaries.keelctl), f"--controller={cluster.address}",
                                            "rearrange", f"--group={cluster.options.group}",
                                            "--policy-config=gain_min=0"],  # whatever it gains, as it was asked for
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if watch.samples and (screen.live or watch.samples[-1] is not shown):
                shown = watch.samples[-1]
                screen.show(cluster, shown, seconds - elapsed)
            time.sleep(0.25)
        wait_for("the rearrangement that was asked for to end", lambda: request.poll() is not None, 60)
    finally:
        watch.close()
    problems = [f"keelctl rearrange: exit status {request.returncode}"] if request.returncode != 0 else []
    samples = watch.samples
    statuses = {} if keep else cluster.stop_engines()
    problems += [f"engine {rank} ended with status {status}:\n{cluster.log_of(f'engine-{rank}', 5)}"
                 for rank, status in statuses.items() if status != 0]
    return summarise(cluster, samples, started, seconds), problems


def main(argv) -> int:
    arguments = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    model = ROOT / "engine/reference/tinymoe"
    binaries = Binaries(arguments.binaries or pathlib.Path(arguments.prebuilt or "."))
    options = Options(binaries=binaries, model_dir=model, ranks=arguments.ranks, redundant=arguments.redundant, config=CONFIG,
                      engine_flags=[f"--mix={MIX}", f"--device={arguments.device}"],
                      agent_flags=[f"--transport={arguments.transport}"] if arguments.transport else [])
    cluster = Cluster(options)
    try:
        summary, problems = serve(cluster, arguments.seconds, arguments.keep)
    except KeyboardInterrupt:
        cluster.close()
        print("stopped")
        return 130
    except BaseException as error:
        cluster.close(keep_logs=True)
        print(f"demo: {error}\nlogs are kept in {cluster.run_dir}", file=sys.stderr)
        raise SystemExit(1) from None
    problems += [f"a promise was not kept: {promise}" for promise in broken_promises(summary)]
    for problem in problems:
        print(problem)
    print(f"\nimbalance {summary['imbalance_before']:.3f} without Evenkeel, {summary['imbalance_after']:.3f} with it; "
          f"{summary['moves']} moves, {summary['shares_updates']} shares updates, {summary['tokens']} tokens, "
          f"{summary['mismatched_tokens']} of them wrong")
    if arguments.keep:
        keelctl = f"{binaries.keelctl} --controller={cluster.address}"
        print(f"left running in {cluster.run_dir}. Try:\n  {keelctl} groups\n  {keelctl} stats --watch\n"
              f"  {keelctl} rearrange --group={options.group}\n"
              f"and to end it all:  pkill -f {cluster.run_dir.name}; rm -rf {cluster.region_dir}")
    else:
        cluster.close(keep_logs=bool(problems))
        if problems:
            print(f"logs are in {cluster.run_dir}")
    print(json.dumps(summary))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
