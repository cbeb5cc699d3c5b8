# SPDX-License-Identifier: Apache-2.0
"""Experts in device memory through rearrangements and the loss of a rank, with real processes.

Usage: device_loss.py FOLDER, as tests/gpu/run.sh collects it.
"""

import pathlib
import subprocess
import sys
import time

FOLDER = pathlib.Path(sys.argv[1]).resolve()
sys.path.insert(0, str(FOLDER / "deploy"))

from cluster import Binaries, Cluster, Options, wait_for  # noqa: E402

RANKS, LOST = 4, 2


def pids_on_gpus() -> set[int]:
    text = subprocess.run(["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"], capture_output=True,
                          text=True, check=True).stdout
    return {int(line) for line in text.split() if line.isdigit()}


def main():
    options = Options(binaries=Binaries(FOLDER), model_dir=FOLDER / "engine/reference/tinymoe", ranks=RANKS, redundant=80,
                      config={"defaults": {"survive": {"ranks": 1}}}, engine_flags=["--device=cuda", "--on_loss=wait"])
    with Cluster(options) as cluster:
        cluster.start()
        cluster.wait_until_serving()
        for policy in ("deepseek", "greedy") * 3:
            if cluster.totals()["moves"] <= 20:
                cluster.rearrange(policy=policy)
        print(f"moves {cluster.totals()['moves']}")
        if cluster.totals()["moves"] <= 20:
            raise RuntimeError("hardly any expert was moved")
        cluster.check_text()
        wait_for("every expert to be protected", lambda: cluster.settled() and not cluster.experts_at_risk(), 60)
        engine = cluster.processes[f"engine-{LOST}"].pid
        killed = time.monotonic()
        cluster.kill_ranks(LOST, agents=False)
        wait_for("the killed engine to be gone from its GPU", lambda: engine not in pids_on_gpus(), 10)
        print(f"no process of the killed engine on a GPU after {time.monotonic() - killed:.2f} s")
        wait_for("its rank to be lost", lambda: cluster.standings().get(LOST) == "lost", 30)
        wait_for("every expert to have a live slot", cluster.fully_replicated, 60)
        before = cluster.engine_total("checked_tokens")
        wait_for("survivors to go on", lambda: cluster.engine_total("checked_tokens") > before + 1000, 60)
        cluster.check_text()
        print(f"{cluster.engine_total('tokens')} tokens, {cluster.engine_total('checked_tokens')} checked, none wrong")


main()
