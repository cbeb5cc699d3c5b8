# SPDX-License-Identifier: Apache-2.0
"""An engine that registers through the Python binding and then never calls anything: silent_engine.py LIB DIR GROUP RANK."""

import pathlib
import sys

library, directory, group, rank = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
sys.path.insert(0, str(library / "engine/python"))
import evenkeel  # noqa: E402

region = evenkeel.Region(library=evenkeel.load_library(library / "engine/libevenkeel.so"), directory=directory, group=group, model="silent", rank=rank, num_ranks=2, num_layers=1,
                         num_experts=4, slots_per_rank=3, weights_bytes=4096)
data = region.alloc_weights(3 * 64)
region.add_tensor(0, "w", "u8", data, 64, 64)
region.ready()
sys.stdin.read()
region.close()
