# SPDX-License-Identifier: Apache-2.0
"""The PyTorch example of engine/python/examples as a whole group: experts move while it serves, outputs are compared
with an unmoved copy's.

    torch_moe.py FOLDER [--device=cuda|cpu] [--ranks=N] [--python=COMMAND] [--moves=N] [-- FLAGS OF moe.py]

FOLDER: as tests/gpu/run.sh collects it, or a checkout whose bazel-bin is built. Without FLAGS every way in which weights
may lie is tried: plain, FP8 with block scales, cached copies, a layout that must be packed.
"""

import argparse
import os
import pathlib
import shlex
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE if (HERE / "deploy").exists() else HERE.parents[1]
sys.path.insert(0, str(ROOT / "deploy"))

from cluster import Binaries, Cluster, Options, wait_for  # noqa: E402

GROUP = "torchmoe"
WAYS = {
    "plain weights": ["--check_route"],
    "FP8 weights with float32 block scales": ["--weights=fp8"],
    "cached copies of FP8 weights, refreshed by post_move alone": ["--weights=fp8", "--derived=cached"],
    "a layout in which no expert is a byte range": ["--derived=interleaved"],
}


class TorchCluster(Cluster):
    """Engines are processes of Python."""

    def __init__(self, options: Options, python: str, flags: list, environment: dict):
        super().__init__(options)
        self.python, self.flags, self.environment = shlex.split(python), flags, environment

    def start_engine(self, rank: int, *extra, join: bool = False):
        if join:
            raise NotImplementedError("the example does not join a group under way")
        (self.run_dir / f"engine-{rank}.json").unlink(missing_ok=True)
        self.spawn(f"engine-{rank}", [*self.python, ROOT / "engine/python/examples/moe.py", f"--group={GROUP}",
                                      f"--rank={rank}", f"--ranks={self.options.ranks}", f"--run_dir={self.run_dir}",
                                      f"--region_dir={self.region_dir}", *self.flags, *extra], env=self.environment)


def serve(binaries: Binaries, arguments, environment: dict, what: str, flags: list):
    """One group: served by the default placement, rearranged until enough experts moved, and checked."""
    options = Options(binaries=binaries, model_dir=pathlib.Path(), ranks=arguments.ranks, group=GROUP)
    with TorchCluster(options, arguments.python, [f"--device={arguments.device}", *flags],
                      environment) as cluster:
        cluster.start()
        cluster.wait_until_serving(arguments.seconds)
        before = cluster.totals()
        for policy in ("deepseek", "greedy") * 20:
            if cluster.totals()["moves"] >= arguments.moves:
                break
            cluster.rearrange(policy=policy)
            cluster.check_alive()
        after = cluster.totals()
        if after["moves"] < arguments.moves:
            raise RuntimeError(f"{after['moves']} experts were moved, {arguments.moves} should have been")
        checked = cluster.engine_total("checked_tokens")
        wait_for("outputs to be checked after the moves", lambda: cluster.engine_total("checked_tokens") > checked + 1000,
                 arguments.seconds)
        wait_for("every post_move to be called", lambda: cluster.engine_total("experts_moved_here") >= arguments.moves, 30)
        cluster.check_text()
        if cluster.engine_total("wrong_routes"):
            raise AssertionError(f"{cluster.engine_total('wrong_routes')} copies were routed differently or wrongly")
        if "--check_route" in flags and not cluster.engine_total("checked_routes"):
            raise AssertionError("no route was checked")
        worst = max(cluster.engine_status(rank)["worst_error"] for rank in range(arguments.ranks))
        print(f"{what}: {arguments.ranks} ranks, exchange {cluster.engine_status(0)['exchange']}, {after['moves']} moves "
              f"({before['moves']} before asking), {cluster.engine_total('tokens')} tokens, "
              f"{cluster.engine_total('checked_tokens')} outputs and {cluster.engine_total('checked_routes')} routes checked, "
              f"none wrong, worst relative error {worst:.2g}", flush=True)
        for rank, status in cluster.stop_engines().items():
            if status != 0:
                raise RuntimeError(f"engine {rank} ended with {status}:\n{cluster.log_of(f'engine-{rank}')}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--moves", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=120, help="for each thing that is waited for")
    parser.add_argument("--python", default="python3", help="command that runs the engines, which need PyTorch")
    arguments, flags = parser.parse_known_args()
    flags = [flag for flag in flags if flag != "--"]
    folder = arguments.folder.resolve()
    binaries = Binaries(folder / "bazel-bin" if (folder / "bazel-bin").exists() else folder)
    os.environ.setdefault("EVENKEEL_LIBRARY", str(binaries.path("engine", "libevenkeel.so")))
    engine_environment = dict(os.environ)
    # Collected binaries bring their libraries; PyTorch's process has its own.
    if (folder / "lib").exists():
        os.environ["LD_LIBRARY_PATH"] = str(folder / "lib")
    for what, chosen in ({"as asked": flags} if flags else WAYS).items():
        serve(binaries, arguments, engine_environment, what, chosen)


if __name__ == "__main__":
    main()
