# SPDX-License-Identifier: Apache-2.0
"""deploy/autoscale.py takes a group from six ranks to ten and back as its token rate goes up and down."""

import json
import pathlib
import signal
import socket
import subprocess
import sys
import threading

import autoscale
import cases
from cases import case, check, check_equal
from cluster import Cluster, wait_for

FIRST, MOST = 6, 10
SLOTS = 16
# Engines serve what is asked for alone; a rank does 80 tokens a second at most.
SERVING = ["--batch=8", "--prompt_bytes=32", "--decode_bytes=16", "--nobackground", "--check=full",
           "--tokens_per_second_max=80", "--answer_seconds=60", "--on_loss=reroute"]
CONFIG = {"defaults": {"window_ms": 500, "shares_interval_ms": 500}}
PROMPTS = ["def a(b):", "int main() {", "the sum of two", "{\"key\": ["]


class Traffic:
    """Runs of `keelctl load` one after the other; every request is to be answered, in the same words each time."""

    def __init__(self, cluster: Cluster, ports: list[int], concurrency: int):
        self.concurrency = concurrency
        self.pause = 0.0  # seconds between two runs
        self._urls = ",".join(f"{rank}=http://127.0.0.1:{port}" for rank, port in enumerate(ports))
        self.answered = 0
        self.problems: list[str] = []
        self._texts: dict[int, str] = {}
        self._cluster = cluster
        self._stop = threading.Event()
        (cluster.run_dir / "prompts.txt").write_text(
            "".join(json.dumps({"prompt": prompt, "max_tokens": 16}) + "\n" for prompt in PROMPTS))
        self._thread = threading.Thread(target=self._run, name="traffic")
        self._thread.start()

    def _run(self):
        while not self._stop.is_set() and not self.problems:
            concurrency = self.concurrency
            done = subprocess.run(
                [str(self._cluster.options.binaries.keelctl), f"--controller={self._cluster.address}", "load", "--json",
                 f"--url={self._urls}", f"--prompts={self._cluster.run_dir / 'prompts.txt'}",
                 f"--concurrency={concurrency}", f"--requests={4 * concurrency}"], capture_output=True, text=True)
            try:
                result = json.loads(done.stdout)
            except json.JSONDecodeError:
                self.problems.append(f"keelctl load: status {done.returncode}: {done.stderr}")
                return
            self.answered += result["totals"]["ok"]
            for record in result["requests"]:
                if not record["ok"]:
                    self.problems.append(f"request failed: {record['attempts']}")
                prompt = record["request"] % len(PROMPTS)
                if record["ok"] and record["text"] != self._texts.setdefault(prompt, record["text"]):
                    self.problems.append(f"{PROMPTS[prompt]!r}: {record['text']!r}, before {self._texts[prompt]!r}")
            self._stop.wait(self.pause)

    def close(self):
        self._stop.set()
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def carry_out_hooks(cluster: Cluster, hooks: pathlib.Path, ports: list[int]):
    """Starts and ends what the autoscaler asked for."""
    for path in sorted(hooks.iterdir()):
        verb, rank = path.name.split("-")
        path.unlink()
        if verb == "start":
            cluster.start_engine(int(rank), f"--requests_port={ports[int(rank)]}", join=True)
            cluster.start_agent(int(rank))
        else:
            check_equal(cluster.standings()[int(rank)], "left", f"standing of rank {rank}, which may end")
            check_equal(cluster.stop(f"engine-{rank}"), 0, f"exit status of engine {rank}")
            cluster.stop(f"agent-{rank}")


def start_autoscaler(cluster: Cluster, hooks: pathlib.Path):
    cluster.spawn("autoscaler", [
        sys.executable, autoscale.__file__, f"--keelctl={cluster.options.binaries.keelctl}",
        f"--controller={cluster.address}", f"--group={cluster.options.group}", f"--ranks-min={FIRST}",
        f"--ranks-max={MOST}", "--tokens-per-rank=15", "--top-k=4", "--windows=8", "--period=1", "--down-after=6",
        "--grace=10", f"--start=touch {hooks}/start-{{rank}}", f"--stop=touch {hooks}/stop-{{rank}}"])


@case
def a_group_follows_its_token_rate_from_six_ranks_to_ten_and_back():
    options = cases.options(ranks=FIRST, ranks_max=MOST, redundant=FIRST * SLOTS - 64, config=CONFIG,
                            engine_flags=SERVING)
    with Cluster(options) as cluster:
        hooks = cluster.run_dir / "hooks"
        hooks.mkdir()
        ports = free_ports(MOST)
        cluster.start_controller()
        for rank in range(FIRST):
            cluster.start_engine(rank, f"--requests_port={ports[rank]}")
            cluster.start_agent(rank)
        wait_for("the group to serve", lambda: (
            cluster.check_alive(), [*cluster.standings().values()].count("serving") == FIRST and all(
                cluster.engine_status(rank).get("state") == "serving" for rank in range(FIRST)))[1], 90)
        with Traffic(cluster, ports, concurrency=48) as traffic:
            start_autoscaler(cluster, hooks)

            def ranks_serve(number):
                def serve():
                    check(not traffic.problems, f"{traffic.problems[:3]}")
                    cluster.check_alive()
                    carry_out_hooks(cluster, hooks, ports)
                    return len(cluster.running()) == number and [*cluster.standings().values()].count("serving") == number
                return serve

            wait_for("ten ranks", ranks_serve(MOST), 240, interval=0.2)
            wait_for("the new ranks to be asked and computed on", lambda: (ranks_serve(MOST)(), all(
                cluster.engine_status(rank).get("requests", 0) and cluster.engine_status(rank).get("served_rows", 0)
                for rank in range(FIRST, MOST)))[1], 120, interval=0.2)
            # Four requests of some 28 tokens every two seconds, however fast the machine: less than six ranks' worth.
            traffic.concurrency, traffic.pause = 1, 2.0
            answered = traffic.answered
            wait_for("six ranks", ranks_serve(FIRST), 240, interval=0.2)
            wait_for("more answers", lambda: (ranks_serve(FIRST)(), traffic.answered > answered + 8)[1], 60)
        check(not traffic.problems, f"{traffic.problems[:3]}")
        cluster.check_alive()
        check_equal(cluster.stop("autoscaler"), 0, "exit status of the autoscaler")
        cluster.check_text()
        said = [json.loads(line) for line in (cluster.run_dir / "autoscaler.log").read_text().splitlines()]
        check(not any("error" in line for line in said), f"{[line for line in said if 'error' in line]}")
        admitted = sum((line["of"] for line in said if line["action"] == "admit"), [])
        drained = sum((line["of"] for line in said if line["action"] == "drain"), [])
        check(set(admitted) == {6, 7, 8, 9} and set(drained) == {6, 7, 8, 9}, f"admitted {admitted}, drained {drained}")
        cluster.stop_engines()


@case
def it_grows_at_once_and_shrinks_when_less_was_wanted_for_long_enough():
    check_equal([autoscale.ranks_wanted(rate, 100, 6, 10) for rate in (0, 600, 601, 2000)], [6, 6, 7, 10], "wanted")
    pace = autoscale.Pace(down_after=10)
    looks = [(0, 6, 8), (5, 9, 8), (9, 6, 9), (14, 7, 9), (16, 6, 9), (25, 6, 7)]
    check_equal([pace.target(*look) for look in looks], [8, 9, 9, 9, 7, 6], "targets")
    standings = {0: "serving", 1: "lost", 2: "serving", 3: "draining", 4: "joining", 5: "absent", 6: "left"}
    check_equal(autoscale.choose(standings, 5), ([1, 5], []), "two more")
    check_equal(autoscale.choose(standings, 2), ([], [2]), "one fewer")
    check_equal(autoscale.choose(standings, 3), ([], []), "as many")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(cases.main())
