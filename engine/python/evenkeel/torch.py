# SPDX-License-Identifier: Apache-2.0
"""Evenkeel for engines in PyTorch: registers expert tensors, routes by an operator, brackets steps.

    engine = Engine(group="g", model="m", rank=rank, num_ranks=8, num_layers=58, num_experts=256, slots_per_rank=36,
                    device="cuda:0")
    for layer, moe in enumerate(moe_layers):                   # parameters whose first dimension is the local slot
        for slot in range(36):
            load(moe, slot, engine.initial_expert(layer, slot))
        engine.register_module(layer, moe)
    engine.ready()                                             # takes all device memory; before memory is profiled
    with engine.step(phase=evenkeel.DECODE):                   # around a forward pass or a graph's replay, not within
        slots = engine.route(layer, topk_idx)                  # [tokens, top_k] ids -> int32 slots, counted

`route` is the operator evenkeel::route: torch.compile takes it with fullgraph=True, CUDA graphs capture it. On the CPU
(device="cpu") the same calls work on memory of empty().

Threads:   as evenkeel.h says. Streams: torch.cuda.current_stream() of the device.
Memory:    registered tensors stay where they are until close().
Needs:     PyTorch 2.4; nothing is built.
"""

import contextlib
import weakref

import torch

import evenkeel
from evenkeel import layout

if not hasattr(torch.library, "custom_op"):
    raise ImportError(f"evenkeel.torch needs PyTorch 2.4 or later, this is {torch.__version__}")

# What operators name engines by: those that are still there.
_engines: "weakref.WeakValueDictionary[int, Engine]" = weakref.WeakValueDictionary()
_num_engines = 0


def _engine(key: int) -> "Engine":
    engine = _engines.get(key)
    if engine is None:
        raise evenkeel.EvenkeelError(-2, "operator of evenkeel.torch", "its engine is closed")
    return engine


def _check_ids(topk_idx: torch.Tensor) -> None:
    problem = layout.ids_problem(str(topk_idx.dtype), topk_idx.shape, topk_idx.stride())
    if problem:
        raise ValueError(f"route: {problem}")


@torch.library.custom_op("evenkeel::route", mutates_args=())
def _route(topk_idx: torch.Tensor, engine: int, layer: int, lane: int, first_token: int) -> torch.Tensor:
    return _engine(engine)._route_now(topk_idx, layer, lane, first_token)


@_route.register_fake
def _(topk_idx, engine, layer, lane, first_token):
    _check_ids(topk_idx)
    return topk_idx.new_empty(topk_idx.shape, dtype=torch.int32)


# `counted` is not written: naming it keeps the compiler from leaving the call out.
@torch.library.custom_op("evenkeel::add_counts", mutates_args=("counted",))
def _add_counts(counted: torch.Tensor, values: torch.Tensor, engine: int, layer: int, lane: int,
                cumulative: bool) -> None:
    _engine(engine)._add_counts_now(values, layer, lane, cumulative)


@_add_counts.register_fake
def _(counted, values, engine, layer, lane, cumulative):
    return None


class Engine:
    """One rank's region with its tensors on `device`. Other options are those of evenkeel.Region."""

    def __init__(self, *, device, num_layers: int, num_experts: int, slots_per_rank: int, weights_bytes: int = 0,
                 count_place: int = evenkeel.COUNT_ROUTER, **options):
        global _num_engines
        self.device = torch.device(device)
        if self.device.type not in ("cpu", "cuda"):
            raise ValueError(f"device {self.device}: cpu and cuda are supported")
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.on_gpu = self.device.type == "cuda"
        self.num_layers, self.num_experts, self.slots_per_rank = num_layers, num_experts, slots_per_rank
        self.region = evenkeel.Region(num_layers=num_layers, num_experts=num_experts, slots_per_rank=slots_per_rank,
                                      weights_bytes=weights_bytes, count_place=count_place, **options)
        self._kept = []  # registered memory, and with it whoever lent it
        self._unpackers: dict[int, list] = {}
        self._post_move = None
        self._failed: Exception | None = None
        self._phases: dict[int, int | None] = {}  # of each lane's newest step; None: it is not counted
        self._counted = torch.zeros(1, dtype=torch.int32, device=self.device)
        self.region.on_post_move(self._moved)
        _num_engines += 1
        self._key = _num_engines
        _engines[self._key] = self

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the incarnation, after the GPU is done with what was enqueued."""
        _engines.pop(self._key, None)
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
        self.region.close()
        self._kept.clear()

    # ---- Set-up

    def initial_expert(self, layer: int, local_slot: int) -> int:
        return self.region.initial_expert(layer, local_slot)

    def empty(self, shape, dtype: torch.dtype) -> torch.Tensor:
        """Memory that may be registered: of the GPU, or of the region, of which weights_bytes must have room."""
        if self.on_gpu:
            return torch.empty(shape, dtype=dtype, device=self.device)
        num_bytes = torch.Size(shape).numel() * torch.empty((), dtype=dtype).element_size()
        return torch.frombuffer(self.region.alloc_weights(num_bytes), dtype=dtype).view(shape)

    def register(self, layer: int, name: str, tensor: torch.Tensor, *, pack=None, unpack=None):
        """Names a tensor of a layer's experts, first dimension local slots: all of a slot moves with its expert.

        Where an expert is not a byte range of its own, `pack(local_slot)` gives its contents as a tensor, of one shape
        and type for all slots, and `unpack(local_slot, packed)` puts them back. The packed copies of all slots are kept
        beside the tensor; pack is called here, unpack in begin_step, on the step's stream.
        """
        if tensor.device != self.device:
            raise ValueError(f"register {name} of layer {layer}: it is on {tensor.device}, the engine on {self.device}")
        if (pack is None) != (unpack is None):
            raise ValueError(f"register {name} of layer {layer}: pack and unpack go together")
        if pack is not None:
            tensor = self._staged(layer, pack, unpack)
        try:
            num_bytes, stride = layout.expert_range(tensor.shape, tensor.stride(), tensor.element_size(),
                                                    self.slots_per_rank)
        except ValueError as error:
            raise ValueError(f"register {name} of layer {layer}: {error}" + (
                "; give pack and unpack" if "byte range" in str(error) else "")) from None
        if self.on_gpu and layout.lies_in_expandable_segment(torch.cuda.memory_snapshot(), tensor.data_ptr()):
            raise evenkeel.EvenkeelError(
                -1, f"register {name} of layer {layer}",
                "its memory is an expandable segment, which other processes cannot map; set "
                "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:False (PYTORCH_ALLOC_CONF in newer versions) before the start")
        self.region.add_tensor(layer, name, str(tensor.dtype).removeprefix("torch."), tensor.data_ptr(), num_bytes, stride)
        self._kept.append(tensor)

    def _staged(self, layer: int, pack, unpack) -> torch.Tensor:
        first = pack(0)
        staged = self.empty((self.slots_per_rank, *first.shape), first.dtype)
        for slot in range(self.slots_per_rank):
            staged[slot].copy_(first if slot == 0 else pack(slot))
        self._unpackers.setdefault(layer, []).append(lambda slot: unpack(slot, staged[slot]))
        return staged

    def register_module(self, layer: int, module: torch.nn.Module, names=None):
        """All parameters and buffers of a module whose first dimension is the local slots, or those of `names`."""
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        if names is None:
            names = [name for name, tensor in tensors.items() if tensor.dim() and tensor.shape[0] == self.slots_per_rank]
        missing = [name for name in names if name not in tensors]
        if missing or not names:
            raise ValueError(f"register layer {layer}: the module has no tensor " + (
                f"{', '.join(missing)}" if missing else f"of {self.slots_per_rank} slots"))
        for name in names:
            self.register(layer, name, tensors[name].detach())

    def on_post_move(self, function):
        """function(layer, local_slot, expert) is called in begin_step after an expert was moved into a slot, for what is
        derived from weights; what it enqueues on the current stream is done before any step uses the slot."""
        self._post_move = function

    def _moved(self, layer: int, local_slot: int, expert: int):
        # Called from C, where an exception would be lost.
        try:
            for unpack in self._unpackers.get(layer, ()):
                unpack(local_slot)
            if self._post_move is not None:
                self._post_move(layer, local_slot, expert)
        except Exception as error:  # noqa: BLE001
            self._failed = self._failed or error

    @property
    def device_bytes(self) -> int:
        """Of device memory that the library will ever hold."""
        return self.region.device_bytes if self.on_gpu else 0

    def ready(self):
        """Weights are in place. Takes all device memory: before the engine profiles what is left."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
        self.region.ready()
        if self.on_gpu:
            self.region.open_device(self.device.index)

    # ---- Steps

    def _stream(self) -> int:
        return torch.cuda.current_stream(self.device).cuda_stream

    def _refuse_capture(self, doing: str):
        if self.on_gpu and torch.cuda.is_current_stream_capturing():
            raise evenkeel.EvenkeelError(-2, doing, "it must not be captured; call it around the graph's replay")

    def begin_step(self, lane: int = 0, phase: int = evenkeel.OTHER, kind: int = evenkeel.REAL) -> int:
        """The newest maps, where the current stream gets there. Returns the step's ticket."""
        self._refuse_capture("begin step")
        if self.on_gpu:
            ticket = self.region.begin_step_on(self._stream(), lane, phase, kind)
        else:
            ticket = self.region.begin_step(lane, phase, kind)
        self._phases[lane] = phase if kind == evenkeel.REAL else None
        if self._failed is not None:
            failed, self._failed = self._failed, None
            self.abort_step(lane, ticket)
            raise failed
        return ticket

    def end_step(self, lane: int, ticket: int):
        """The step is over where the current stream gets there; its side streams were joined."""
        self._refuse_capture("end step")
        if self.on_gpu:
            self.region.end_step_on(self._stream(), lane, ticket)
        else:
            self.region.end_step(lane, ticket)

    def abort_step(self, lane: int, ticket: int):
        """The step is given up; waits for what it had enqueued."""
        if self.on_gpu:
            torch.cuda.current_stream(self.device).synchronize()
        self.region.abort_step(lane, ticket)

    @contextlib.contextmanager
    def step(self, lane: int = 0, phase: int = evenkeel.OTHER, kind: int = evenkeel.REAL):
        """begin_step and end_step around a `with` block; abort_step where it raises."""
        ticket = self.begin_step(lane, phase, kind)
        try:
            yield ticket
        except BaseException:
            self.abort_step(lane, ticket)
            raise
        self.end_step(lane, ticket)

    def route(self, layer: int, topk_idx: torch.Tensor, *, lane: int = 0, first_token: int = 0) -> torch.Tensor:
        """int32 slots of the whole layer, [tokens, top_k]; -1 for negative ids and for experts without a live replica.
        Counted in the same pass where the engine counts at the router. Calls of equal arguments within one compiled
        graph may be merged into one."""
        if not 0 <= layer < self.num_layers:
            raise ValueError(f"route: layer {layer} is not of 0 to {self.num_layers - 1}")
        return torch.ops.evenkeel.route(topk_idx, self._key, layer, lane, first_token)

    def _route_now(self, topk_idx: torch.Tensor, layer: int, lane: int, first_token: int) -> torch.Tensor:
        _check_ids(topk_idx)
        if topk_idx.device != self.device:
            raise ValueError(f"route: topk_idx is on {topk_idx.device}, the engine on {self.device}")
        num_tokens, top_k = topk_idx.shape
        row_stride = topk_idx.stride(0) if num_tokens > 1 else top_k
        slots = torch.empty((num_tokens, top_k), dtype=torch.int32, device=self.device)
        at = (lane, layer, topk_idx.data_ptr(), topk_idx.element_size(), num_tokens, top_k, row_stride, first_token,
              slots.data_ptr())
        if self.on_gpu:
            status = self.region._call("route_on", *at, self._stream())
        else:
            status = self.region._call("route", *at)
        self.region._check(status, f"route layer {layer}")
        return slots

    def add_counts(self, layer: int, values: torch.Tensor, *, cumulative: bool = False, lane: int = 0):
        """With COUNT_AFTER_DISPATCH: tokens of each local slot in the lane's newest step, [slots_per_rank]."""
        if not 0 <= layer < self.num_layers:
            raise ValueError(f"add_counts: layer {layer} is not of 0 to {self.num_layers - 1}")
        torch.ops.evenkeel.add_counts(self._counted, values, self._key, layer, lane, cumulative)

    def _add_counts_now(self, values: torch.Tensor, layer: int, lane: int, cumulative: bool):
        if values.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"add_counts: values are {values.dtype}; torch.int32 and torch.int64 are taken")
        if tuple(values.shape) != (self.slots_per_rank,) or not values.is_contiguous() or values.device != self.device:
            raise ValueError(f"add_counts: values have shape {list(values.shape)} on {values.device}; it must be "
                             f"[{self.slots_per_rank}], dense, on {self.device}")
        if self.on_gpu:
            self.region.add_counts_on(self._stream(), layer, values.data_ptr(), values.element_size(), cumulative, lane)
            return
        if self._phases.get(lane) is None:
            return
        before = 0
        for slot, value in enumerate(values.tolist()):
            self.region.count(layer, slot, value - before, phase=self._phases[lane], thread=lane)
            before = value if cumulative else 0
