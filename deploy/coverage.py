# SPDX-License-Identifier: Apache-2.0
"""Merges gcov's counters and prints line coverage per folder and per file; fails below the limits.

A line counts as covered when any test ran it. Limits: 85 % in each folder of LIMITED, 60 % in each file, unless
EXEMPT gives a reason.
"""

import argparse
import collections
import gzip
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

LIMITED = ("algos", "controller", "agent", "engine", "cli")
FOLDER_MIN, FILE_MIN = 0.85, 0.60
EXEMPT = {}


def merge(data: pathlib.Path, execroot: pathlib.Path) -> dict[str, dict[int, bool]]:
    """{file: {line: covered}} over all .gcda files under `data`."""
    lines = collections.defaultdict(dict)
    with tempfile.TemporaryDirectory() as folder:
        for number, gcda in enumerate(sorted(data.rglob("*.gcda"))):
            gcno = pathlib.Path("/") / gcda.relative_to(data).with_suffix(".gcno")
            if not gcno.exists():
                candidates = str(gcno).split("/execroot/evenkeel/", 1)
                gcno = execroot / candidates[-1] if len(candidates) == 2 else gcno
            if not gcno.exists():
                continue
            work = pathlib.Path(folder) / str(number)
            work.mkdir()
            shutil.copy(gcda, work / gcda.name)
            shutil.copy(gcno, work / gcno.name)
            subprocess.run(["gcov", "--json-format", gcda.name], cwd=work, capture_output=True, check=False)
            for report in work.glob("*.gcov.json.gz"):
                for source in json.loads(gzip.open(report).read())["files"]:
                    name = source["file"]
                    if name.startswith("/") or name.startswith("bazel-out"):
                        continue
                    for line in source["lines"]:
                        number_ = line["line_number"]
                        lines[name][number_] = lines[name].get(number_, False) or line["count"] > 0
            shutil.rmtree(work)
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--execroot", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    lines = merge(arguments.data, arguments.execroot)
    folders = collections.defaultdict(lambda: [0, 0])
    failures = []
    for name in sorted(lines):
        top = name.split("/")[0]
        if top == "tests":
            continue
        covered, total = sum(lines[name].values()), len(lines[name])
        folders[top][0] += covered
        folders[top][1] += total
        ratio = covered / max(1, total)
        print(f"{ratio:7.1%}  {covered:5d}/{total:<5d}  {name}")
        if top in LIMITED and ratio < FILE_MIN and name not in EXEMPT:
            failures.append(f"{name}: {ratio:.1%} is under {FILE_MIN:.0%}")
    print()
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
