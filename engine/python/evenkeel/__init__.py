# SPDX-License-Identifier: Apache-2.0
"""Evenkeel for inference engines in Python: the calls of engine/evenkeel.h through ctypes, no build step.

    region = Region(group="tiny", model="tinymoe", rank=0, num_ranks=8, num_layers=4, num_experts=64, slots_per_rank=9,
                    weights_bytes=1 << 30)
    w13 = region.alloc_weights(9 * w13_bytes)          # a writable memoryview in shared memory
    region.add_tensor(layer, "w13", "bf16", w13, w13_bytes)
    region.ready()
    with region.step(lane=0, phase=DECODE) as step:
        region.route(layer, ids, slots, top_k=8)       # NumPy or torch CPU arrays, array.array, ctypes arrays
        region.count(layer, local_slot, num_tokens, phase=DECODE)

Threads, memory, waiting and errors are as the header says. Errors are raised as EvenkeelError with the library's text.
The shared library is found through the argument `library`, $EVENKEEL_LIBRARY, beside this file, or where the loader looks.
For PyTorch there is evenkeel.torch.
"""

import ctypes

from evenkeel import _abi
from evenkeel._abi import (  # noqa: F401
    ABI_VERSION, COUNT_AFTER_DISPATCH, COUNT_ROUTER, DECODE, DUMMY, OTHER, PREFER_NEAR, PREFER_NONE, PREFER_REMOTE, PREFILL,
    PROFILE, REAL, ROUTING_REPLICATED, ROUTING_SENDER, STATUS_NAMES, EvenkeelError, load_library)


def _address(data) -> tuple[int, int, int]:
    """(address, bytes, bytes per element) of an array: with data_ptr (torch) or any contiguous buffer."""
    if hasattr(data, "data_ptr"):
        if not data.is_contiguous() or data.device.type != "cpu":
            raise ValueError("tensors must be contiguous and on the CPU")
        return data.data_ptr(), data.numel() * data.element_size(), data.element_size()
    view = memoryview(data)
    if not view.c_contiguous:
        raise ValueError("arrays must be contiguous")
    if view.readonly:
        # Without a writable buffer ctypes gives no address; a copy would be too late for results.
        raise ValueError("arrays must be writable")
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) if view.nbytes else 0, view.nbytes, view.itemsize


class Step:
    """One forward step; ends when its `with` block does, is given up when the block raises."""

    def __init__(self, region: "Region", lane: int, phase: int, kind: int):
        self._region, self.lane = region, lane
        self.ticket = region.begin_step(lane, phase, kind)

    def __enter__(self) -> "Step":
        return self

    def __exit__(self, kind, value, traceback):
        if kind is None:
            self._region.end_step(self.lane, self.ticket)
        else:
            self._region.abort_step(self.lane, self.ticket)


class Region:
    """The region of one rank: evenkeel_create. Closed by close(), by a `with` block, or when it is collected."""

    def __init__(self, *, group: str, model: str, rank: int, num_ranks: int, num_layers: int, num_experts: int,
                 slots_per_rank: int, weights_bytes: int, weights_version: int = 0, num_nodes: int = 1,
                 num_lanes: int = 1, num_counting_threads: int = 0, count_place: int = COUNT_AFTER_DISPATCH,
                 routing: int = ROUTING_SENDER, ranks_max: int = 0, join: bool = False, directory: str | None = None,
                 library=None):
        self._handle = None
        self._library = library if isinstance(library, ctypes.CDLL) else load_library(library)
        self.num_layers, self.ranks_max, self.num_experts, self.slots_per_rank = (
            num_layers, ranks_max or num_ranks, num_experts, slots_per_rank)
        options = _abi.Options(ABI_VERSION, directory.encode() if directory else None, group.encode(), model.encode(),
                           weights_version, rank, num_ranks, ranks_max, join, num_nodes, num_layers, num_experts,
                           slots_per_rank, num_lanes, num_counting_threads, count_place, routing, weights_bytes)
        handle, error = _abi.PTR(), _abi.Error()
        self._check(self._library.evenkeel_create(ctypes.byref(options), ctypes.byref(handle), ctypes.byref(error)),
                    "create region", error)
        self._handle = handle
        self._post_move = None

    def __enter__(self) -> "Region":
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        self.close()

    def close(self):
        """Ends the incarnation. Memory from alloc_weights is gone after it."""
        if self._handle is not None:
            self._library.evenkeel_destroy(self._handle)
            self._handle = None

    # ---- Set-up

    def alloc_weights(self, num_bytes: int) -> memoryview:
        """Writable bytes of shared memory, 64-byte aligned; valid until close()."""
        address = self._call("alloc_weights", num_bytes)
        if not address:
            raise EvenkeelError(-3, f"allocate {num_bytes} bytes of weights")
        return memoryview((ctypes.c_char * num_bytes).from_address(address)).cast("B")

    def add_tensor(self, layer: int, name: str, dtype: str, data, bytes_per_expert: int, stride_bytes: int = 0):
        """Names a per-expert tensor that lies in `data`: from alloc_weights, or an address in device memory. The stride
        defaults to dense."""
        error = _abi.Error()
        address = data if isinstance(data, int) else _address(data)[0]
        status = self._call("add_tensor", layer, name.encode(), dtype.encode(), address, bytes_per_expert,
                            stride_bytes or bytes_per_expert, ctypes.byref(error))
        self._check(status, f"add tensor {name}", error)

    def on_post_move(self, function):
        """function(layer, local_slot, expert) is called in begin_step or set_idle after an expert was moved."""
        self._post_move = _abi.POST_MOVE(lambda _, layer, local_slot, expert: function(layer, local_slot, expert))
        self._check(self._call("on_post_move", self._post_move, None), "set post-move callback")

    def initial_expert(self, layer: int, local_slot: int) -> int:
        """The expert whose weights belong into a local slot before ready(); with `join`, -1: none."""
        expert = self._call("initial_expert", layer, local_slot)
        if expert != -1 or not (0 <= layer < self.num_layers and 0 <= local_slot < self.slots_per_rank):
            self._check(min(expert, 0), f"initial expert of layer {layer} slot {local_slot}")
        return expert

    def ready(self):
        """Weights are in place."""
        error = _abi.Error()
        self._check(self._call("ready", ctypes.byref(error)), "ready", error)

    @property
    def incarnation(self) -> int:
        return self._call("incarnation")

    @property
    def path(self) -> str:
        return self._call("path").decode()

    @property
    def is_member(self) -> bool:
        """The newest view has this engine and, with `join`, maps have come."""
        return self._call("is_member") == 1

    def member(self, rank: int) -> int | None:
        """Incarnation of the rank's member, 0 where it has none; None before any view came."""
        incarnation = self._call("member", rank)
        return None if incarnation == 2**64 - 1 else incarnation

    # ---- Steps

    def step(self, lane: int = 0, phase: int = OTHER, kind: int = REAL) -> Step:
        """begin_step and end_step (or abort_step) around a `with` block."""
        return Step(self, lane, phase, kind)

    def begin_step(self, lane: int = 0, phase: int = OTHER, kind: int = REAL) -> int:
        ticket = self._call("begin_step", lane, phase, kind)
        self._check(min(ticket, 0), f"begin step on lane {lane}")
        return ticket

    def end_step(self, lane: int, ticket: int):
        self._check(self._call("end_step", lane, ticket), f"end step {ticket}")

    def abort_step(self, lane: int, ticket: int):
        self._check(self._call("abort_step", lane, ticket), f"abort step {ticket}")

    def reroute(self, lane: int, ticket: int):
        """What is routed from now on in the lane's newest step follows the newest maps."""
        self._check(self._call("reroute", lane, ticket), f"reroute step {ticket}")

    def set_idle(self, lane: int = 0):
        self._check(self._call("set_idle", lane), f"set lane {lane} idle")

    def route(self, layer: int, ids, slots, *, top_k: int, lane: int = 0, row_stride: int = 0, first_token: int = 0):
        """Writes the slots of expert ids (int32 or int64) into `slots` (int32, num_tokens * top_k, dense)."""
        ids_at, ids_bytes, id_bytes = _address(ids)
        slots_at, slots_bytes, slot_bytes = _address(slots)
        row_stride = row_stride or top_k
        num_ids = ids_bytes // id_bytes
        num_tokens = (num_ids + row_stride - top_k) // row_stride
        if slot_bytes != 4 or slots_bytes < 4 * num_tokens * top_k:
            raise ValueError(f"slots must be int32 with room for {num_tokens} tokens x {top_k}")
        self._check(self._call("route", lane, layer, ids_at, id_bytes, num_tokens, top_k, row_stride, first_token,
                               slots_at), f"route layer {layer}")

    def count(self, layer: int, local_slot: int, num_tokens: int, phase: int = OTHER, thread: int = 0):
        """Tokens computed in a local slot; `phase`: of the step that sent them."""
        self._check(self._call("count", thread, phase, layer, local_slot, num_tokens), f"count layer {layer}")

    # ---- Steps in the order of a CUDA stream: engine/evenkeel_cuda.h. Streams and tensors are addresses: torch's
    # stream.cuda_stream and tensor.data_ptr().

    @property
    def device_bytes(self) -> int:
        """Of device memory that the library will ever hold once open_device was called, a context apart."""
        return self._call("device_bytes")

    def open_device(self, ordinal: int):
        """After ready(), before the first step: takes device_bytes of the GPU with this number."""
        error = _abi.Error()
        self._check(self._call("open_device", ordinal, ctypes.byref(error)), f"open device {ordinal}", error)

    def begin_step_on(self, stream: int, lane: int = 0, phase: int = OTHER, kind: int = REAL) -> int:
        ticket = self._call("begin_step_on", lane, phase, kind, stream)
        self._check(min(ticket, 0), f"begin step on lane {lane}")
        return ticket

    def end_step_on(self, stream: int, lane: int, ticket: int):
        self._check(self._call("end_step_on", lane, ticket, stream), f"end step {ticket}")

    def route_on(self, stream: int, layer: int, ids: int, id_bytes: int, num_tokens: int, slots: int, *, top_k: int,
                 lane: int = 0, row_stride: int = 0, first_token: int = 0):
        """Enqueues what route() does, for ids and int32 slots in device memory."""
        self._check(self._call("route_on", lane, layer, ids, id_bytes, num_tokens, top_k, row_stride or top_k,
                               first_token, slots, stream), f"route layer {layer}")

    def add_counts_on(self, stream: int, layer: int, values: int, value_bytes: int, cumulative: bool = False,
                      lane: int = 0):
        """Enqueues counting of tokens per local slot, values in device memory."""
        self._check(self._call("add_counts_on", lane, layer, values, value_bytes, int(cumulative), stream),
                    f"count layer {layer}")

    def push_lost(self):
        """Brings who is lost to the kernels of steps that are under way."""
        self._check(self._call("push_lost"), "push who is lost")

    # ---- Work for other ranks, death

    def serve_begin(self, peer_rank: int, peer_incarnation: int, thread: int = 0):
        self._check(self._call("serve_begin", thread, peer_rank, peer_incarnation), f"serve rank {peer_rank}")

    def serve_end(self, thread: int = 0):
        self._check(self._call("serve_end", thread), "end serving")

    def lost_ranks(self) -> list[int]:
        """Ranks that are no members now."""
        words = self._call("lost_ranks")
        return [rank for rank in range(self.ranks_max) if words[rank]]

    def report_waiting(self, rank: int, lane: int = 0):
        """A step waits for `rank`; -1: no longer."""
        self._check(self._call("report_waiting", lane, rank), f"report waiting for rank {rank}")

    def leave(self):
        """The engine is about to end, in order."""
        self._check(self._call("leave"), "leave")

    def busy_lease(self, seconds: float):
        self._check(self._call("busy_lease", seconds), "busy lease")

    # ---- Weights that change

    def suspend(self, seconds: float = 30.0):
        """Waits until no step is open and nobody reads or writes this rank's slots; steps are refused from now on."""
        error = _abi.Error()
        self._check(self._call("suspend", seconds, ctypes.byref(error)), "suspend", error)

    def reload_expert(self, layer: int, local_slot: int) -> int:
        """While suspended: the expert whose weights must be in a local slot before resume(); -1: none."""
        expert = self._call("reload_expert", layer, local_slot)
        self._check(0 if expert == -1 else min(expert, 0), f"expert of layer {layer} slot {local_slot}")
        return expert

    def resume(self, weights_version: int):
        """The weights are in place, of this version."""
        error = _abi.Error()
        self._check(self._call("resume", weights_version, ctypes.byref(error)), "resume", error)

    @property
    def weights_version(self) -> int:
        return self._call("weights_version")

    # ---- What the maps say

    def epoch(self, lane: int = 0) -> tuple[int, int]:
        """(term, number) of the maps that the lane's newest step took."""
        packed = self._call("epoch", lane)
        return packed >> 32, packed & 0xFFFFFFFF

    def physical_to_logical(self, layer: int, lane: int = 0) -> list[int]:
        """Expert of each slot of the layer, -1 where no map names it."""
        experts = (_abi.I32 * (self.ranks_max * self.slots_per_rank))()
        self._check(self._call("physical_to_logical", lane, layer, experts), f"maps of layer {layer}")
        return list(experts)

    def logical_to_physical(self, layer: int, width: int, lane: int = 0) -> list[list[int]]:
        """Slots of each expert, shares rendered by repetition."""
        slots, counts = (_abi.I32 * (self.num_experts * width))(), (_abi.I32 * self.num_experts)()
        self._check(self._call("logical_to_physical", lane, layer, width, slots, counts), f"maps of layer {layer}")
        return [list(slots[e * width : e * width + counts[e]]) for e in range(self.num_experts)]

    def rank_logical_to_physical(self, layer: int, width: int, *, lane: int = 0, **dispatch) -> list[list[int]]:
        """As logical_to_physical, for one rank's tokens; `dispatch` is prefer, rank, hosts, avoid, traffic."""
        slots, counts = (_abi.I32 * (self.num_experts * width))(), (_abi.I32 * self.num_experts)()
        self._check(self._call("rank_logical_to_physical", lane, layer, self._dispatch(**dispatch), width,
                               self._dispatch_work(), slots, counts), f"tables of a rank, layer {layer}")
        return [list(slots[e * width : e * width + counts[e]]) for e in range(self.num_experts)]

    def static_dispatch(self, layer: int, *, lane: int = 0, **dispatch) -> list[int]:
        """One slot of each expert for one rank's tokens; `dispatch` is prefer, rank, hosts, avoid, traffic, seed."""
        slots = (_abi.I32 * self.num_experts)()
        self._check(self._call("static_dispatch", lane, layer, self._dispatch(**dispatch), self._dispatch_work(),
                               slots), f"static table of a rank, layer {layer}")
        return list(slots)

    def _dispatch(self, prefer: int = PREFER_NONE, rank: int = -1, hosts=None, avoid=None, traffic=None, seed: int = 42):
        def row(kind, values):
            if values is None:
                return None
            if len(values) != self.ranks_max:
                raise ValueError(f"{len(values)} values for {self.ranks_max} ranks")
            return (kind * self.ranks_max)(*values)
        return _abi.Dispatch(prefer, rank, row(_abi.I32, hosts), row(ctypes.c_uint32, avoid), row(_abi.U64, traffic), seed)

    def _dispatch_work(self):
        return (_abi.U64 * (self._call("dispatch_work_bytes") // 8 + 1))()

    def expert_map(self, layer: int, rank: int, lane: int = 0) -> list[int]:
        """Local slot of each expert on `rank`, -1 where it has none."""
        local_slots = (_abi.I32 * self.num_experts)()
        self._check(self._call("expert_map", lane, layer, rank, local_slots), f"maps of layer {layer}")
        return list(local_slots)

    def slot_content(self, layer: int, local_slot: int) -> tuple[int, int, bool]:
        """(expert, generation, verified) of a local slot now."""
        expert, generation, verified = _abi.I32(), _abi.U64(), _abi.I32()
        self._check(self._call("slot_content", layer, local_slot, ctypes.byref(expert), ctypes.byref(generation),
                               ctypes.byref(verified)), f"content of slot {local_slot}")
        return expert.value, generation.value, bool(verified.value)

    def report_calls_waited(self, num_calls: int) -> None:
        """How many calls of the library waited, ever, as the engine watched them from outside."""
        self._check(self._call("report_calls_waited", num_calls), "report of calls that waited")

    # ----

    def _call(self, name: str, *arguments):
        if self._handle is None:
            raise EvenkeelError(-2, name, "the region is closed")
        return getattr(self._library, f"evenkeel_{name}")(self._handle, *arguments)

    @staticmethod
    def _check(status: int, doing: str, error: _abi.Error | None = None):
        if status < 0:
            raise EvenkeelError(status, doing, error.message.decode() if error is not None else "")
