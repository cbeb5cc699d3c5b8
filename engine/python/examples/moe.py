# SPDX-License-Identifier: Apache-2.0
"""A small expert-parallel MoE model in PyTorch that Evenkeel balances, one process a rank.

Layers of experts alone: tokens are routed by a seeded, skewed popularity (or by counts of a trace), exchanged between
ranks by all-to-all, computed by grouped matrix products, sent back and summed. Every few steps each layer's output is
compared with that of an unmoved copy of the experts. Ranks on GPUs of their own exchange by NCCL; ranks that share one,
or have none, by gloo through host memory.

    python3 moe.py --rank=0 --ranks=2 --run_dir=DIR --region_dir=DIR [--device=cuda] ...

It runs until SIGTERM and keeps DIR/engine-RANK.json up to date. tests/gpu/torch_moe.py starts a whole group.
"""

import argparse
import datetime
import json
import os
import pathlib
import signal
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as functional

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import evenkeel  # noqa: E402
import evenkeel.torch  # noqa: E402

BLOCK = 128  # of FP8 scales
FP8_MAX = 448.0


def options_of(arguments=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--group", default="torchmoe")
    add("--rank", type=int, default=0)
    add("--ranks", type=int, default=1)
    add("--run_dir", default=".", help="of status files and where ranks meet")
    add("--region_dir", default="/dev/shm")
    add("--slots_per_rank", type=int, default=0, help="0: one redundant slot a rank")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--layers", type=int, default=3)
    add("--experts", type=int, default=16)
    add("--top_k", type=int, default=4)
    add("--hidden", type=int, default=256, help="DeepSeek-V3: 7168")
    add("--intermediate", type=int, default=128, help="DeepSeek-V3: 2048")
    add("--tokens", type=int, default=64, help="of a rank and step")
    add("--weights", choices=("plain", "fp8"), default="plain", help="fp8: with float32 block scales, a tensor of their own")
    add("--derived", choices=("none", "cached", "interleaved"), default="none",
        help="cached: computes with copies that post_move alone refreshes; interleaved: a layout that is packed to move")
    add("--counts", default="", help="popularity from a trace: counts.npy, uint32 [windows, layers, experts]")
    add("--sigma", type=float, default=1.0, help="of the lognormal popularity")
    add("--drift_every", type=int, default=0, help="steps until the popularity is that of the next window; 0: of all at once")
    add("--seed", type=int, default=1)
    add("--check_every", type=int, default=4, help="steps; 0: never")
    add("--check_route", action="store_true", help="also route by a compiled function and, on GPUs, a replayed graph")
    add("--compile_backend", default="", help="of torch.compile; default: inductor on GPUs, else aot_eager")
    add("--step_seconds", type=float, default=0.0, help="the least time that a step takes")
    options = parser.parse_args(arguments)
    if options.slots_per_rank == 0:
        options.slots_per_rank = -(-options.experts // options.ranks) + 1
    options.compile_backend = options.compile_backend or ("inductor" if options.device == "cuda" else "aot_eager")
    return options


def dtype_of(options) -> torch.dtype:
    return torch.bfloat16 if options.device == "cuda" else torch.float32


def device_of(options) -> torch.device:
    if options.device == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", options.rank % torch.cuda.device_count())


def expert_matrices(options, layer: int, expert: int) -> tuple[torch.Tensor, torch.Tensor]:
    """w13 [2 * intermediate, hidden] and w2 [hidden, intermediate] of an expert, from the seed alone."""
    device = device_of(options)
    generator = torch.Generator(device).manual_seed((options.seed * 1000 + layer) * 100_000 + expert)
    rows = 2 * options.intermediate
    w13 = torch.randn(rows, options.hidden, generator=generator, device=device) / options.hidden**0.5
    w2 = torch.randn(options.hidden, options.intermediate, generator=generator, device=device) / options.intermediate**0.5
    return w13, w2


def quantized(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """FP8 and float32 scales of its blocks."""
    rows, columns = weight.shape
    blocks = weight.view(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    scales = blocks.abs().amax(dim=(1, 3)) / FP8_MAX
    return (blocks / scales[:, None, :, None]).view(rows, columns).to(torch.float8_e4m3fn), scales


def dequantized(weight: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Of one matrix or a stack of them."""
    *stack, rows, columns = weight.shape
    blocks = weight.to(torch.float32).view(*stack, rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    return (blocks * scales[..., :, None, :, None]).view(*stack, rows, columns).to(dtype)


def grouped(rows: torch.Tensor, weights: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Rows of group g, up to row ends[g], times the transpose of weights[g]: [rows, out]."""
    if not rows.shape[0]:
        return rows.new_empty(0, weights.shape[1])
    if rows.is_cuda and rows.dtype == torch.bfloat16 and hasattr(torch, "_grouped_mm"):
        return torch._grouped_mm(rows, weights.transpose(-2, -1), offs=ends)
    out, begin = rows.new_empty(rows.shape[0], weights.shape[1]), 0
    for group, end in enumerate(ends.tolist()):
        if end > begin:
            torch.mm(rows[begin:end], weights[group].t(), out=out[begin:end])
        begin = end
    return out


def experts_forward(rows, groups, num_groups: int, w13, w2):
    """Each row through the expert of its group."""
    order = torch.argsort(groups, stable=True)
    bounds = torch.arange(1, num_groups + 1, device=groups.device, dtype=groups.dtype)
    ends = torch.searchsorted(groups[order], bounds).to(torch.int32)
    gate, up = grouped(rows[order], w13, ends).chunk(2, dim=-1)
    out = grouped((functional.silu(gate) * up).contiguous(), w2, ends)
    return torch.empty_like(out).index_copy_(0, order, out)


def copies(x: torch.Tensor, top_k: int) -> torch.Tensor:
    """Each row top_k times, one after another."""
    return x[:, None].expand(-1, top_k, -1).reshape(-1, x.shape[1])


class Experts(torch.nn.Module):
    """The experts in this rank's slots of one layer."""

    def __init__(self, options, engine, layer: int):
        super().__init__()
        slots, hidden, intermediate = options.slots_per_rank, options.hidden, options.intermediate
        self.options, self.dtype = options, dtype_of(options)
        shapes = {"w13": (slots, 2 * intermediate, hidden), "w2": (slots, hidden, intermediate)}
        for name, shape in shapes.items():
            if options.weights == "fp8":
                self.register_buffer(name, engine.empty(shape, torch.float8_e4m3fn))
                scales = (slots, shape[1] // BLOCK, shape[2] // BLOCK)
                self.register_buffer(f"{name}_scale", engine.empty(scales, torch.float32))
            elif name == "w2" and options.derived == "interleaved":
                # Rows of all slots by turns: no expert's bytes lie together.
                turns = torch.empty(hidden, slots, intermediate, dtype=self.dtype, device=engine.device)
                self.register_buffer(name, turns.transpose(0, 1))
            else:
                self.register_buffer(name, engine.empty(shape, self.dtype))
        for slot in range(slots):
            self.load(slot, *expert_matrices(options, layer, engine.initial_expert(layer, slot)))
        if options.derived == "interleaved":
            engine.register(layer, "w13", self.w13)
            engine.register(layer, "w2", self.w2, pack=lambda slot: self.w2[slot].contiguous(),
                            unpack=lambda slot, packed: self.w2[slot].copy_(packed))
        else:
            engine.register_module(layer, self)
        self.cached = None
        if options.derived == "cached":
            self.cached = [self.whole(name).clone() for name in shapes]

    def load(self, slot: int, w13: torch.Tensor, w2: torch.Tensor):
        for name, weight in (("w13", w13), ("w2", w2)):
            if self.options.weights == "fp8":
                weight, scales = quantized(weight)
                getattr(self, f"{name}_scale")[slot].copy_(scales)
            getattr(self, name)[slot].copy_(weight)

    def whole(self, name: str, slots=slice(None)) -> torch.Tensor:
        weight = getattr(self, name)[slots]
        if self.options.weights == "fp8":
            return dequantized(weight, getattr(self, f"{name}_scale")[slots], self.dtype)
        return weight

    def moved(self, slot: int):
        if self.cached is not None:
            for cached, name in zip(self.cached, ("w13", "w2")):
                cached[slot].copy_(self.whole(name, slot))

    def matrices(self):
        if self.cached is not None:
            return self.cached
        return [self.whole(name).contiguous() for name in ("w13", "w2")]

    def forward(self, rows, local_slots):
        return experts_forward(rows, local_slots, self.options.slots_per_rank, *self.matrices())


class Unmoved:
    """All experts by their ids, as they were loaded: what outputs are compared with."""

    def __init__(self, options):
        self.options = options
        self.layers = {}

    def matrices(self, layer: int):
        if layer not in self.layers:
            dtype, stacks = dtype_of(self.options), ([], [])
            for expert in range(self.options.experts):
                for stack, weight in zip(stacks, expert_matrices(self.options, layer, expert)):
                    weight = dequantized(*quantized(weight), dtype) if self.options.weights == "fp8" else weight
                    stack.append(weight.to(dtype))
            self.layers[layer] = [torch.stack(stack) for stack in stacks]
        return self.layers[layer]

    def forward(self, layer: int, x, ids, gates):
        out = experts_forward(copies(x, ids.shape[1]), ids.flatten(), self.options.experts, *self.matrices(layer))
        return (out.view(*ids.shape, -1) * gates[..., None]).sum(dim=1)


class Exchange:
    """All-to-all of rows between ranks: on GPUs, or through host memory where ranks share one."""

    def __init__(self, options):
        self.ranks = options.ranks
        own_gpus = options.device == "cuda" and torch.cuda.device_count() >= options.ranks
        self.backend = "nccl" if own_gpus else "gloo"
        if self.ranks > 1:
            store = dist.FileStore(str(pathlib.Path(options.run_dir) / "torch-store"), options.ranks)
            dist.init_process_group(self.backend, store=store, rank=options.rank, world_size=options.ranks,
                                    timeout=datetime.timedelta(seconds=120))

    def rows(self, rows: torch.Tensor, sent: list, received: list) -> torch.Tensor:
        width = rows.shape[1:]
        # As bytes: not every backend knows every type.
        data = rows.contiguous().view(rows.shape[0], -1).view(torch.uint8)
        data = data if self.backend == "nccl" else data.cpu()
        out = data.new_empty(sum(received), data.shape[1])
        dist.all_to_all_single(out, data, received, sent)
        return out.to(rows.device).view(rows.dtype).view(-1, *width)

    def any_of(self, flag: bool) -> bool:
        if self.ranks == 1:
            return flag
        word = torch.tensor([int(flag)], device="cuda" if self.backend == "nccl" else "cpu")
        dist.all_reduce(word, op=dist.ReduceOp.MAX)
        return bool(word.item())


class Popularity:
    """Top-k ids and gates, drawn by a popularity of each layer's experts, which may drift."""

    WINDOWS = 16  # of the lognormal; of a trace as many as it has

    def __init__(self, options):
        self.options, self.device = options, device_of(options)
        if options.counts:
            windows = self.of_trace()
        else:
            everywhere = torch.Generator().manual_seed(options.seed)
            shape = (self.WINDOWS, options.layers, options.experts)
            windows = torch.exp(options.sigma * torch.randn(shape, generator=everywhere))
        self.windows = (windows if options.drift_every else windows[:1] if not options.counts else windows.sum(0, True))
        self.windows = self.windows.to(self.device)
        self.weights = self.windows[0]
        self.generator = torch.Generator(self.device).manual_seed(options.seed * 1000 + options.rank)

    def of_trace(self) -> torch.Tensor:
        import numpy
        options, counts = self.options, numpy.load(self.options.counts)
        if counts.shape[1] < options.layers or counts.shape[2] < options.experts:
            raise SystemExit(f"{options.counts} has counts of shape {counts.shape}; {options.layers} layers of "
                             f"{options.experts} experts are asked for")
        return torch.from_numpy(counts[:, : options.layers, : options.experts].astype("float32")) + 1e-3

    def begin_step(self, step: int):
        if self.options.drift_every:
            self.weights = self.windows[step // self.options.drift_every % len(self.windows)]

    def batch(self, layer: int):
        options = self.options
        rows = self.weights[layer].expand(options.tokens, -1)
        ids = torch.multinomial(rows, options.top_k, generator=self.generator)
        gates = torch.rand(options.tokens, options.top_k, generator=self.generator, device=self.device)
        return ids, (gates / gates.sum(dim=1, keepdim=True)).to(dtype_of(options))


class Model:
    def __init__(self, options, engine, exchange):
        self.options, self.engine, self.exchange = options, engine, exchange
        self.layers = [Experts(options, engine, layer) for layer in range(options.layers)]
        engine.on_post_move(self.moved)
        self.num_moved = 0
        self.rows = [0] * options.layers  # computed here, by layer

    def moved(self, layer: int, slot: int, expert: int):
        self.layers[layer].moved(slot)
        self.num_moved += 1

    def layer(self, layer: int, x, ids, gates):
        """x [tokens, hidden] through the layer's experts."""
        slots = self.engine.route(layer, ids).flatten()
        rows = copies(x, ids.shape[1])
        if self.exchange.ranks == 1:
            self.rows[layer] += len(rows)
            out = self.layers[layer](rows, slots)
        else:
            out = self.dispatched(layer, rows, slots)
        return (out.view(*ids.shape, -1) * gates[..., None]).sum(dim=1)

    def dispatched(self, layer: int, rows, slots):
        ranks, per_rank = self.exchange.ranks, self.options.slots_per_rank
        order = torch.argsort(slots, stable=True)
        sent = torch.bincount(slots // per_rank, minlength=ranks).cpu()
        received = self.exchange.rows(sent[:, None].to(rows.device), [1] * ranks, [1] * ranks).flatten().tolist()
        sent = sent.tolist()
        local = self.exchange.rows((slots[order] % per_rank)[:, None], sent, received).flatten()
        arrived = self.exchange.rows(rows[order], sent, received)
        self.rows[layer] += len(arrived)
        back = self.exchange.rows(self.layers[layer](arrived, local), received, sent)
        return torch.empty_like(rows).index_copy_(0, order, back)


class RouteChecks:
    """The operator in eager mode, compiled and, on GPUs, in a replayed graph: equal within a step, and a slot of the
    expert that was asked for."""

    def __init__(self, options, engine):
        self.engine, self.layers, self.num_checked = engine, options.layers, 0
        self.compiled = torch.compile(self.all_layers, fullgraph=True, backend=options.compile_backend)
        self.graph = None
        self.ids = torch.zeros(options.tokens, options.top_k, dtype=torch.int64, device=engine.device)

    def all_layers(self, ids):
        return torch.stack([self.engine.route(layer, ids) for layer in range(self.layers)]) + 0

    def capture(self):
        """Outside of steps; the graph goes on with whatever maps come."""
        self.compiled(self.ids)
        if not self.engine.on_gpu:
            return
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.replayed = self.compiled(self.ids)

    def wrong(self, ids) -> int:
        """Within a step: how many copies differ or went to another expert's slot."""
        self.ids.copy_(ids)
        eager = self.all_layers(self.ids)
        ways = [self.compiled(self.ids)]
        if self.graph is not None:
            self.graph.replay()
            ways.append(self.replayed)
        wrong = sum(int((eager != way).sum()) for way in ways)
        for layer in range(self.layers):
            experts = torch.tensor(self.engine.region.physical_to_logical(layer), device=eager.device)
            wrong += int((experts[eager[layer].long()] != self.ids).sum())
        self.num_checked += eager.numel() * (1 + len(ways))
        return wrong


class Run:
    """Steps until told to stop, and what came of them."""

    def __init__(self, options):
        self.options = options
        if options.device == "cuda":
            torch.cuda.set_device(device_of(options))
        self.exchange = Exchange(options)
        item = 1 if options.weights == "fp8" else dtype_of(options).itemsize
        per_expert = 3 * options.hidden * options.intermediate * item * 2  # twice: alignment and scales
        room = 0 if options.device == "cuda" else options.layers * options.slots_per_rank * per_expert + (1 << 20)
        self.engine = evenkeel.torch.Engine(
            group=options.group, model="torchmoe", rank=options.rank, num_ranks=options.ranks, num_layers=options.layers,
            num_experts=options.experts, slots_per_rank=options.slots_per_rank, directory=options.region_dir,
            weights_bytes=room, device=device_of(options))
        self.model = Model(options, self.engine, self.exchange)
        self.unmoved, self.popularity = Unmoved(options), Popularity(options)
        self.engine.ready()
        self.route_checks = RouteChecks(options, self.engine) if options.check_route else None
        self.status = dict(steps=0, tokens=0, checked_tokens=0, mismatched_tokens=0, wrong_routes=0, worst_error=0.0)
        self.stopped = False

    def step(self):
        options, status = self.options, self.status
        x = torch.randn(options.tokens, options.hidden, generator=self.popularity.generator, device=self.engine.device)
        x = x.to(dtype_of(options))
        self.popularity.begin_step(status["steps"])
        checked = options.check_every and status["steps"] % options.check_every == 0
        to_check = []
        with self.engine.step(phase=evenkeel.DECODE):
            for layer in range(options.layers):
                ids, gates = self.popularity.batch(layer)
                out = self.model.layer(layer, x, ids, gates)
                if checked:
                    to_check.append((layer, x, ids, gates, out))
                x = functional.rms_norm(x + out, (options.hidden,))
            if checked and self.route_checks is not None:
                status["wrong_routes"] += self.route_checks.wrong(ids)
        for layer, came, ids, gates, out in to_check:
            self.compare(out, self.unmoved.forward(layer, came, ids, gates))
        status["steps"] += 1
        status["tokens"] += options.tokens

    def compare(self, out, expected):
        """A token through a wrong or torn expert is off by about its own length; rounding is far below the bound."""
        out, expected = out.float(), expected.float()
        errors = (out - expected).norm(dim=1) / expected.norm(dim=1)
        bound = 0.02 if out.is_cuda else 1e-3
        self.status["worst_error"] = max(self.status["worst_error"], float(errors.max()))
        self.status["checked_tokens"] += len(errors)
        self.status["mismatched_tokens"] += int((~(errors < bound)).sum())

    def write_status(self):
        checked = self.route_checks.num_checked if self.route_checks is not None else 0
        path = pathlib.Path(self.options.run_dir) / f"engine-{self.options.rank}.json"
        path.with_suffix(".new").write_text(json.dumps({
            **self.status, "experts_moved_here": self.model.num_moved, "checked_routes": checked,
            "rows": self.model.rows, "at": time.monotonic(),
            "exchange": self.exchange.backend if self.exchange.ranks > 1 else "none"}))
        os.replace(path.with_suffix(".new"), path)

    def run(self):
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopped", True))
        if self.route_checks is not None:
            self.engine.region.busy_lease(120)
            with self.engine.step(kind=evenkeel.PROFILE):
                pass  # maps are in place before anything routes
            self.route_checks.capture()
        written = 0.0
        while not self.exchange.any_of(self.stopped):
            begun = time.monotonic()
            self.step()
            if begun - written > 0.2:
                self.write_status()
                written = begun
            time.sleep(max(0.0, begun + self.options.step_seconds - time.monotonic()))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # asked for twice is asked for once
        self.write_status()
        self.engine.region.leave()
        self.engine.close()
        if self.exchange.ranks > 1:
            dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    Run(options_of()).run()
