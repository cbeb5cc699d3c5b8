# SPDX-License-Identifier: Apache-2.0
"""Bad input gets a clear error and loses nothing."""

import os
import pathlib
import subprocess
import sys

import cases
from cases import case, check, check_equal
from cluster import Cluster, wait_for

QUIET = {"defaults": {"placement_enabled": False, "shares_enabled": False}}


def keelctl_error(cluster: Cluster, *arguments) -> tuple[int, str]:
    binary = str(cluster.options.binaries.keelctl)
    done = subprocess.run([binary, f"--controller={cluster.address}", *arguments], capture_output=True, text=True, timeout=30)
    return done.returncode, done.stderr + done.stdout


def log_says(cluster: Cluster, name: str, text: str):
    wait_for(f"{name} to say '{text}'", lambda: text in cluster.log_of(name, 200), 20)


@case
def an_operator_who_asks_for_what_is_not_there_is_told():
    with Cluster(cases.options(ranks=2, config=QUIET)) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        for arguments, status, text in [
            (("rearrange", "--group=nope"), 1, "nope"),
            (("rearrange", "--policy=nope"), 2, "nope"),
            (("rearrange", "--layers=99"), 2, "99"),
            (("map", "--layers=99"), 2, "99"),
            (("stats", "--group=nope"), 1, "nope"),
            (("check", "--group=nope"), 1, "nope"),
        ]:
            returned, message = keelctl_error(cluster, *arguments)
            check_equal(returned, status, f"status of {arguments} ({message.strip()})")
            check(text in message, f"{arguments} does not name {text}: {message}")
        wait_for("tokens that were checked", lambda: cluster.engine_total("checked_tokens") > 0, 60)
        cluster.stop_engines()
        cluster.check_text()


@case
def a_second_agent_for_a_rank_is_refused():
    with Cluster(cases.options(ranks=2, config=QUIET)) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        o = cluster.options
        second = subprocess.run([o.binaries.agent, f"--controller={cluster.address}", f"--group={o.group}", "--rank=0",
                                 f"--region={next(cluster.region_dir.glob('*.0.*'))}"], capture_output=True, text=True, timeout=30)
        check_equal(second.returncode, 4, "status of the second agent")
        check("agent" in second.stderr + second.stdout, f"it did not say why: {second.stderr}{second.stdout}")
        cluster.check_alive()
        cluster.stop_engines()


@case
def ranks_that_disagree_about_the_world_are_refused():
    with Cluster(cases.options(ranks=2, config=QUIET)) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        stranger = Cluster(cases.options(ranks=3, config=QUIET))
        with stranger:
            stranger.address = cluster.address
            for rank in range(3):
                stranger.start_engine(rank)
            stranger.start_agent(2)
            log_says(stranger, "agent-2", "world size 3")
            cluster.check_alive()
            check_equal(cluster.group()["info"]["shape"]["num_ranks"], 2, "ranks of the group")
            stranger.stop_engines()
        wait_for("tokens that were checked", lambda: cluster.engine_total("checked_tokens") > 0, 60)
        cluster.stop_engines()
        cluster.check_text()


@case
def a_region_that_is_none_is_refused():
    with Cluster(cases.options(ranks=2, config=QUIET)) as cluster:
        cluster.start_controller()
        cluster.start_engine(0)
        cluster.start_engine(1)
        wait_for("a region", lambda: list(cluster.region_dir.glob("*.0.*")), 30)
        whole = next(cluster.region_dir.glob("*.0.*"))
        o = cluster.options
        for name, content in [("garbage", os.urandom(65536)), ("empty", b""), ("short", whole.read_bytes()[:5000])]:
            path = cluster.run_dir / f"evenkeel.{name}"
            path.write_bytes(content)
            done = subprocess.run([o.binaries.agent, f"--controller={cluster.address}", f"--group={o.group}", "--rank=0",
                                   f"--region={path}"], capture_output=True, text=True, timeout=30)
            check(done.returncode != 0, f"an agent went on with a {name} region")
            check(str(path) in done.stderr + done.stdout, f"{name}: the path is not named: {done.stderr}{done.stdout}")
        cluster.stop_engines()


@case
def a_wrong_configuration_stops_the_start_and_names_the_field():
    binary = cases.options().binaries.controller
    for config, name in [('{"defaults": {"shares_interval_ms": 1}}', "shares_interval_ms"),
                         ('{"defaults": {"no_such_field": 1}}', "no_such_field"),
                         ('{"defaults": {"policy": "nope"}}', "nope")]:
        path = pathlib.Path(os.environ.get("TEST_TMPDIR", "/tmp")) / "config.json"
        path.write_text(config)
        done = subprocess.run([binary, "--listen=127.0.0.1:0", f"--config={path}"], capture_output=True, text=True, timeout=20)
        check(done.returncode != 0, f"it started with {config}")
        check(name in done.stderr + done.stdout, f"{name} is not named: {done.stderr}{done.stdout}")


@case
def no_room_in_shared_memory_is_said_before_anything_starts():
    if os.geteuid() != 0:
        print("needs root to mount a small tmpfs; not run")
        return
    with Cluster(cases.options(ranks=2)) as cluster:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(cluster.region_dir)], check=True)
        try:
            cluster.start_engine(0)
            status = cluster.processes["engine-0"].wait(timeout=30)
            check(status not in (0, -7), f"exit status {status}")
            check("bytes" in cluster.log_of("engine-0"), f"it does not say what it wanted: {cluster.log_of('engine-0')}")
            check_equal(list(cluster.region_dir.iterdir()), [], "left in shared memory")
        finally:
            subprocess.run(["umount", str(cluster.region_dir)], check=True)


@case
def an_engine_that_registers_but_never_steps_is_named():
    with Cluster(cases.options(ranks=2, config=QUIET)) as cluster:
        cluster.start_controller()
        silent = [subprocess.Popen([sys.executable, str(pathlib.Path(__file__).with_name("silent_engine.py")),
                                    str(cluster.options.binaries.folder), str(cluster.region_dir), "tinymoe", str(rank)],
                                   stdin=subprocess.PIPE) for rank in range(2)]
        try:
            for rank in range(2):
                cluster.start_agent(rank)

            def named():
                status, text = keelctl_error(cluster, "check")
                return status == 1 and all(f"never called {call}" in text for call in ("begin_step", "end_step", "route"))

            wait_for("keelctl check to name the missing calls", named, 25)
        finally:
            for process in silent:
                process.communicate(b"end\n", timeout=20)


if __name__ == "__main__":
    sys.exit(cases.main())
