# SPDX-License-Identifier: Apache-2.0
"""An engine in PyTorch, on the CPU, balanced while it serves: outputs stay those of a copy that is never moved.

Skipped where no PyTorch 2.4 or later is; EVENKEEL_TORCH_PYTHON names a command that runs a Python that has it.
"""

import argparse
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(os.environ["EVENKEEL_BINARIES"])
sys.path.insert(0, str(ROOT / "tests/gpu"))

import torch_moe  # noqa: E402
from cases import CASES, case, main, options  # noqa: E402

PYTHON = os.environ.get("EVENKEEL_TORCH_PYTHON", "python3")


def why_not() -> str:
    """What is missing for these tests; empty where nothing is."""
    source = f"import sys; sys.path.insert(0, {str(ROOT / 'engine/python')!r}); import evenkeel.torch"
    tried = subprocess.run([*shlex.split(PYTHON), "-c", source], capture_output=True, text=True, timeout=120)
    return tried.stderr.strip().split("\n")[-1] if tried.returncode else ""


def serve(what: str):
    binaries = options().binaries
    arguments = argparse.Namespace(device="cpu", ranks=2, moves=8, seconds=120, python=PYTHON)
    environment = {**os.environ, "EVENKEEL_LIBRARY": str(binaries.path("engine", "libevenkeel.so"))}
    torch_moe.serve(binaries, arguments, environment, what, torch_moe.WAYS[what])


@case
def experts_move_under_an_engine_in_pytorch_and_its_compiled_routes_agree():
    serve("plain weights")


@case
def fp8_experts_move_with_their_float32_block_scales():
    serve("FP8 weights with float32 block scales")


@case
def cached_copies_that_only_post_move_refreshes_are_right_after_moves():
    serve("cached copies of FP8 weights, refreshed by post_move alone")


@case
def experts_without_a_byte_range_of_their_own_move_as_packed_copies():
    serve("a layout in which no expert is a byte range")


if __name__ == "__main__":
    if reason := why_not():
        print(f"skipped: {reason}")
        print(f"0 passed, 0 failed, {len(CASES)} skipped")
        sys.exit(0)
    sys.exit(main())
