# SPDX-License-Identifier: Apache-2.0
"""Keeps a group as large as its token rate wants: starts and admits ranks, drains and ends them.

    python3 deploy/autoscale.py --controller HOST:PORT --group G --ranks-min 6 --ranks-max 10 --tokens-per-rank 2000 \\
        --top-k 4 --start 'start-rank {rank}' --stop 'stop-rank {rank}'

Looks every --period seconds at the tokens that engines counted in the last windows, and wants one rank for each
--tokens-per-rank tokens a second. It grows at once, and shrinks when for --down-after seconds no look wanted as many as
there are. --start begins the engine (joining, evenkeel_options.join) and the agent of a rank; --stop is run when the
controller says that the rank is safe to terminate. Every decision is printed as one line of JSON. A drain or an
admission that is refused is printed and decided anew at the next look; SIGTERM ends it between two looks.
"""

import argparse
import json
import math
import shlex
import signal
import subprocess
import sys
import threading
import time

from cluster import numbers


def ranks_wanted(tokens_per_second: float, tokens_per_rank: float, ranks_min: int, ranks_max: int) -> int:
    return max(ranks_min, min(ranks_max, math.ceil(tokens_per_second / tokens_per_rank)))


class Pace:
    """Growth at once, shrinking to the most that was wanted in the last `down_after` seconds."""

    def __init__(self, down_after: float):
        self._down_after = down_after
        self._wanted: list[tuple[float, int]] = []
        self._began: float | None = None

    def target(self, now: float, wanted: int, present: int) -> int:
        self._began = now if self._began is None else self._began
        self._wanted = [(at, n) for at, n in self._wanted if at > now - self._down_after] + [(now, wanted)]
        if wanted >= present:
            return wanted
        if now - self._began < self._down_after:
            return present
        return min(present, max(n for _, n in self._wanted))


def choose(standings: dict[int, str], target: int) -> tuple[list[int], list[int]]:
    """(ranks to start and admit, ranks to drain): the lowest that are not there, the highest that serve."""
    present = [rank for rank, standing in standings.items() if standing in ("joining", "serving")]
    free = sorted(rank for rank, standing in standings.items() if standing in ("absent", "left", "lost"))
    serving = sorted(rank for rank, standing in standings.items() if standing == "serving")
    grow, shrink = target - len(present), len(present) - target
    return free[:max(0, grow)], serving[len(serving) - shrink:] if shrink > 0 else []


class Autoscaler:
    def __init__(self, arguments: argparse.Namespace):
        self._arguments = arguments
        self._pace = Pace(arguments.down_after)

    def keelctl(self, *words) -> dict:
        a = self._arguments
        done = subprocess.run([a.keelctl, f"--controller={a.controller}", *words, f"--group={a.group}", "--json"],
                              capture_output=True, text=True)
        if not done.stdout.strip():
            raise RuntimeError(f"keelctl {' '.join(words)}: {done.stderr.strip()}")
        return numbers(json.loads(done.stdout))

    def token_rate(self) -> float:
        stats = self.keelctl("stats", f"--windows={self._arguments.windows}")
        seconds = (stats.get("end_unix_us", 0) - stats.get("begin_unix_us", 0)) / 1e6
        age = time.time() - stats.get("end_unix_us", 0) / 1e6
        if seconds <= 0 or age > seconds + 10:
            return 0.0  # nothing was counted lately
        layers = stats["layers"]
        copies = sum(sum(layer["tokens_of_rank"]) for layer in layers) / max(1, len(layers))
        return copies / self._arguments.top_k / seconds

    def standings(self) -> dict[int, str]:
        return {status.get("rank", 0): status["standing"].removeprefix("RANK_STANDING_").lower()
                for status in self.keelctl("ranks")["ranks"]}

    def run_hook(self, command: str, rank: int):
        if command:
            subprocess.run(shlex.split(command.format(rank=rank)), check=True, stdout=subprocess.DEVNULL)

    def tell(self, **what):
        print(json.dumps({"time": round(time.time(), 3), **what}), flush=True)

    def look(self):
        a = self._arguments
        rate, standings = self.token_rate(), self.standings()
        present = sum(standing in ("joining", "serving") for standing in standings.values())
        wanted = ranks_wanted(rate, a.tokens_per_rank, a.ranks_min, a.ranks_max)
        target = self._pace.target(time.monotonic(), wanted, present)
        grow, shrink = choose(standings, target)
        seen = {"tokens_per_second": round(rate, 1), "ranks": present, "wanted": wanted}
        if grow:
            self.tell(action="admit", of=grow, **seen)
            for rank in grow:
                self.run_hook(a.start, rank)
            self.end(self.keelctl("admit", *map(str, grow)))
        elif shrink:
            self.tell(action="drain", of=shrink, **seen)
            if self.end(self.keelctl("drain", *map(str, shrink), f"--grace={a.grace:g}")):
                for rank in shrink:
                    self.run_hook(a.stop, rank)
        else:
            self.tell(action="none", **seen)

    def end(self, operation: dict) -> bool:
        state = operation.get("state", "").removeprefix("OPERATION_STATE_").lower()
        self.tell(action="end", operation=operation.get("id", ""), state=state, detail=operation.get("detail", ""))
        return state == "done"


def parse(argv) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="deploy/autoscale.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keelctl", default="keelctl", help="the program (default: in PATH)")
    parser.add_argument("--controller", required=True, metavar="HOST:PORT")
    parser.add_argument("--group", required=True)
    parser.add_argument("--ranks-min", type=int, required=True, help="never fewer ranks, whatever the rate")
    parser.add_argument("--ranks-max", type=int, required=True, help="never more; at most the group's ranks_max")
    parser.add_argument("--tokens-per-rank", type=float, required=True, help="tokens a second that one rank is to serve")
    parser.add_argument("--top-k", type=int, default=1, help="experts of a token: load is counted by token and expert")
    parser.add_argument("--windows", type=int, default=10, help="windows of load that a look takes in")
    parser.add_argument("--period", type=float, default=5, help="seconds between looks")
    parser.add_argument("--down-after", type=float, default=300, help="seconds for which fewer must have been wanted")
    parser.add_argument("--grace", type=float, default=30, help="seconds for which a drained engine may end requests")
    parser.add_argument("--start", default="", metavar="COMMAND", help="starts a rank; {rank} is its number")
    parser.add_argument("--stop", default="", metavar="COMMAND", help="ends a rank that is safe to terminate")
    arguments = parser.parse_args(argv)
    if not 1 <= arguments.ranks_min <= arguments.ranks_max:
        parser.error("--ranks-min and --ranks-max: at least 1, and not more than the most")
    if arguments.tokens_per_rank <= 0 or arguments.period <= 0 or arguments.top_k < 1 or arguments.windows < 1:
        parser.error("--tokens-per-rank, --period, --top-k and --windows: more than 0")
    return arguments


def main(argv) -> int:
    arguments = parse(argv)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    autoscaler = Autoscaler(arguments)
    while not stop.is_set():
        try:
            autoscaler.look()
        except (RuntimeError, OSError, subprocess.CalledProcessError, json.JSONDecodeError) as error:
            autoscaler.tell(action="none", error=str(error))  # a controller that is away comes back
        stop.wait(arguments.period)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
