# SPDX-License-Identifier: Apache-2.0
"""Times route_and_count beside what an engine does without it: map top-k ids to replicas and record the load in PyTorch,
compiled by torch.compile. Both are replayed in CUDA graphs of 32 calls; medians of 101 replays, by events.

python3 tests/gpu/route_vs_torch.py LIBRARY   (LIBRARY: libroute_library.so as built)
"""

import ctypes
import statistics
import sys

import torch

EXPERTS, SLOTS, TOP_K, CALLS, SAMPLES = 256, 288, 8, 32, 101


def map_and_record(ids, logical_to_physical, replica_count, load, multiplier):
    """The token hash chooses the replica; every routed copy is counted by slot."""
    flat = ids.flatten()
    token = torch.arange(flat.numel(), device=ids.device, dtype=torch.int64) // TOP_K
    chosen = ((token * multiplier) & 0xFFFFFFFF) % replica_count[flat]
    physical = logical_to_physical[flat, chosen]
    load.scatter_add_(0, physical, torch.ones_like(physical, dtype=load.dtype))
    return physical.view(ids.shape)


def median_us(call):
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(CALLS):
            call()
    samples = []
    for _ in range(SAMPLES + 10):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        samples.append(begin.elapsed_time(end) * 1e3 / CALLS)
    return statistics.median(samples[10:])


def main():
    library = ctypes.CDLL(sys.argv[1])
    pointer = ctypes.c_void_p
    library.evenkeel_route_and_count.argtypes = [pointer, pointer, pointer, ctypes.c_int32, ctypes.c_int32, pointer,
                                                 ctypes.c_int32, ctypes.c_int32, ctypes.c_int64, pointer, pointer, pointer]
    device = torch.device("cuda")
    replicas = [[e] + ([EXPERTS + e] if e < SLOTS - EXPERTS else []) for e in range(EXPERTS)]
    width = max(len(row) for row in replicas)
    logical = torch.tensor([row + [-1] * (width - len(row)) for row in replicas], device=device)
    count = torch.tensor([len(row) for row in replicas], device=device)
    offsets = [0]
    bounds, slots = [], []
    for row in replicas:
        slots += row
        bounds += [int((i + 1) * 2**32 / len(row)) - 1 for i in range(len(row))]
        offsets.append(len(slots))
    offsets = torch.tensor(offsets, dtype=torch.int32, device=device)
    slots = torch.tensor(slots, dtype=torch.int32, device=device)
    bounds = torch.tensor(bounds, dtype=torch.int64).to(torch.uint32).to(device)
    popularity = 1.0 / (1.0 + torch.arange(EXPERTS, dtype=torch.float64) / 16.0)
    # A tensor: the compiler takes a plain number of this size for 32 bits.
    multiplier = torch.tensor(2654435769, device=device)
    compiled = torch.compile(map_and_record)
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}; "
          f"graphs of {CALLS} calls, medians of {SAMPLES}, warm")
    for tokens in (64, 4096, 65536):
        ids = torch.multinomial(popularity, tokens * TOP_K, replacement=True).view(tokens, TOP_K).to(device)
        load = torch.zeros(SLOTS, dtype=torch.int64, device=device)
        ours_load = torch.zeros(SLOTS, dtype=torch.int64, device=device)
        for dtype in (torch.int32, torch.int64):
            typed = ids.to(dtype)
            out = torch.empty_like(typed)

            def ours():
                error = library.evenkeel_route_and_count(
                    offsets.data_ptr(), slots.data_ptr(), bounds.data_ptr(), EXPERTS, SLOTS, typed.data_ptr(),
                    typed.element_size(), TOP_K, tokens, ours_load.data_ptr(), out.data_ptr(),
                    torch.cuda.current_stream().cuda_stream)
                assert error == 0, error

            theirs_us = median_us(lambda: compiled(typed, logical, count, load, multiplier))
            ours_load.zero_()
            ours()
            torch.cuda.synchronize()
            assert int(ours_load.sum()) == tokens * TOP_K
            expert_of_slot = torch.tensor([s if s < EXPERTS else s - EXPERTS for s in range(SLOTS)], device=device)
            assert torch.equal(expert_of_slot[out.long()], ids), "a copy went to a slot of another expert"
            ours_us = median_us(ours)
            print(f"{tokens:6d} tokens x {TOP_K}, {str(dtype)[6:]}: route_and_count {ours_us:7.2f} us, "
                  f"torch.compile {theirs_us:7.2f} us, ratio {theirs_us / ours_us:.2f}")


if __name__ == "__main__":
    main()
