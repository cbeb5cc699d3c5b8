# SPDX-License-Identifier: Apache-2.0
"""Every command in docs/ and the README is run: here, or by the test that ELSEWHERE names.

commands_test.py ROOT [CASE...]: ROOT is the checkout. Commands of a page are taken from its sh blocks, as they stand there, and run in
order, in a folder of their own, against a group of three ranks named chat.
"""

import json
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile

import cases
import docs
from cases import case, check, check_equal
from cluster import Cluster, wait_for

ROOT = pathlib.Path(sys.argv.pop(1)).resolve()
PAGES = ("README.md", "CONTRIBUTING.md", "deploy/README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
ONLINE = ("docs/operator.md", "README.md", "docs/troubleshooting.md")  # whose commands are for a controller
OFFLINE = ("plan", "simulate", "convert", "show", "policies")
WATCHES = 4.0  # seconds that a command which goes on for ever may take to say something
# Commands that are not run here: how they begin, and the test that runs them or why none does.
ELSEWHERE = (
    ("./deploy/demo.sh", "//tests/e2e:demo_run_test"),
    ("./deploy/test.sh", "runs this test"),
    ("deploy/bazel.sh build", "builds what this test is given"),
    ("mkdir -p /var/lib/evenkeel", "would write outside the test"),
    ("bazel-bin/controller/evenkeel-controller --listen=", "the operator guide's start is run here"),
    ("bazel-bin/agent/evenkeel-agent --controller=", "agents of the group are started so"),
    ("deploy/deb.sh", "//tests/packages:packages_test"),
    ("apt install ./dist/", "//tests/packages:packages_test"),
    ("evenkeel-controller --config=/etc/evenkeel/", "//tests/packages:packages_test"),
    ("systemctl ", "needs a service manager; //tests/packages:packages_test follows the units"),
    ("keelctl groups --controller=controller.example", "run against the group with another address"),
    ("keelctl check --controller=controller.example", "run against the group with another address"),
    ("keelctl top --once --controller=controller.example", "run against the group with another address"),
    ("docker build ", "needs a registry; //tests/packages:kubernetes_test reads the Dockerfile"),
    ("kubectl ", "needs a cluster; //tests/packages:kubernetes_test reads the manifests"),
    ("python3 deploy/autoscale.py", "//tests/e2e:autoscaled_test"),
    ("python3 tests/bench/planning_results.py", "hours; a benchmark"),
)
GROUP = dict(group="chat", ranks=3, redundant=56, config={"defaults": {"placement_enabled": False}})


def commands(page: str) -> list[str]:
    """The commands of a page's sh blocks, without comments; lines that end in a backslash are one."""
    found = []
    for body in re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(), re.S):
        found += [line.split(" # ")[0].strip() for line in body.replace("\\\n", " ").splitlines()]
    return [line for line in found if line]


def is_offline(command: str) -> bool:
    words = command.split()
    return words[0] == "keelctl" and words[1] in OFFLINE


def is_elsewhere(command: str) -> bool:
    return any(command.startswith(start) for start, _ in ELSEWHERE)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(words: list[str], folder: str, seconds: float = 120) -> subprocess.CompletedProcess:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=seconds)


def check_ran(command: str, done: subprocess.CompletedProcess, status: int = 0):
    check_equal(done.returncode, status, f"exit status of '{command}' ({done.stdout[-500:]}{done.stderr[-500:]})")


def http_address(cluster: Cluster) -> str:
    return re.search(r"serving HTTP on (\S+)", cluster.log_of("controller", 1000))[1]


def run_watch(command: str, words: list[str], folder: str):
    """A command that ends only when it is told to: it says something first."""
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        os.set_blocking(process.stdout.fileno(), False)
        try:
            wait_for(f"'{command}' to say something", process.stdout.read, WATCHES + 10)
        finally:
            process.send_signal(signal.SIGTERM)


def bring_back(cluster: Cluster, rank: int):
    """What the guide tells to do between drain and admit: end the drained rank's processes, start an engine to join."""
    check_equal(cluster.stop(f"engine-{rank}"), 0, "exit status of the drained engine")
    check_equal(cluster.stop(f"agent-{rank}"), 0, "exit status of its agent")
    cluster.join(rank)


def check_metrics(text: str):
    """Every metric that the guide names is there."""
    table = (ROOT / "docs/operator.md").read_text().split("| metric (prefix `evenkeel_`) |")[1].split("\n\n")[0]
    names = [name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split(" | ")[0])]
    check(len(names) > 10, f"the guide names {len(names)} metrics")
    for name in names:
        check(re.search(rf"^evenkeel_{name}(_bucket)?[{{ ]", text, re.M), f"no metric evenkeel_{name}, which the guide names")


def run_one(cluster: Cluster, command: str, folder: str):
    words = shlex.split(command)
    if is_offline(command):
        return check_ran(command, run([str(cluster.options.binaries.keelctl), *words[1:]], folder))
    if words[0] == "curl":
        words = [word.replace("127.0.0.1:7401", http_address(cluster)) for word in words]
        done = run([*words, "--fail"], folder)
        check_ran(command, done)
        return check_metrics(done.stdout) if words[-1].endswith("/metrics") else None
    words = [str(cluster.options.binaries.keelctl), f"--controller={cluster.address}", *words[1:]]
    if "--watch" in words:
        return run_watch(command, words, folder)
    if words[2:5] == ["operations", "cancel", "ID"]:
        done = run(words, folder)
        check_ran(command, done, status=1)
        return check("ID" in done.stderr, f"'{command}' does not name the operation: {done.stderr}")
    done = run(words, folder)
    check_ran(command, done)
    check((done.stdout + done.stderr).strip(), f"'{command}' said nothing")
    if words[2] == "drain":
        check_equal(cluster.standings()[int(words[3])], "left", f"standing of rank {words[3]}")
        bring_back(cluster, int(words[3]))
    if words[2] == "admit":
        check_equal(cluster.standings()[int(words[3])], "serving", f"standing of rank {words[3]}")


def run_page(page: str):
    """The page's commands in order; the README's own test runs what is offline there."""
    wanted = [command for command in commands(page) if command.split()[0] in ("keelctl", "curl")
              and not (page == "README.md" and is_offline(command))]
    with tempfile.TemporaryDirectory() as folder, Cluster(cases.options(**GROUP)) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        wait_for("the controller to have seen load", lambda: cluster.group()["imbalance_now"] > 0, 60)
        cluster.rearrange(policy="greedy")  # the metrics of operations are there once there was one
        for command in wanted:
            print(f"  {command}", flush=True)
            run_one(cluster, command, folder)
        cluster.check_alive()
        wait_for("tokens that were checked", lambda: cluster.engine_total("checked_tokens") > 0, 60)
        cluster.stop_engines()
        cluster.check_text()


@case
def every_command_is_run_here_or_elsewhere():
    for page in PAGES:
        for command in commands(page):
            word = command.split()[0]
            known = word in ("keelctl", "curl", "evenkeel-controller") or is_elsewhere(command)
            check(known, f"{page}: nothing runs '{command}'")
    said = [command for page in PAGES for command in commands(page)]
    for start, _ in ELSEWHERE:
        check(any(command.startswith(start) for command in said), f"no page says '{start}'")


@case
def operators_commands_do_what_they_say():
    run_page("docs/operator.md")


@case
def the_other_pages_commands_do_what_they_say():
    for page in ONLINE[1:]:
        run_page(page)


@case
def a_controller_starts_as_the_guide_says():
    binary = str(cases.options().binaries.controller)
    page = (ROOT / "docs/operator.md").read_text()
    config = re.search(r"```json\n(.*?)```", page, re.S)[1]
    ports = {"7400": str(free_port()), "7401": str(free_port())}
    for default, port in ports.items():
        check(default in config, f"the guide's configuration does not say {default}")
        config = config.replace(default, port)
    check_first, serve = [command for command in commands("docs/operator.md") if command.startswith("evenkeel-controller")]
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "controller.json").write_text(config)
        done = run([binary, *shlex.split(check_first)[1:]], folder)
        check_ran(check_first, done)
        check_equal(json.loads(done.stdout)["groups"]["chat"]["survive"]["ranks"], 1, "survive of the group chat")
        with subprocess.Popen([binary, *shlex.split(serve)[1:]], cwd=folder, stderr=subprocess.DEVNULL) as process:
            url = f"http://127.0.0.1:{ports['7401']}/readyz"
            try:
                wait_for("the controller to be ready",
                         lambda: subprocess.run(["curl", "-sf", url], capture_output=True, check=False).returncode == 0, 30)
            finally:
                process.terminate()
            check_equal(process.wait(timeout=20), 0, "exit status of the controller")


def same_default(told: str, value) -> bool:
    """Whether the page's words name the value in force, which protobuf's JSON leaves out where it is zero or empty."""
    scale = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
    number = re.fullmatch(r"([\d.,]+)(?: (\w+)(?:/s)?)?", told)
    if number:
        return float(number[1].replace(",", "")) * scale.get(number[2], 1) == float(value or 0)
    if told in ("true", "false"):
        return (value or False) == (told == "true")
    if told.lower() in ("empty", "none", "neither"):
        return not (any(value.values()) if isinstance(value, dict) else value)
    return told == "tokens alone" or told == value


@case
def defaults_in_the_guide_are_those_in_force():
    with tempfile.TemporaryDirectory() as folder:
        empty = pathlib.Path(folder) / "empty.json"
        empty.write_text("{}")
        done = run([str(cases.options().binaries.controller), f"--config={empty}", "--check_config"], folder)
        check_ran("--check_config", done)
    force = json.loads(done.stdout)
    of_message = {"ControllerConfig": force, "GroupConfig": force["defaults"], "AgentConfig": force["defaults"]["agent"]}
    _, blocks = docs.parse((ROOT / "proto/evenkeel/v1/config.proto").read_text())
    num_compared = 0
    for block in blocks:
        for item in block.items if block.name in of_message else ():
            told = docs.default_of(item)
            if told:
                num_compared += 1
                value = of_message[block.name].get(item.name)
                check(same_default(told, value), f"{block.name}.{item.name}: the guide says {told}, in force is {value}")
    check(num_compared > 50, f"only {num_compared} defaults were compared")


@case
def offline_commands_of_the_other_pages_work():
    with tempfile.TemporaryDirectory() as folder:
        engine = pathlib.Path(folder) / "engine"
        engine.symlink_to(ROOT / "engine")
        (pathlib.Path(folder) / "TIMELINE.npy").symlink_to(ROOT / "engine/reference/tinymoe/routing_counts.npy")
        for page in PAGES:
            for command in commands(page):
                check(page in ONLINE or command.split()[0] != "keelctl" or is_offline(command) or is_elsewhere(command),
                      f"{page}: nothing runs '{command}'")
                if is_offline(command) and page not in ONLINE:
                    print(f"  {command}", flush=True)
                    check_ran(command, run([str(cases.options().binaries.keelctl), *shlex.split(command)[1:]], folder, 300))


@case
def the_python_of_the_integration_guide_runs():
    page = (ROOT / "docs/integration.md").read_text()
    (source,) = re.findall(r"```python\n(.*?)```", page, re.S)
    sys.path.insert(0, str(ROOT / "engine/python"))
    library = str(cases.options().binaries.path("engine", "libevenkeel.so"))
    with tempfile.TemporaryDirectory() as directory:
        scope = {"directory": directory, "library": library}
        exec(compile(source, "integration.md", "exec"), scope)
        check_equal(os.listdir(directory), [], "what the engine left behind")
    check_equal([slot // scope["SLOTS"] for slot in scope["slots"]], [0, 0, 1, 0], "ranks of the four copies")


if __name__ == "__main__":
    sys.exit(cases.main())
