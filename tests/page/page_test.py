# SPDX-License-Identifier: Apache-2.0
"""The web page in Chromium, against a real controller: a running group of four ranks, then one large group.

page_test.py: needs EVENKEEL_PLAYWRIGHT (the folder of npm's playwright-core, which deploy/page.sh --test-tools installs),
node and chromium; without them it says so and counts nothing. Pictures are left in TEST_UNDECLARED_OUTPUTS_DIR.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import cases
from cluster import Cluster

HERE = pathlib.Path(__file__).resolve().parent
SECONDS = 400
CONFIG = {"defaults": {"window_ms": 250, "shares_interval_ms": 250, "placement_enabled": False}}


def tools() -> tuple[str, str, str]:
    """playwright-core, chromium, node; or ends, saying what is missing."""
    playwright = os.environ.get("EVENKEEL_PLAYWRIGHT", "")
    chromium, node = shutil.which("chromium"), shutil.which("node")
    if playwright and pathlib.Path(playwright).is_dir() and chromium and node:
        return playwright, chromium, node
    print(f"left out: playwright-core {playwright or 'not named'}, chromium {chromium}, node {node}")
    print("0 passed, 0 failed")
    sys.exit(0)


def run(kind: str, address: str, pictures: pathlib.Path) -> str:
    playwright, chromium, node = tools()
    done = subprocess.run([node, str(HERE / "page.mjs"), playwright, chromium, f"http://{address}/", str(pictures), kind],
                          capture_output=True, text=True, timeout=SECONDS, env={**os.environ, "HOME": tempfile.gettempdir()})
    print(done.stdout + done.stderr, flush=True)
    return done.stdout


def count(output: str) -> tuple[int, int]:
    last = output.strip().splitlines()[-1].split() if output.strip() else []
    return (int(last[0]), int(last[2])) if len(last) == 4 and last[1] == "passed," else (0, 1)


def small(pictures: pathlib.Path) -> tuple[int, int]:
    # The browser needs some of the processors too.
    with Cluster(cases.options(ranks=4, config=CONFIG, engine_flags=["--tokens_per_second_max=500"])) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        found = count(run("small", cluster.http_address, pictures))
        cluster.check_alive()
        return found


def large(pictures: pathlib.Path) -> tuple[int, int]:
    program = pathlib.Path(os.environ["EVENKEEL_BINARIES"]) / "tests/page/large_group"
    process = subprocess.Popen([str(program)], stdout=subprocess.PIPE, text=True)
    try:
        return count(run("large", process.stdout.readline().strip(), pictures))
    finally:
        process.terminate()
        process.wait(timeout=60)


def main() -> int:
    tools()
    pictures = pathlib.Path(os.environ.get("TEST_UNDECLARED_OUTPUTS_DIR") or tempfile.mkdtemp(prefix="evenkeel-page-"))
    passed, failed = map(sum, zip(small(pictures), large(pictures)))
    print(f"pictures: {pictures}\n{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
