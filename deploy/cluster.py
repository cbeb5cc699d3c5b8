# SPDX-License-Identifier: Apache-2.0
"""A whole Evenkeel group on this machine: one controller and, per rank, a reference engine and an agent.

Used by the demo and by the end-to-end tests. Every process is started with its log in `run_dir`, every wait has a
deadline, and close() leaves no process and no shared memory behind. Ranks may be killed, come back, be added up to
ranks_max and be drained.
"""

import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field

NUM_EXPERTS = 64  # of TinyMoE, per layer
NUM_LAYERS = 4


@dataclass
class Binaries:
    """Where the programs are. `folder` is a Bazel bin folder or one with all binaries side by side."""

    folder: pathlib.Path

    def path(self, package: str, name: str) -> pathlib.Path:
        for candidate in (self.folder / package / name, self.folder / name):
            if candidate.exists():
                return candidate.resolve()
        raise FileNotFoundError(f"{name} is neither in {self.folder / package} nor in {self.folder}")

    controller = property(lambda self: self.path("controller", "evenkeel-controller"))
    agent = property(lambda self: self.path("agent", "evenkeel-agent"))
    keelctl = property(lambda self: self.path("cli", "keelctl"))
    region_slots = property(lambda self: self.path("tests/e2e", "region_slots"))
    engine = property(lambda self: self.path("engine/reference", "reference_engine"))


@dataclass
class Options:
    binaries: Binaries
    model_dir: pathlib.Path
    ranks: int = 8  # that make the group
    ranks_max: int = 0  # that it may ever have; 0: ranks
    redundant: int = -1  # slots in all beyond one per expert; -1: one a rank
    group: str = "tinymoe"
    config: dict = field(default_factory=dict)  # the controller's configuration, as JSON
    engine_flags: list = field(default_factory=list)
    agent_flags: list = field(default_factory=list)
    listen_host: str = "127.0.0.1"  # of the controller
    keelctl_flags: list = field(default_factory=list)

    @property
    def trust_flags(self) -> list:
        """For networks made for the purpose, where nothing is encrypted."""
        return [] if self.listen_host.startswith("127.") or "tls_certificate" in self.config else ["--trust_network"]

    @property
    def slots_per_rank(self) -> int:
        redundant = self.ranks if self.redundant < 0 else self.redundant
        return math.ceil((NUM_EXPERTS + redundant) / self.ranks)


TEXT_FIELDS = {"id", "name", "group", "model", "policy", "detail", "note", "reason", "phase", "problems", "alerts"}


def numbers(value, key: str = ""):
    """Protobuf's JSON with its 64-bit numbers, which are strings there, as numbers."""
    if isinstance(value, dict):
        return {name: numbers(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [numbers(item, key) for item in value]
    is_number = isinstance(value, str) and key not in TEXT_FIELDS and value.removeprefix("-").isdigit()
    return int(value) if is_number else value


class Timeout(Exception):
    """A condition did not come true before its deadline."""


def wait_for(what: str, condition, seconds: float = 30.0, interval: float = 0.05):
    """The first true value of condition(); Timeout naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise Timeout(f"waited {seconds:g} s for {what}")
        time.sleep(interval)


class Cluster:
    def __init__(self, options: Options):
        self.options = options
        self.run_dir = pathlib.Path(tempfile.mkdtemp(prefix=f"evenkeel-{os.getpid()}-"))
        shared = pathlib.Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else self.run_dir)
        self.region_dir = shared / self.run_dir.name
        self.region_dir.mkdir(mode=0o700)
        self.processes: dict[str, subprocess.Popen] = {}
        self.address = ""
        self.http_address = ""
        self.agents_call = ""  # what agents take for the controller; empty: address

    # ---- Processes

    def spawn(self, name: str, command: list, **kwargs) -> subprocess.Popen:
        """Starts a process under `name`, its output appended to run_dir/name.log."""
        with open(self.run_dir / f"{name}.log", "ab") as log:
            process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log,
                                       stdin=subprocess.DEVNULL, start_new_session=True, **kwargs)
        self.processes[name] = process
        return process

    def log_of(self, name: str, lines: int = 20) -> str:
        path = self.run_dir / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(no log)"

    def start_controller(self):
        config = self.run_dir / "controller.json"
        config.write_text(json.dumps(self.options.config))
        port_file = self.run_dir / "controller.port"
        port_file.unlink(missing_ok=True)
        http_port_file = self.run_dir / "controller.http_port"
        http_port_file.unlink(missing_ok=True)
        listen = self.address or f"{self.options.listen_host}:0"
        process = self.spawn("controller", [self.options.binaries.controller, f"--listen={listen}",
                                            f"--config={config}", f"--store={self.run_dir / 'controller.db'}",
                                            f"--port_file={port_file}", f"--http_port_file={http_port_file}",
                                            *self.options.trust_flags])

        def ready():
            if process.poll() is not None:
                raise RuntimeError(f"controller ended with {process.returncode}:\n{self.log_of('controller')}")
            return http_port_file.exists() and port_file.exists() and port_file.read_text().strip()

        port = wait_for("the controller to listen", ready)
        self.address = f"{self.options.listen_host}:{port.rsplit(':', 1)[-1]}"
        self.http_address = http_port_file.read_text().strip()

    def start_engine(self, rank: int, *extra, join: bool = False):
        """An engine of the first world, or, with `join`, one that comes to the group under way."""
        o = self.options
        extra += ("--join",) if join else ()
        if o.ranks_max:
            extra += (f"--ranks_max={o.ranks_max}",)
        (self.run_dir / f"engine-{rank}.json").unlink(missing_ok=True)  # of an earlier one
        self.spawn(f"engine-{rank}", [o.binaries.engine, f"--group={o.group}", f"--rank={rank}", f"--ranks={o.ranks}",
                                      f"--slots_per_rank={o.slots_per_rank}", f"--run_dir={self.run_dir}",
                                      f"--region_dir={self.region_dir}", f"--model_dir={o.model_dir}",
                                      *o.engine_flags, *extra])

    def start_agent(self, rank: int, *extra, before: list | None = None):
        """`before`: a command that ends in running what follows it."""
        o = self.options
        controller = self.agents_call or self.address
        self.spawn(f"agent-{rank}", [*(before or []), o.binaries.agent, f"--controller={controller}", f"--group={o.group}",
                                     f"--rank={rank}", f"--region={self.region_dir}", *o.trust_flags, *o.agent_flags, *extra])

    def start(self):
        self.start_controller()
        for rank in range(self.options.ranks):
            self.start_engine(rank)
        for rank in range(self.options.ranks):
            self.start_agent(rank)

    def signal(self, name: str, number: int):
        self.processes[name].send_signal(number)

    def kill(self, name: str):
        """kill -9, and wait until it is gone."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(timeout=10)

    def kill_ranks(self, *ranks: int, agents: bool = True):
        """kill -9 of the engines, and of their agents, all at the same moment."""
        names = [f"engine-{rank}" for rank in ranks] + [f"agent-{rank}" for rank in ranks if agents]
        for name in names:
            self.processes[name].kill()
        for name in names:
            self.processes.pop(name).wait(timeout=10)

    def join(self, *ranks: int):
        """Starts engines that join, in place of lost ranks or as new ones, and agents where they have none."""
        for rank in ranks:
            self.start_engine(rank, join=True)
        for rank in ranks:
            if f"agent-{rank}" not in self.processes:
                self.start_agent(rank)

    def reload(self, version: int, *ranks: int, seconds: float = 0):
        """Has engines read their experts anew as weights of `version`, suspended for `seconds` at least."""
        for rank in ranks:
            fresh = self.run_dir / f"reload-{rank}.new"
            fresh.write_text(f"{version} {self.options.model_dir} {seconds}\n")
            fresh.rename(self.run_dir / f"reload-{rank}")

    def running(self) -> list[int]:
        """Ranks whose engines this object has started and not ended."""
        return sorted(int(name.removeprefix("engine-")) for name in self.processes if name.startswith("engine-"))

    def check_alive(self):
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{self.log_of(name)}")

    # ---- What is going on

    def keelctl(self, *arguments, timeout: float = 60.0, check: bool = True) -> str:
        done = subprocess.run([str(self.options.binaries.keelctl), f"--controller={self.address}", *arguments,
                               *self.options.keelctl_flags],
                              capture_output=True, text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise RuntimeError(f"keelctl {' '.join(arguments)}: status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def keelctl_json(self, *arguments, **kwargs):
        return numbers(json.loads(self.keelctl(*arguments, "--json", **kwargs)))

    def engine_status(self, rank: int) -> dict:
        """The newest status file of an engine; empty before its first."""
        try:
            return json.loads((self.run_dir / f"engine-{rank}.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def engine_total(self, key: str) -> int:
        """Over all ranks that ever ran; of each, its newest engine."""
        ranks = range(max(self.options.ranks, self.options.ranks_max))
        return sum(self.engine_status(rank).get(key, 0) for rank in ranks)

    def group(self) -> dict:
        """What `keelctl groups --group G --json` says; empty while the controller does not know the group."""
        text = self.keelctl("groups", f"--group={self.options.group}", "--json", check=False)
        return numbers(json.loads(text)) if text else {}

    def totals(self) -> dict:
        return self.group()["totals"]

    def rearrange(self, policy: str = "", timeout: float = 120.0, **flags) -> dict:
        """Rearranges through keelctl and waits; the operation's last state, whatever it is."""
        arguments = ["rearrange", f"--group={self.options.group}"] + ([f"--policy={policy}"] if policy else [])
        for name, value in flags.items():
            arguments.append(f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}"))
        return self.keelctl_json(*arguments, timeout=timeout, check=False)

    def wait_until_serving(self, seconds: float = 90.0):
        """All engines have served tokens, and the controller has published maps to all ranks."""
        def serving():
            self.check_alive()
            return all(self.engine_status(rank).get("tokens", 0) for rank in range(self.options.ranks))

        wait_for("all ranks to serve", serving, seconds)
        wait_for("the controller to know all ranks", lambda: (group := self.group()) and not group["forming"], seconds)

    def settled(self) -> bool:
        """No rollout runs, no slot is retired or being written, and all members have quiesced at the newest maps."""
        group = self.group()
        if not group or group["forming"] or group["running_operation"] or any(
                layer["num_slots_writing"] or layer["num_slots_retired"] for layer in group["layers"]):
            return False
        members = {member.get("rank", 0) for member in group.get("view", {}).get("members", [])}
        return all(member["attached"] and member["quiesced_epoch"] == group["epoch"] for member in group["members"]
                   if not members or member["member"].get("rank", 0) in members)

    def admit(self, *ranks: int, timeout: float = 120.0) -> dict:
        """Admits ranks through keelctl and waits; the operation's last state."""
        return self.keelctl_json("admit", f"--group={self.options.group}", *map(str, ranks), timeout=timeout, check=False)

    def drain(self, *ranks: int, grace: str = "", timeout: float = 120.0) -> dict:
        """Drains ranks through keelctl and waits until they are safe to terminate; the operation's last state."""
        arguments = [f"--grace={grace}"] if grace else []
        return self.keelctl_json("drain", f"--group={self.options.group}", *map(str, ranks), *arguments,
                                 timeout=timeout, check=False)

    def membership(self) -> dict:
        """What `keelctl ranks --json` says; no ranks while the controller does not know the group."""
        text = self.keelctl("ranks", f"--group={self.options.group}", "--json", check=False)
        return numbers(json.loads(text)) if text else {"ranks": []}

    def standings(self) -> dict[int, str]:
        """How each rank stands: absent, joining, serving, draining, lost, left."""
        return {status.get("rank", 0): status["standing"].removeprefix("RANK_STANDING_").lower()
                for status in self.membership()["ranks"]}

    def experts_at_risk(self) -> list[tuple[int, int]]:
        """(layer, expert) less protected than `survive` asks; where it asks nothing, what one loss more could take."""
        report = numbers(json.loads(self.keelctl("check", f"--group={self.options.group}", "--json", check=False)))
        return [(layer.get("layer", 0), expert) for layer in report["layers"] for expert in layer.get("experts_at_risk", [])]

    def fully_replicated(self) -> bool:
        """Every expert has a live slot, and no operation runs."""
        group = self.group()
        return bool(group) and not group["running_operation"] and not any(
            layer.get("experts_lost") for layer in group["layers"])

    def slots_writing(self) -> dict[int, int]:
        """Slots that are being written right now, by rank, as the regions themselves say."""
        paths = [str(path) for path in self.region_dir.iterdir()]
        done = subprocess.run([str(self.options.binaries.region_slots), *paths], capture_output=True, text=True,
                              timeout=10, check=True)
        return {region["rank"]: region["writing"] for region in json.loads(done.stdout)}

    def check_text(self):
        """No token was wrong, no slot stale, no call waited, and something was checked at all."""
        for key in ("mismatched_tokens", "stale_slot_uses", "calls_that_waited"):
            if total := self.engine_total(key):
                raise AssertionError(f"{key}: {total}")
        if not self.engine_total("checked_tokens"):
            raise AssertionError("no token was checked against the single-process model")

    # ---- End

    def stop(self, name: str, seconds: float = 20.0) -> int:
        """SIGTERM, then SIGKILL after the deadline; the exit status."""
        process = self.processes.pop(name)
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        try:
            return process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def stop_engines(self) -> dict[int, int]:
        """Ends all engines at once; exit status by rank."""
        ranks = self.running()
        for rank in ranks:
            if self.processes[f"engine-{rank}"].poll() is None:
                self.signal(f"engine-{rank}", signal.SIGTERM)
        return {rank: self.stop(f"engine-{rank}") for rank in ranks}

    def close(self, keep_logs: bool = False):
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
        for process in self.processes.values():
            process.wait()
        self.processes.clear()
        shutil.rmtree(self.region_dir, ignore_errors=True)
        if not keep_logs:
            shutil.rmtree(self.run_dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close(keep_logs=kind is not None)
        if kind is not None:
            print(f"logs are kept in {self.run_dir}")
