# SPDX-License-Identifier: Apache-2.0
"""What the HTTP port of a controller with a large group costs: a reader of ten updates a second, and scrapes.

page_bench.py LARGE_GROUP: runs that program (//tests/page:large_group, built with --config=opt) with a group of 320 ranks,
61 layers and 256 experts. The reader's cost is the CPU time of the whole process with it less that without, in turn;
a scrape's is the time until the last byte came, and the CPU time of the process for it. Both by the process's own clock
of CPU time, as others use the machine too.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

ROUNDS, SECONDS, SCRAPES = 5, 4.0, 101
TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Reader:
    """Reads a stream of stats until it is closed; counts the updates."""

    def __init__(self, address: str, brief: bool):
        query = f"group=large&interval_ms=100&brief={'true' if brief else 'false'}"
        self.response = urllib.request.urlopen(f"http://{address}/v1/WatchStats?{query}", timeout=30)
        self.updates = 0
        self.ending = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        for line in self.response:
            self.updates += line.startswith(b"data:")
            if self.ending:
                return

    def close(self):
        self.ending = True
        self.thread.join()
        self.response.close()


def core_share(pid: int, seconds: float) -> float:
    begun, used = time.monotonic(), cpu_seconds(pid)
    time.sleep(seconds)
    return (cpu_seconds(pid) - used) / (time.monotonic() - begun)


def reader_cost(pid: int, address: str, brief: bool) -> tuple[list[float], float]:
    costs, rates = [], []
    for _ in range(ROUNDS):
        alone = core_share(pid, SECONDS)
        reader = Reader(address, brief)
        begun, before = time.monotonic(), reader.updates
        costs.append(100 * (core_share(pid, SECONDS) - alone))
        rates.append((reader.updates - before) / (time.monotonic() - begun))
        reader.close()
    return sorted(costs), statistics.median(rates)


def main() -> int:
    process = subprocess.Popen([sys.argv[1]], stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()
        time.sleep(5)  # the group forms, windows close
        print("input      320 ranks, 61 layers, 256 experts, 640 reports a second")
        for brief in (True, False):
            costs, rate = reader_cost(process.pid, address, brief)
            what = "as the page reads them" if brief else "with tokens per expert and rank"
            print(f"reader     {rate:.1f} updates a second {what}: {statistics.median(costs):.1f} % of a core (median of {ROUNDS} x "
                  f"{SECONDS:.0f} s, from {costs[0]:.1f} to {costs[-1]:.1f}){' (goal 5 %)' if brief else ''}")
        times, size = [], 0
        used, begun = cpu_seconds(process.pid), time.monotonic()
        for _ in range(SCRAPES):
            start = time.monotonic()
            size = len(urllib.request.urlopen(f"http://{address}/metrics", timeout=30).read())
            times.append(1000 * (time.monotonic() - start))
        cpu = 1000 * (cpu_seconds(process.pid) - used) / SCRAPES
        times.sort()
        print(f"scrape     {SCRAPES} of {size} bytes: median {statistics.median(times):.1f} ms, p99 {times[99]:.1f} ms, at best {times[0]:.1f} ms, "
              f"at most {cpu:.1f} ms of CPU time each (goal 20 ms)")
    finally:
        process.terminate()
        process.wait(timeout=60)
    return 0


if __name__ == "__main__":
    sys.exit(main())
