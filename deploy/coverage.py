# SPDX-License-Identifier: Apache-2.0
"""Merges gcov's counters and prints line coverage per folder and per file; fails below the limits.

A line counts as covered when any test ran it in a process that ended by itself; NOT_SEEN says what is left out. A file
that was built for the tests and never run counts with all its lines; one that no test builds is a failure. Limits: 85 %
in each folder of LIMITED, 60 % in each file, unless EXEMPT gives a reason.
"""

import argparse
import collections
import concurrent.futures
import gzip
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

LIMITED = ("algos", "controller", "agent", "engine", "cli")
FOLDER_MIN, FILE_MIN = 0.85, 0.60
# File -> why it may stay under FILE_MIN, or why no test of --coverage builds it.
EXEMPT = {}
NOT_SEEN = (
    "what a process ran before kill -9, _exit or abort: gcov writes its counters at exit (killed agents, controllers "
    "and engines, forked children of tests)",
    "kernels on a GPU, and Python: the engine's binding, the scripts",
)


def lines_of(gcno: pathlib.Path, gcda: pathlib.Path | None) -> dict[str, dict[int, bool]]:
    """{file: {line: covered}} of one object, without counters if it never ran."""
    lines = collections.defaultdict(dict)
    with tempfile.TemporaryDirectory() as work:
        shutil.copy(gcno, work)
        if gcda is not None:
            shutil.copy(gcda, work)
        subprocess.run(["gcov", "--json-format", gcno.name], cwd=work, capture_output=True, check=False)
        for report in pathlib.Path(work).glob("*.gcov.json.gz"):
            for source in json.loads(gzip.open(report).read())["files"]:
                name = source["file"]
                if name.startswith(("/", "bazel-out")):
                    continue
                for line in source["lines"]:
                    number = line["line_number"]
                    lines[name][number] = lines[name].get(number, False) or line["count"] > 0
    return dict(lines)


def merge(data: pathlib.Path, objects: pathlib.Path) -> dict[str, dict[int, bool]]:
    """{file: {line: covered}} over all objects built under `objects`; their counters lie under `data`, where a path
    ends as that of the object does."""
    ran = {str(gcda).split("/bin/", 1)[-1]: gcda for gcda in data.rglob("*.gcda")}
    pairs = []
    for gcno in sorted(objects.rglob("*.gcno")):
        name = gcno.relative_to(objects).with_suffix(".gcda")
        if str(name) in ran or name.parts[0] in LIMITED:
            pairs.append((gcno, ran.get(str(name))))
    lines = collections.defaultdict(dict)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for of_object in pool.map(lines_of, *zip(*pairs)) if pairs else ():
            for name, of_file in of_object.items():
                for number, covered in of_file.items():
                    lines[name][number] = lines[name].get(number, False) or covered
    return lines


def sources() -> list[str]:
    """The C++ sources of the limited folders."""
    listed = subprocess.run(["git", "ls-files", "--", *LIMITED], capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split() if name.endswith(".cc")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="where the counters were written")
    parser.add_argument("--objects", type=pathlib.Path, required=True, help="bazel-bin of the instrumented build")
    parser.add_argument("--missed", action="store_true", help="also print the lines that no test ran")
    arguments = parser.parse_args()
    lines = merge(arguments.data.resolve(), arguments.objects.resolve())
    folders = collections.defaultdict(lambda: [0, 0])
    failures = [f"{name}: no test builds it" for name in sources() if name not in lines and name not in EXEMPT]
    for name in sorted(lines):
        top = name.split("/")[0]
        if top in ("tests", "external") or not pathlib.Path(name).exists():
            continue
        covered, total = sum(lines[name].values()), len(lines[name])
        folders[top][0] += covered
        folders[top][1] += total
        ratio = covered / max(1, total)
        missed = " ".join(str(n) for n, ran in sorted(lines[name].items()) if not ran) if arguments.missed else ""
        print(f"{ratio:7.1%}  {covered:5d}/{total:<5d}  {name}  {missed}".rstrip())
        if top in LIMITED and ratio < FILE_MIN and name not in EXEMPT:
            failures.append(f"{name}: {ratio:.1%} is under {FILE_MIN:.0%}")
    print()
    for name, reason in sorted(EXEMPT.items()):
        print(f"exempt: {name}: {reason}")
    for left_out in NOT_SEEN:
        print(f"not seen: {left_out}")
    for top, (covered, total) in sorted(folders.items()):
        ratio = covered / max(1, total)
        print(f"{ratio:7.1%}  {covered:5d}/{total:<5d}  {top}/")
        if top in LIMITED and ratio < FOLDER_MIN:
            failures.append(f"{top}/: {ratio:.1%} is under {FOLDER_MIN:.0%}")
    failures += [f"{top}/: no coverage at all" for top in LIMITED if top not in folders]
    for failure in failures:
        print(f"coverage: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
