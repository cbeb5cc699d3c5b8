# SPDX-License-Identifier: Apache-2.0
"""evenkeel.torch against the library just built: its pure parts always, the operator where PyTorch 2.4 or later is.

Usage: python_torch_test.py PACKAGE/__init__.py LIBRARY.so [DEVICE]     (DEVICE: cpu, or cuda where a GPU is)
"""

import os
import pathlib
import subprocess
import sys
import tempfile

package, library_path = pathlib.Path(sys.argv[1]).absolute(), os.path.abspath(sys.argv[2])
DEVICE = sys.argv[3] if len(sys.argv) > 3 else "cpu"
sys.path.insert(0, str(package.parent.parent))

import evenkeel  # noqa: E402
from evenkeel import layout  # noqa: E402

try:
    import torch
    import evenkeel.torch
    WITHOUT_TORCH = ""
except ImportError as error:
    WITHOUT_TORCH = str(error)

LAYERS, EXPERTS, SLOTS = 2, 4, 3


def shared_folder():
    """For a region. What a GPU is to reach must be shared memory."""
    return tempfile.TemporaryDirectory(dir=None if DEVICE == "cpu" else "/dev/shm")


def expect(kind, text, function, *arguments, **named):
    try:
        function(*arguments, **named)
    except kind as error:
        assert text in str(error), (str(error), text)
    else:
        raise AssertionError(f"no error from {function}, '{text}' was expected")


def test_an_expert_is_a_byte_range_or_refused_with_the_reason():
    assert layout.expert_range((3, 4, 5), (20, 5, 1), 2, 3) == (40, 40)
    assert layout.expert_range((3, 5, 4), (32, 1, 5), 2, 3) == (40, 64)  # transposed rows, slots further apart
    assert layout.expert_range((3,), (1,), 4, 3) == (4, 4)
    assert layout.expert_range((3, 1, 4), (4, 99, 1), 1, 3) == (4, 4)
    assert layout.expert_range((1, 4), (0, 1), 2, 1) == (8, 8)
    for shape, strides, text in [((4, 3, 5), (15, 5, 1), "first dimension must be the 3 local slots"),
                                 ((), (), "first dimension"),
                                 ((3, 4, 5), (5, 15, 1), "not a byte range of its own: shape [3, 4, 5]"),
                                 ((3, 4), (1, 3), "not a byte range of its own"),
                                 ((3, 4, 5), (24, 6, 1), "not a byte range of its own"),
                                 ((3, 5), (0, 1), "slots are 0 elements apart, an expert has 5"),
                                 ((3, 0), (1, 1), "an expert has no bytes")]:
        expect(ValueError, text, layout.expert_range, shape, strides, 2, 3)


def test_expandable_segments_are_found_in_the_allocators_snapshot():
    snapshot = [{"address": 1000, "total_size": 100, "is_expandable": True},
                {"address": 2000, "total_size": 100, "is_expandable": False}, {"address": 3000, "total_size": 100}]
    found = [layout.lies_in_expandable_segment(snapshot, address) for address in (999, 1000, 1099, 1100, 2000, 3000)]
    assert found == [False, True, True, False, False, False], found


def test_ids_of_other_types_and_shapes_are_refused_by_name():
    assert layout.ids_problem("torch.int32", (5, 2), (4, 1)) == ""
    assert layout.ids_problem("torch.int64", (1, 8), (1, 1)) == ""
    assert layout.ids_problem("torch.int64", (0, 8), (8, 1)) == ""
    assert "topk_idx is torch.uint32; torch.int32" in layout.ids_problem("torch.uint32", (5, 2), (2, 1))
    assert "shape [10]; it must be [tokens, top_k]" in layout.ids_problem("torch.int32", (10,), (1,))
    assert "shape [10, 0]" in layout.ids_problem("torch.int32", (10, 0), (1, 1))
    assert "strides [1, 5]" in layout.ids_problem("torch.int32", (5, 2), (1, 5))
    assert "strides [0, 1]" in layout.ids_problem("torch.int32", (5, 2), (0, 1))


def test_a_missing_library_is_said_with_what_to_set():
    expect(OSError, "give its path as library= or in EVENKEEL_LIBRARY", evenkeel.load_library, "/nowhere/libevenkeel.so")


def test_without_a_new_pytorch_the_import_says_so():
    if not WITHOUT_TORCH:
        return
    assert "torch" in WITHOUT_TORCH, WITHOUT_TORCH


# ---- With PyTorch


def make_engine(directory, **changes):
    options = dict(group="torch", model="m", rank=1, num_ranks=2, num_layers=LAYERS, num_experts=EXPERTS,
                   slots_per_rank=SLOTS, weights_bytes=1 << 16, directory=directory, library=library_path, device=DEVICE)
    return evenkeel.torch.Engine(**{**options, **changes})


def make_ready(engine):
    for layer in range(LAYERS):
        engine.register(layer, "w", engine.empty((SLOTS, 6, 4), torch.float32).fill_(layer))
    engine.ready()


def some_ids(dtype, tokens=50, top_k=3):
    generator = torch.Generator().manual_seed(7)
    return torch.randint(-1, EXPERTS, (tokens, top_k), generator=generator).to(dtype).to(DEVICE)


def with_torch_the_operator_equals_the_library_and_torchs_own_checks_pass():
    with shared_folder() as a, shared_folder() as b:
        with make_engine(a) as engine, make_engine(b, device="cpu") as twin:
            make_ready(engine)
            make_ready(twin)
            compiled = torch.compile(lambda ids: (engine.route(0, ids), engine.route(1, ids)), fullgraph=True,
                                     backend="aot_eager")
            for dtype in (torch.int32, torch.int64):
                for tokens in (0, 1, 31, 50):
                    ids = some_ids(dtype, tokens)
                    with engine.step(), twin.step():
                        first, second = engine.route(0, ids), engine.route(1, ids)
                        expected = torch.zeros(ids.shape, dtype=torch.int32)
                        twin.region.route(0, ids.cpu(), expected, top_k=3)
                        assert torch.equal(first.cpu(), expected)
                        experts = torch.tensor(engine.region.physical_to_logical(1) + [-1], device=DEVICE)
                        assert torch.equal(experts[second.long()], ids.long())
                        for ours, theirs in zip(compiled(ids), (first, second)):
                            assert torch.equal(ours, theirs)
            with engine.step():
                wide = some_ids(torch.int64, 40, 5)
                assert torch.equal(engine.route(0, wide[:, :3]), engine.route(0, wide[:, :3].contiguous()))
                torch.library.opcheck(torch.ops.evenkeel.route.default, (wide, engine._key, 1, 0, 0))


def on_gpu_a_captured_graph_routes_by_the_step_that_it_is_replayed_in():
    with shared_folder() as a, shared_folder() as b:
        with make_engine(a) as engine, make_engine(b, device="cpu") as twin:
            make_ready(engine)
            make_ready(twin)
            compiled = torch.compile(lambda ids: engine.route(0, ids) + 0, fullgraph=True)
            ids = some_ids(torch.int64, 400)
            with engine.step(), twin.step():
                compiled(ids)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                eager, out = engine.route(0, ids), compiled(ids)
                expect(evenkeel.EvenkeelError, "must not be captured", engine.begin_step)
            seen = []
            for _ in range(5):
                with engine.step(), twin.step():
                    graph.replay()
                    expected = torch.zeros(ids.shape, dtype=torch.int32)
                    twin.region.route(0, ids.cpu(), expected, top_k=3)
                    assert torch.equal(out.cpu(), expected) and torch.equal(eager.cpu(), expected)
                    seen.append(expected)
            assert any(not torch.equal(seen[0], other) for other in seen[1:]), "every step chose the same replicas"


def on_gpu_expandable_segments_are_refused_with_what_to_set():
    setting = "expandable_segments:True"
    subprocess.run([sys.executable, __file__, str(package), library_path, "cuda", "expandable"], check=True, timeout=120,
                   env={**os.environ, "PYTORCH_CUDA_ALLOC_CONF": setting, "PYTORCH_ALLOC_CONF": setting})


def register_in_an_expandable_segment():
    with shared_folder() as directory, make_engine(directory) as engine:
        expect(evenkeel.EvenkeelError, "expandable_segments:False", engine.register, 0, "w",
               engine.empty((SLOTS, 4), torch.float32))


def with_torch_wrong_calls_are_refused_in_words():
    with shared_folder() as directory:
        with make_engine(directory) as engine:
            make_ready(engine)
            with engine.step():
                expect(ValueError, "topk_idx is torch.int16; torch.int32 and torch.int64", engine.route, 0, some_ids(torch.int16))
                expect(ValueError, "layer 2 is not of 0 to 1", engine.route, 2, some_ids(torch.int32))
                expect(ValueError, "shape [6]", engine.route, 0, torch.zeros(6, dtype=torch.int32, device=DEVICE))
                expect(ValueError, "strides [1, 4]", engine.route, 0, torch.zeros(3, 4, dtype=torch.int32, device=DEVICE).t())
                expect(ValueError, "add_counts: layer -1", engine.add_counts, -1, torch.zeros(SLOTS, dtype=torch.int32))
                expect(ValueError, "values are torch.float32", engine.add_counts, 0, torch.zeros(SLOTS, device=DEVICE))
                expect(ValueError, "must be [3], dense", engine.add_counts, 0, torch.zeros(4, dtype=torch.int32, device=DEVICE))
            key = engine._key
        expect(evenkeel.EvenkeelError, "its engine is closed", torch.ops.evenkeel.route, some_ids(torch.int32), key, 0, 0, 0)
        expect(ValueError, "cpu and cuda", make_engine, directory, device="meta")
        with make_engine(directory) as engine:
            turns = torch.empty(6, SLOTS, 4, device=DEVICE).transpose(0, 1)
            expect(ValueError, "register w of layer 0: an expert is not a byte range of its own: shape [3, 6, 4]", engine.register,
                   0, "w", turns)
            expect(ValueError, "give pack and unpack", engine.register, 0, "w", turns)
            expect(ValueError, "pack and unpack go together", engine.register, 0, "w", turns, pack=lambda slot: None)
            expect(ValueError, "it is on meta", engine.register, 0, "w", torch.empty(SLOTS, 4, device="meta"))
            if DEVICE == "cpu":
                expect(evenkeel.EvenkeelError, "not within memory", engine.register, 0, "w", torch.empty(SLOTS, 4))
            else:
                expect(ValueError, "it is on cpu", engine.register, 0, "w", torch.empty(SLOTS, 4))
            linear = torch.nn.Linear(3, 5, bias=False, device=DEVICE)
            expect(ValueError, "has no tensor bias", engine.register_module, 0, linear, ["bias"])
            expect(ValueError, "no tensor of 3 slots", engine.register_module, 0, linear)


def with_torch_counts_after_dispatch_are_taken_by_a_compiled_graph():
    with shared_folder() as directory:
        with make_engine(directory, count_place=evenkeel.COUNT_AFTER_DISPATCH) as engine:
            make_ready(engine)
            counted, taken = [], []
            engine.region.count = lambda layer, slot, value, phase, thread: counted.append((layer, slot, value, phase))
            on_gpu = engine.region.add_counts_on
            engine.region.add_counts_on = lambda *call: (taken.append(call[1]), on_gpu(*call))
            compiled = torch.compile(lambda values: engine.add_counts(1, values * 1, cumulative=True), fullgraph=True,
                                     backend="aot_eager")
            with engine.step(phase=evenkeel.DECODE):
                compiled(torch.tensor([1, 1, 6], device=DEVICE))
            if engine.on_gpu:
                assert taken == [1] and not counted
                return
            assert counted == [(1, 0, 1, evenkeel.DECODE), (1, 1, 0, evenkeel.DECODE), (1, 2, 5, evenkeel.DECODE)], counted
            with engine.step(kind=evenkeel.DUMMY):
                compiled(torch.tensor([1, 1, 6]))
            assert len(counted) == 3, "a dummy step was counted"


def with_torch_packed_layouts_and_derived_tensors_follow_moves():
    with shared_folder() as directory:
        with make_engine(directory) as engine:
            turns = [torch.arange(24.0 * SLOTS).view(6, SLOTS, 4).transpose(0, 1) for _ in range(LAYERS)]
            turns = [tensor.to(DEVICE) for tensor in turns]
            for layer, tensor in enumerate(turns):
                engine.register(layer, "w", tensor, pack=lambda slot, t=tensor: t[slot].contiguous(),
                                unpack=lambda slot, packed, t=tensor: t[slot].copy_(packed))
            engine.ready()
            staged = engine._kept[1]
            assert torch.equal(staged, turns[1]) and staged.is_contiguous()
            seen = []
            engine.on_post_move(lambda layer, slot, expert: seen.append((layer, slot, expert, float(turns[layer][slot, 0, 0]))))
            staged[2] += 1000  # as an agent writes it
            before = turns[1].clone()
            engine._moved(1, 2, 3)
            assert torch.equal(turns[1][2], before[2] + 1000) and torch.equal(turns[1][:2], before[:2])
            assert seen == [(1, 2, 3, 1008.0)], seen

            def refuse(layer, slot, expert):
                raise KeyError("refresh")
            engine.on_post_move(refuse)
            engine._moved(0, 0, 0)
            expect(KeyError, "refresh", engine.begin_step)
            engine.end_step(0, engine.begin_step())
            try:
                with engine.step() as ticket:
                    raise IndexError("within a step")
            except IndexError:
                pass
            expect(evenkeel.EvenkeelError, "end step", engine.end_step, 0, ticket)


def main():
    if sys.argv[4:] == ["expandable"]:
        return register_in_an_expandable_segment()
    named = {name: value for name, value in sorted(globals().items()) if callable(value)}
    of = lambda prefix: [value for name, value in named.items() if name.startswith(prefix)]  # noqa: E731
    tests, skipped = of("test_"), []
    (skipped if WITHOUT_TORCH else tests).extend(of("with_torch_"))
    (skipped if WITHOUT_TORCH or DEVICE == "cpu" else tests).extend(of("on_gpu_"))
    for test in tests:
        test()
        print(f"ok {test.__name__}", flush=True)
    why = WITHOUT_TORCH or "not asked to run on a GPU"
    for test in skipped:
        print(f"skipped {test.__name__}: {why}")
    print(f"{len(tests)} passed, 0 failed, {len(skipped)} skipped")


main()
