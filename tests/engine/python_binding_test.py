# SPDX-License-Identifier: Apache-2.0
"""The Python binding against the library just built. Usage: python_binding_test.py BINDING.py LIBRARY.so HEADER.h CUDA_HEADER.h"""

import array
import os
import re
import subprocess
import sys
import tempfile

binding_path, library_path, header_path, cuda_header_path = sys.argv[1:5]
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(binding_path))))
import evenkeel  # noqa: E402
from evenkeel import _abi  # noqa: E402

LIBRARY = evenkeel.load_library(os.path.abspath(library_path))

EXPERT_BYTES = 40


def make_region(directory, **changes):
    options = dict(group="python", model="m", rank=1, num_ranks=2, num_layers=2, num_experts=4, slots_per_rank=3,
                   weights_bytes=4096, directory=directory, library=LIBRARY)
    return evenkeel.Region(**{**options, **changes})


def make_ready(region):
    for layer in range(2):
        data = region.alloc_weights(3 * EXPERT_BYTES)
        for slot in range(3):
            data[slot * EXPERT_BYTES] = 1 + region.initial_expert(layer, slot)
        region.add_tensor(layer, "w", "u8", data, EXPERT_BYTES)
    region.ready()


def expect_error(status, text, function, *arguments, **named):
    try:
        function(*arguments, **named)
    except evenkeel.EvenkeelError as error:
        assert error.status == status, (error.status, status)
        assert text in str(error), (str(error), text)
    else:
        raise AssertionError(f"no error from {function}")


def test_every_call_of_the_header_is_bound(directory):
    declared = set()
    for path in (header_path, cuda_header_path):
        with open(path, encoding="utf-8") as header:
            declared |= set(re.findall(r"\bevenkeel_(\w+)\(", re.sub(r"/\*.*?\*/", "", header.read(), flags=re.S)))
    assert declared == set(_abi.SIGNATURES), declared ^ set(_abi.SIGNATURES)


def test_the_library_exports_the_calls_of_the_header_and_needs_libc_and_libstdcxx_alone(directory):
    listed = subprocess.run(["nm", "-D", "--defined-only", library_path], capture_output=True, text=True, check=True)
    exported = {line.split()[-1].split("@")[0] for line in listed.stdout.splitlines()}
    assert exported == {f"evenkeel_{name}" for name in _abi.SIGNATURES}, exported
    dynamic = subprocess.run(["readelf", "-d", library_path], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"NEEDED.*\[(.*?)\.so", dynamic))
    needed -= {"libasan", "libtsan", "libubsan"}  # of builds with sanitizers
    assert needed and needed <= {"libc", "libm", "libgcc_s", "libstdc++", "ld-linux-x86-64", "libpthread"}, needed


def test_options_and_constants_are_those_of_the_header(directory):
    with open(header_path, encoding="utf-8") as header:
        text = re.sub(r"/\*.*?\*/", "", header.read(), flags=re.S)
    fields = re.search(r"typedef struct evenkeel_options \{(.*?)\}", text, re.S).group(1)
    names = re.findall(r"(\w+);", fields)
    assert names == [name for name, _ in _abi.Options._fields_], names
    for name, value in re.findall(r"EVENKEEL_(\w+) = (-?\d+)", text):
        ours = {"PHASE_OTHER": "OTHER"}.get(name, name)
        if hasattr(evenkeel, ours):
            assert getattr(evenkeel, ours) == int(value), name
    assert int(re.search(r"ABI_VERSION (\d+)", text).group(1)) == evenkeel.ABI_VERSION


def test_steps_route_and_count_by_the_default_placement(directory):
    with make_region(directory) as region:
        make_ready(region)
        assert os.path.dirname(region.path) == directory
        assert region.path.endswith(f"{region.incarnation:016x}")
        for kind in ("i", "q"):
            ids, slots = array.array(kind, [0, 1, 2, 3, -1, 3]), array.array("i", [7] * 6)
            with region.step(phase=evenkeel.DECODE) as step:
                assert step.ticket > 0
                region.route(1, ids, slots, top_k=2)
                region.count(1, 0, 5, phase=evenkeel.DECODE)
            experts = region.physical_to_logical(1)
            assert [experts[slot] if slot >= 0 else -1 for slot in slots] == [0, 1, 2, 3, -1, 3], list(slots)
        assert experts == [0, 1, 2, 2, 3, 0]
        assert region.logical_to_physical(0, 4) == [[0, 5], [1], [2, 3], [4]]
        assert region.expert_map(0, 1) == [2, -1, 0, 1]
        # Expert 0 is in slots 0 (rank 0) and 5 (rank 1), expert 2 in slots 2 and 3.
        near = [region.static_dispatch(0, prefer=evenkeel.PREFER_NEAR, rank=rank) for rank in (0, 1)]
        assert near == [[0, 1, 2, 4], [5, 1, 3, 4]], near
        assert region.static_dispatch(0, rank=1, avoid=[0, 1]) == [0, 1, 2, 4]
        assert region.rank_logical_to_physical(0, 4, prefer=evenkeel.PREFER_NEAR, rank=1) == [[5], [1], [3], [4]]
        try:
            region.static_dispatch(0, avoid=[1])
        except ValueError as error:
            assert "1 values for 2 ranks" in str(error)
        else:
            raise AssertionError("a row of another length was taken")
        assert region.slot_content(0, 2) == (0, 1, True)
        assert region.epoch() == (0, 0) and region.lost_ranks() == []
        region.report_calls_waited(0)
        region.set_idle()
        region.serve_begin(0, 5)
        region.serve_end()
        region.report_waiting(0)
        region.busy_lease(1.5)
        region.leave()
        assert region.is_member and region.member(0) is None
    assert os.listdir(directory) == []


def test_an_engine_that_joins_holds_nothing_and_waits_for_its_view(directory):
    with make_region(directory, rank=2, ranks_max=3, join=True) as region:
        assert region.initial_expert(0, 0) == -1
        make_ready(region)
        assert not region.is_member and region.member(2) == 0 and region.lost_ranks() == [2]
        assert region.slot_content(0, 2) == (-1, 1, False)
        expect_error(-2, "begin step on lane 0", region.begin_step)


def test_a_step_may_take_the_newest_maps_again(directory):
    with make_region(directory) as region:
        make_ready(region)
        with region.step() as step:
            region.reroute(0, step.ticket)
        expect_error(-2, f"reroute step {step.ticket}", region.reroute, 0, step.ticket)


def test_errors_carry_the_librarys_text(directory):
    expect_error(-1, "rank is 2, must be from 0 to 1", make_region, directory, rank=2)
    expect_error(-1, "group a.b: only letters", make_region, directory, group="a.b")
    with make_region(directory) as region:
        expect_error(-2, "layer 0 has no tensor", region.ready)
        expect_error(-2, "begin step on lane 0", region.begin_step)
        expect_error(-3, "allocate 5000 bytes", region.alloc_weights, 5000)
        make_ready(region)
        expect_error(-1, "begin step on lane 3", region.begin_step, 3)
        expect_error(-2, "end step 64", region.end_step, 0, 64)
        expect_error(-1, "initial expert of layer 0 slot 3", region.initial_expert, 0, 3)
    expect_error(-2, "the region is closed", region.begin_step)


def test_a_raising_step_is_given_up(directory):
    with make_region(directory) as region:
        make_ready(region)
        try:
            with region.step() as step:
                raise KeyError("x")
        except KeyError:
            pass
        expect_error(-2, "end step", region.end_step, 0, step.ticket)


def test_arrays_that_cannot_hold_the_answer_are_refused(directory):
    with make_region(directory) as region:
        make_ready(region)
        with region.step():
            for slots in (array.array("i", [0]), array.array("q", [0, 0])):
                try:
                    region.route(0, array.array("i", [1, 2]), slots, top_k=2)
                except ValueError:
                    continue
                raise AssertionError("too small an array was accepted")


def test_weights_are_replaced_between_suspend_and_resume(directory):
    with make_region(directory) as region:
        make_ready(region)
        before = region.slot_content(0, 0)
        region.suspend(5)
        expect_error(-2, "begin step", region.begin_step)
        assert region.reload_expert(0, 0) == before[0]
        region.resume(12)
        assert region.weights_version == 12
        assert region.slot_content(0, 0) == (before[0], before[1] + 1, True)
        region.end_step(0, region.begin_step())
        expect_error(-2, "resume", region.resume, 13)


def main():
    tests = [value for name, value in sorted(globals().items()) if name.startswith("test_")]
    for test in tests:
        with tempfile.TemporaryDirectory() as directory:
            test(directory)
            print(f"ok {test.__name__}")
    print(f"{len(tests)} passed, 0 failed")


main()
