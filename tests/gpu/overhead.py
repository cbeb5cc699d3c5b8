# SPDX-License-Identifier: Apache-2.0
"""What Evenkeel costs an engine in which there is nothing to balance, as vLLM's PR 24573 measured its own: tokens per
second with Evenkeel off, on without counting, and on; no redundant slot, nothing rearranged, controller and agent running.

    overhead.py FOLDER [--rounds=5] [--seconds=3] [-- FLAGS OF moe.py]

One rank replays a CUDA graph of a decode step of the example's layers (no attention, which would make the share of
routing smaller). Modes are run by turns in each round; figures are medians over rounds. FOLDER as for torch_moe.py.
"""

import argparse
import os
import pathlib
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE if (HERE / "deploy").exists() else HERE.parents[1]
sys.path[:0] = [str(ROOT / "deploy"), str(ROOT / "engine/python"), str(ROOT / "engine/python/examples")]

import torch  # noqa: E402

import evenkeel  # noqa: E402
import evenkeel.torch  # noqa: E402
import moe  # noqa: E402
from cluster import Binaries, Cluster, Options, wait_for  # noqa: E402

GROUP, POOL, AHEAD = "overhead", 32, 8
MODES = {"off": None, "on, not counting": evenkeel.DUMMY, "on": evenkeel.REAL}
GOAL_PERCENT = 1.66
DEFAULTS = ["--device=cuda", "--hidden=7168", "--intermediate=2048", "--experts=64", "--top_k=8", "--layers=8", "--tokens=256"]


class Bench:
    """The model's step with and without routing, each captured once."""

    def __init__(self, options, directory: str):
        self.options = options
        item = moe.dtype_of(options).itemsize
        room = options.layers * options.slots_per_rank * 3 * options.hidden * options.intermediate * item + (1 << 20)
        self.engine = evenkeel.torch.Engine(
            group=GROUP, model="torchmoe", rank=0, num_ranks=1, num_layers=options.layers, num_experts=options.experts,
            slots_per_rank=options.slots_per_rank, directory=directory, device=moe.device_of(options),
            weights_bytes=0 if options.device == "cuda" else room)
        self.model = moe.Model(options, self.engine, moe.Exchange(options))
        self.engine.ready()
        popularity = moe.Popularity(options)
        drawn = [[popularity.batch(layer) for layer in range(options.layers)] for _ in range(POOL)]
        self.pool = torch.stack([torch.stack([ids for ids, _ in step]) for step in drawn]).to(torch.int32)
        self.gates = [gates for _, gates in drawn[0]]
        self.ids = self.pool[0].clone()
        self.x = torch.randn(options.tokens, options.hidden, device=self.engine.device).to(moe.dtype_of(options))
        with self.engine.step(kind=evenkeel.PROFILE):
            self.calls = {routed: self.captured(routed) for routed in (False, True)}

    def forward(self, routed: bool):
        x = self.x
        for layer in range(self.options.layers):
            if routed:
                out = self.model.layer(layer, x, self.ids[layer], self.gates[layer])
            else:
                rows = moe.copies(x, self.options.top_k)
                out = self.model.layers[layer](rows, self.ids[layer].flatten())
                out = (out.view(*self.ids[layer].shape, -1) * self.gates[layer][..., None]).sum(dim=1)
            x = torch.nn.functional.rms_norm(x + out, (self.options.hidden,))
        return x

    def captured(self, routed: bool):
        def call():
            return self.forward(routed)
        if not self.engine.on_gpu:
            return call
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        return graph.replay

    def same_output(self) -> bool:
        """Without redundancy a slot is its expert's: both ways compute the same."""
        with self.engine.step(kind=evenkeel.PROFILE):
            return torch.equal(self.forward(False), self.forward(True))

    def tokens_per_second(self, mode: str, seconds: float) -> float:
        kind, steps, events = MODES[mode], 0, []
        call = self.calls[kind is not None]
        self.wait()
        begun = time.perf_counter()
        while time.perf_counter() - begun < seconds:
            self.ids.copy_(self.pool[steps % POOL])
            if kind is None:
                call()
            else:
                with self.engine.step(phase=evenkeel.DECODE, kind=kind):
                    call()
            steps += 1
            if self.engine.on_gpu:
                events.append(torch.cuda.Event())
                events[-1].record()
                if len(events) > AHEAD:
                    events.pop(0).synchronize()
        self.wait()
        return steps * self.options.tokens / (time.perf_counter() - begun)

    def wait(self):
        if self.engine.on_gpu:
            torch.cuda.synchronize()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments, flags = parser.parse_known_args()
    options = moe.options_of([*DEFAULTS, "--ranks=1", *[flag for flag in flags if flag != "--"]])
    options.slots_per_rank = options.experts
    folder = arguments.folder.resolve()
    binaries = Binaries(folder / "bazel-bin" if (folder / "bazel-bin").exists() else folder)
    os.environ.setdefault("EVENKEEL_LIBRARY", str(binaries.path("engine", "libevenkeel.so")))
    # Collected binaries bring their libraries; this process has PyTorch's.
    if (folder / "lib").exists():
        os.environ["LD_LIBRARY_PATH"] = str(folder / "lib")
    with Cluster(Options(binaries=binaries, model_dir=pathlib.Path(), ranks=1, group=GROUP)) as cluster:
        cluster.start_controller()
        bench = Bench(options, str(cluster.region_dir))
        cluster.start_agent(0)

        def known():
            with bench.engine.step(kind=evenkeel.DUMMY):
                pass
            return (group := cluster.group()) and not group["forming"]
        wait_for("the controller to know the engine", known, 60)
        if not bench.same_output():
            raise AssertionError("outputs with and without routing differ")
        for mode in MODES:
            bench.tokens_per_second(mode, min(1.0, arguments.seconds))
        measured = {mode: [] for mode in MODES}
        for _ in range(arguments.rounds):
            for mode in MODES:
                measured[mode].append(bench.tokens_per_second(mode, arguments.seconds))
        name = torch.cuda.get_device_name() if bench.engine.on_gpu else "CPU"
        print(f"{name}, PyTorch {torch.__version__}; {options.layers} layers of {options.experts} experts top-{options.top_k}, hidden "
              f"{options.hidden}, intermediate {options.intermediate}, {options.tokens} tokens a step, {moe.dtype_of(options)}, "
              f"{'a replayed graph' if bench.engine.on_gpu else 'eager'}; {arguments.rounds} rounds of {arguments.seconds:g} s")
        medians = {mode: statistics.median(values) for mode, values in measured.items()}
        for mode, values in measured.items():
            lost = 100 * (1 - medians[mode] / medians["off"])
            print(f"{mode:16}: {medians[mode]:12.1f} tokens/s (from {min(values):.1f} to {max(values):.1f}), {lost:+.2f} % lost")
        lost = 100 * (1 - medians["on"] / medians["off"])
        print(f"goal: at most {GOAL_PERCENT} % lost: {'kept' if lost <= GOAL_PERCENT else 'not kept'}; "
              f"experts moved: {bench.model.num_moved}")
        bench.engine.close()


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
