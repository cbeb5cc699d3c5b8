# SPDX-License-Identifier: Apache-2.0
"""In a system with the packages: checks the units, and serves with the very command lines, users and folders they name.

No service manager runs in such a system, so the lines of the units are followed here.
"""

import array
import configparser
import json
import os
import pathlib
import pwd
import shlex
import subprocess
import sys
import threading
import time

UNITS = pathlib.Path("/lib/systemd/system")
# systemd-analyze's own measure, 0 to 10; below 5 it says "OK" or better. The agent shares memory with engines.
EXPOSURE_MAX = {"evenkeel-controller.service": 2.5, "evenkeel-agent@.service": 4.5}
RANKS, LAYERS, EXPERTS, SLOTS, BYTES = 2, 2, 8, 5, 4096


class Unit:
    def __init__(self, name: str, instance: str = ""):
        self.parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
        self.parser.optionxform = str
        self.parser.read(UNITS / name)
        self.instance = instance

    def __getitem__(self, key: str) -> str:
        return self.parser["Service"][key].replace("%i", self.instance)

    def start(self, log: str, environment: dict[str, str]) -> subprocess.Popen:
        """As systemd would: user, state directory, variables as ${NAME} one word, as $NAME split into words."""
        words = []
        for word in shlex.split(self["ExecStart"]):
            if word.startswith("$") and not word.startswith("${"):
                words += environment[word[1:]].split()
                continue
            for name, value in environment.items():
                word = word.replace("${" + name + "}", value)
            words.append(word)
        owner = pwd.getpwnam(self["User"])
        state = pathlib.Path("/var/lib") / self["StateDirectory"]
        state.mkdir(exist_ok=True)
        os.chown(state, owner.pw_uid, owner.pw_gid)
        state.chmod(int(self["StateDirectoryMode"], 8))
        drop = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--init-groups", "--no-new-privs",
                "--inh-caps=-all", "--bounding-set=-all"]
        return subprocess.Popen([*drop, *words], stdout=open(log, "w"), stderr=subprocess.STDOUT, cwd="/")


def read_environment(path: str) -> dict[str, str]:
    lines = pathlib.Path(path).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def keelctl(*words) -> dict:
    return json.loads(subprocess.run(["keelctl", *words, "--json"], capture_output=True, text=True, check=True, timeout=60).stdout)


def wait_for(what: str, condition, seconds: float = 60):
    deadline, last = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            if last := condition():
                return last
        except (subprocess.CalledProcessError, OSError, KeyError, IndexError) as error:
            last = error
        time.sleep(0.2)
    for log in pathlib.Path("/tmp").glob("*.log"):
        print(f"--- {log}\n{log.read_text()[-3000:]}")
    raise AssertionError(f"{what}: not within {seconds} s, last {last!r}")


def check_units():
    subprocess.run(["systemd-analyze", "verify", "--recursive-errors=no", *(str(UNITS / name) for name in EXPOSURE_MAX)], check=True, timeout=60)
    for name, limit in EXPOSURE_MAX.items():
        said = subprocess.run(["systemd-analyze", "security", "--offline=true", f"--threshold={int(limit * 10)}", str(UNITS / name)],
                              capture_output=True, text=True, timeout=60)
        assert said.returncode == 0, said.stdout[-3000:] + said.stderr
        print(said.stdout.strip().splitlines()[-1].removeprefix("→ "))


def serve(rank: int, over: threading.Event):
    """A small engine of one rank; the first three experts, which begin on one rank, are hot."""
    import evenkeel
    with evenkeel.Region(group="default", model="tiny", rank=rank, num_ranks=RANKS, num_layers=LAYERS, num_experts=EXPERTS,
                         slots_per_rank=SLOTS, weights_bytes=LAYERS * SLOTS * BYTES) as region:
        for layer in range(LAYERS):
            weights = region.alloc_weights(SLOTS * BYTES)
            for slot in range(SLOTS):
                expert = max(region.initial_expert(layer, slot), 0)
                weights[slot * BYTES:(slot + 1) * BYTES] = bytes([16 * layer + expert]) * BYTES
            region.add_tensor(layer, "w13", "u8", weights, BYTES)
        region.ready()
        ids = array.array("i", [0, 1, 2] * 10 + list(range(EXPERTS)))
        slots = array.array("i", [0] * len(ids))
        while not over.is_set():
            with region.step(phase=evenkeel.DECODE):
                for layer in range(LAYERS):
                    region.route(layer, ids, slots, top_k=1)
                    for slot in slots:
                        # Both engines route the same tokens; each computes what is its own.
                        if slot // SLOTS == rank:
                            region.count(layer, slot % SLOTS, 1, phase=evenkeel.DECODE)
            time.sleep(0.01)


def engine_process(rank: int, owner: pwd.struct_passwd) -> subprocess.Popen:
    def become():
        os.setgid(owner.pw_gid)
        os.setuid(owner.pw_uid)

    return subprocess.Popen([sys.executable, __file__, "engine", str(rank)], preexec_fn=become, cwd="/",
                            stdout=open(f"/tmp/engine-{rank}.log", "w"), stderr=subprocess.STDOUT)


def serve_by_one_process_for_all_ranks(daemons: list[subprocess.Popen], settings: dict[str, str]):
    """evenkeel-agents takes the place of the units' agents; it, too, brings one back that was killed."""
    for agent in daemons[1:]:
        agent.terminate()
        assert agent.wait(30) == 0
    del daemons[1:]
    log = open("/tmp/agents.log", "w")
    user = ["setpriv", "--reuid=evenkeel", "--regid=evenkeel", "--init-groups"]
    daemons.append(subprocess.Popen([*user, "evenkeel-agents", f"--group={settings['EVENKEEL_GROUP']}"], stdout=log, stderr=log))

    def attached() -> int:
        return sum(member.get("attached", False) for member in keelctl("groups", "--group=default")["members"])

    wait_for("both ranks to be attended to", lambda: attached() == RANKS)
    killed = [path for path in pathlib.Path("/proc").glob("[0-9]*") if b"evenkeel-agent\0" in (path / "cmdline").read_bytes()
              and b"--rank=0" in (path / "cmdline").read_bytes()]
    assert len(killed) == 1, killed
    os.kill(int(killed[0].name), 9)
    wait_for("the agent of rank 0 to be noticed missing", lambda: attached() == RANKS - 1)
    wait_for("it to be back", lambda: attached() == RANKS)
    print("one process keeps the agents of all ranks")


def main():
    check_units()
    version = {subprocess.run([name, "--version"], capture_output=True, text=True, timeout=20).stdout.split()[-1]
               for name in ("evenkeel-controller", "evenkeel-agent", "keelctl")}
    assert len(version) == 1, version
    subprocess.run(["bash", "-n", "/usr/share/bash-completion/completions/keelctl"], check=True)
    controller = Unit("evenkeel-controller.service")
    subprocess.run([*shlex.split(controller["ExecStart"]), "--check_config"], check=True, stdout=subprocess.DEVNULL, timeout=20)
    daemons = [controller.start("/tmp/controller.log", {})]
    owner = pwd.getpwnam(controller["User"])
    assert owner.pw_uid < 1000, f"the units' user has uid {owner.pw_uid}, which is no system user's"
    engines = [engine_process(rank, owner) for rank in range(RANKS)]
    settings = read_environment("/etc/evenkeel/agent.env")
    for rank in range(RANKS):
        daemons.append(Unit("evenkeel-agent@.service", str(rank)).start(f"/tmp/agent-{rank}.log", settings))
    wait_for("the group to serve", lambda: keelctl("map")["layers"])
    moves = wait_for("moves", lambda: keelctl("rearrange") and int(keelctl("groups", "--group=default")["totals"]["moves"]))
    print(f"{RANKS} ranks served by the packages: {moves} moves")
    subprocess.run(["curl", "-sf", "http://127.0.0.1:7401/readyz"], check=True, stdout=subprocess.DEVNULL, timeout=20)
    assert (pathlib.Path("/var/lib/evenkeel") / "controller.db").exists()
    serve_by_one_process_for_all_ranks(daemons, settings)
    for process in [*engines, *daemons]:
        process.terminate()
    statuses = [process.wait(30) for process in daemons]
    assert statuses == [0] * len(daemons), f"exit statuses of controller and agents: {statuses}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["engine"]:
        import signal
        over = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: over.set())
        serve(int(sys.argv[2]), over)
    else:
        main()
