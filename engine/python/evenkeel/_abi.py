# SPDX-License-Identifier: Apache-2.0
"""The ABI of libevenkeel.so for ctypes: constants, structures and the signatures of engine/evenkeel.h and evenkeel_cuda.h."""

import ctypes
import os
import pathlib

ABI_VERSION = 6

# evenkeel_phase
OTHER, PREFILL, DECODE = 0, 1, 2
# evenkeel_kind; only real steps are counted as load
REAL, DUMMY, PROFILE = 0, 1, 2
# evenkeel_count_place
COUNT_AFTER_DISPATCH, COUNT_ROUTER = 0, 1
# evenkeel_routing
ROUTING_SENDER, ROUTING_REPLICATED = 0, 1

# evenkeel_prefer
PREFER_NONE, PREFER_NEAR, PREFER_REMOTE = 0, 1, 2

STATUS_NAMES = {
    -1: "invalid argument",
    -2: "failed precondition",
    -3: "resource exhausted",
    -4: "permission denied",
    -5: "internal",
    -6: "deadline exceeded",
}

POST_MOVE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32)


class EvenkeelError(RuntimeError):
    """A call was refused. `status` is the evenkeel_status."""

    def __init__(self, status: int, doing: str, message: str = ""):
        super().__init__(f"{doing}: {message or STATUS_NAMES.get(status, status)}")
        self.status = status


class Options(ctypes.Structure):
    _fields_ = [
        ("abi_version", ctypes.c_uint32),
        ("directory", ctypes.c_char_p),
        ("group", ctypes.c_char_p),
        ("model", ctypes.c_char_p),
        ("weights_version", ctypes.c_uint64),
        ("rank", ctypes.c_int32),
        ("num_ranks", ctypes.c_int32),
        ("ranks_max", ctypes.c_int32),
        ("join", ctypes.c_int32),
        ("num_nodes", ctypes.c_int32),
        ("num_layers", ctypes.c_int32),
        ("num_experts", ctypes.c_int32),
        ("slots_per_rank", ctypes.c_int32),
        ("num_lanes", ctypes.c_int32),
        ("num_counting_threads", ctypes.c_int32),
        ("count_place", ctypes.c_int),
        ("routing", ctypes.c_int),
        ("weights_bytes", ctypes.c_uint64),
    ]


class Error(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int32), ("message", ctypes.c_char * 256)]


class Dispatch(ctypes.Structure):
    _fields_ = [("prefer", ctypes.c_int), ("rank", ctypes.c_int32), ("hosts", ctypes.POINTER(ctypes.c_int32)),
                ("avoid", ctypes.POINTER(ctypes.c_uint32)), ("traffic", ctypes.POINTER(ctypes.c_uint64)),
                ("seed", ctypes.c_uint64)]


I32, I64, U64, F64 = ctypes.c_int32, ctypes.c_int64, ctypes.c_uint64, ctypes.c_double
PTR, STR, INT = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int

# Name -> (result, arguments), as in evenkeel.h and evenkeel_cuda.h.
SIGNATURES = {
    "create": (INT, [ctypes.POINTER(Options), ctypes.POINTER(PTR), ctypes.POINTER(Error)]),
    "alloc_weights": (PTR, [PTR, U64]),
    "add_tensor": (INT, [PTR, I32, STR, STR, PTR, U64, U64, ctypes.POINTER(Error)]),
    "on_post_move": (INT, [PTR, POST_MOVE, PTR]),
    "initial_expert": (I32, [PTR, I32, I32]),
    "ready": (INT, [PTR, ctypes.POINTER(Error)]),
    "destroy": (None, [PTR]),
    "incarnation": (U64, [PTR]),
    "path": (STR, [PTR]),
    "is_member": (INT, [PTR]),
    "member": (U64, [PTR, I32]),
    "begin_step": (I64, [PTR, I32, INT, INT]),
    "end_step": (INT, [PTR, I32, I64]),
    "abort_step": (INT, [PTR, I32, I64]),
    "reroute": (INT, [PTR, I32, I64]),
    "set_idle": (INT, [PTR, I32]),
    "route": (INT, [PTR, I32, I32, PTR, I32, I64, I32, I64, I64, PTR]),
    "count": (INT, [PTR, I32, INT, I32, I32, U64]),
    "serve_begin": (INT, [PTR, I32, I32, U64]),
    "serve_end": (INT, [PTR, I32]),
    "lost_ranks": (ctypes.POINTER(ctypes.c_uint32), [PTR]),
    "report_waiting": (INT, [PTR, I32, I32]),
    "leave": (INT, [PTR]),
    "busy_lease": (INT, [PTR, F64]),
    "suspend": (INT, [PTR, F64, ctypes.POINTER(Error)]),
    "reload_expert": (I32, [PTR, I32, I32]),
    "resume": (INT, [PTR, U64, ctypes.POINTER(Error)]),
    "weights_version": (U64, [PTR]),
    "epoch": (U64, [PTR, I32]),
    "physical_to_logical": (INT, [PTR, I32, I32, PTR]),
    "logical_to_physical": (INT, [PTR, I32, I32, I32, PTR, PTR]),
    "dispatch_work_bytes": (U64, [PTR]),
    "rank_logical_to_physical": (INT, [PTR, I32, I32, ctypes.POINTER(Dispatch), I32, PTR, PTR, PTR]),
    "static_dispatch": (INT, [PTR, I32, I32, ctypes.POINTER(Dispatch), PTR, PTR]),
    "expert_map": (INT, [PTR, I32, I32, I32, PTR]),
    "slot_content": (INT, [PTR, I32, I32, ctypes.POINTER(I32), ctypes.POINTER(U64), ctypes.POINTER(I32)]),
    "report_calls_waited": (INT, [PTR, U64]),
    "device_bytes": (U64, [PTR]),
    "open_device": (INT, [PTR, I32, ctypes.POINTER(Error)]),
    "begin_step_on": (I64, [PTR, I32, INT, INT, PTR]),
    "end_step_on": (INT, [PTR, I32, I64, PTR]),
    "route_on": (INT, [PTR, I32, I32, PTR, I32, I64, I32, I64, I64, PTR, PTR]),
    "add_counts_on": (INT, [PTR, I32, I32, PTR, I32, I32, PTR]),
    "push_lost": (INT, [PTR]),
}


def load_library(path: str | os.PathLike | None = None) -> ctypes.CDLL:
    """The shared library with its calls declared."""
    beside = pathlib.Path(__file__).with_name("libevenkeel.so")
    path = path or os.environ.get("EVENKEEL_LIBRARY") or (beside if beside.exists() else beside.name)
    try:
        library = ctypes.CDLL(os.fspath(path))
    except OSError as error:
        raise OSError(f"no libevenkeel.so: {error}; give its path as library= or in EVENKEEL_LIBRARY") from error
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, f"evenkeel_{name}")
        function.restype, function.argtypes = result, arguments
    return library
