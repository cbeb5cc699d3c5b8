# SPDX-License-Identifier: Apache-2.0
"""The rules of the house that neither compiler nor BUILD visibility can hold, checked over the whole tree.

Run from the root of the checkout: python3 tests/tidy/tidy.py [--self-test]. Prints one line per violation and closes
with "N passed, N failed", one case per rule.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

SOURCES = (".h", ".cc", ".cu", ".c")
HEADER_LINES_MAX = 250
SOURCE_LINES_MAX = 400

PURE = ("algos/", "agent/core/", "controller/core/")
PURE_STD_FORBIDDEN = {
    "thread", "mutex", "shared_mutex", "condition_variable", "atomic", "future", "chrono", "random", "fstream",
    "iostream", "filesystem", "unordered_map", "unordered_set", "cstdlib", "ctime", "semaphore", "stop_token",
}
PURE_LIBRARIES = re.compile(r"^absl/(status|strings|time|types|container/(btree|inlined_vector|fixed_array)|functional)")

# Folder -> folders whose headers it may include (its own is always allowed). The longest prefix wins.
LAYERS = {
    "algos/base/": (),
    "algos/": ("algos/",),
    "agent/core/": ("algos/",),
    "controller/core/": ("algos/",),
    "engine/region/": ("algos/", "kernels/"),
    "engine/": ("engine/", "kernels/", "algos/dispatch/"),
    "engine/reference/": ("algos/base/", "engine/evenkeel.h"),
    "kernels/": ("kernels/",),
    "proto/": ("algos/", "proto/", "controller/core/"),
    "runtime/": ("algos/base/",),
    "agent/": ("algos/", "agent/", "proto/", "runtime/", "engine/region/", "kernels/"),
    "controller/": ("algos/", "controller/", "proto/", "runtime/"),
    "cli/": ("algos/", "cli/", "proto/", "runtime/"),
}
OURS = ("algos/", "agent/", "controller/", "engine/", "kernels/", "proto/", "runtime/", "cli/", "tests/")

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.M)
WORDS = {
    r"\bstd::(mutex|condition_variable|recursive_mutex|shared_mutex)\b": "absl::Mutex guards queues; nothing else locks",
    r"\bstd::this_thread::sleep|\babsl::SleepFor\b|\busleep\(": "wait on a condition with a deadline",
    r"\b(TODO|FIXME|XXX)\b": "finish it or leave it out",
    r"\.detach\(\)": "threads have an owner who joins",
    r"\bstd::(views|ranges::(views|subrange|unique|partition|stable_partition|remove|remove_if|rotate|search|equal_range))\b":
        "clang 14 cannot read its views, and reads all for --config=tsa; take the function over iterators",
}
SHARED_MEMORY = re.compile(r"\bshm_open\b|\bF_OFD_SETLK\b|\bmmap\s*\(")
THROW = re.compile(r"\bthrow\b|\btry\s*\{|\bcatch\s*\(")


def tracked(root: pathlib.Path) -> list[str]:
    out = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=root,
                         capture_output=True, text=True, check=True).stdout.split("\n")
    return sorted(f for f in out if f and (root / f).is_file())


def code_of(text: str) -> str:
    """The text without comments and string contents, lines kept."""
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)
    text = re.sub(r'"(\\.|[^"\\\n])*"', '""', text)
    return re.sub(r"//[^\n]*", "", text)


def layer_of(name: str) -> str | None:
    return max((folder for folder in LAYERS if name.startswith(folder)), key=len, default=None)


def check_spdx(root, files):
    for name in files:
        if name.endswith(SOURCES + (".sh", ".py")) and not name.startswith("third_party/"):
            head = (root / name).read_text(errors="replace").split("\n")[:2]
            if not any("SPDX-License-Identifier: Apache-2.0" in line for line in head):
                yield f"{name}: no SPDX line at its top"


def check_length(root, files):
    for name in files:
        if name.endswith(SOURCES):
            lines = (root / name).read_text(errors="replace").count("\n")
            limit = HEADER_LINES_MAX if name.endswith(".h") else SOURCE_LINES_MAX
            if lines > limit:
                yield f"{name}: {lines} lines; at most {limit}"


def check_layers(root, files):
    for name in files:
        layer = layer_of(name)
        if layer is None or not name.endswith(SOURCES):
            continue
        for quote, include in INCLUDE.findall((root / name).read_text(errors="replace")):
            if quote == '"' and include.startswith(OURS):
                if not include.startswith((layer,) + LAYERS[layer]):
                    yield f"{name}: {layer} may not include {include}"


def check_pure(root, files):
    for name in files:
        if not name.startswith(PURE) or not name.endswith(SOURCES):
            continue
        for quote, include in INCLUDE.findall((root / name).read_text(errors="replace")):
            if quote == "<" and (include in PURE_STD_FORBIDDEN or "/" in include or include.endswith(".h")):
                if not (include == "cstdlib" and name == "algos/base/check.h"):
                    yield f"{name}: a pure package may not include <{include}>"
            if quote == '"' and not include.startswith(OURS) and not PURE_LIBRARIES.match(include):
                yield f"{name}: a pure package may not include {include}"
        if re.search(r"\babsl::Now\b|\bgetenv\b|\babsl::GetCurrentTimeNanos\b", code_of((root / name).read_text())):
            yield f"{name}: a pure package has no clock and no environment"


def check_words(root, files):
    for name in files:
        if not name.endswith(SOURCES + (".sh", ".bzl", ".py")) or name.startswith("tests/tidy/"):
            continue
        text = (root / name).read_text(errors="replace")
        code = text if not name.endswith(SOURCES) else code_of(text)
        for pattern, why in WORDS.items():
            if "sleep" in pattern and name.startswith("tests/bench/"):
                continue  # load is offered at a rate there
            source = text if "TODO" in pattern else code
            if name.endswith(SOURCES) or "TODO" in pattern:
                for match in re.finditer(pattern, source):
                    line = source[: match.start()].count("\n") + 1
                    yield f"{name}:{line}: {match.group()}: {why}"
        if name.endswith(SOURCES):
            if SHARED_MEMORY.search(code) and name != "engine/region/shared_memory.cc" and not name.startswith("tests/"):
                yield f"{name}: only engine/region/shared_memory owns shared memory"
            if THROW.search(code) and not name.startswith("tests/"):
                yield f"{name}: no throw or try in our code"


def check_listed(root, files):
    builds = {}
    for name in files:
        if not name.endswith(SOURCES + (".proto",)):
            continue
        folder = pathlib.PurePath(name).parent
        while not (root / folder / "BUILD.bazel").exists() and folder != folder.parent:
            folder = folder.parent
        build = root / folder / "BUILD.bazel"
        if build not in builds:
            builds[build] = build.read_text()
        relative = str(pathlib.PurePath(name).relative_to(folder))
        if f'"{relative}"' not in builds[build]:
            yield f"{name}: no target of {folder}/BUILD.bazel lists it"


def check_formatted(root, files):
    ours = [f for f in files if f.endswith((".h", ".cc", ".cu")) and not f.startswith("third_party/")]
    for start in range(0, len(ours), 64):
        done = subprocess.run(["clang-format", "--dry-run", *ours[start : start + 64]], cwd=root, capture_output=True,
                              text=True)
        for name in sorted(set(re.findall(r"^(\S+?):\d+:\d+: warning", done.stderr, re.M))):
            yield f"{name}: not formatted; run clang-format -i {name}"
        if done.returncode:
            yield f"clang-format: {done.stderr.strip()[:300]}"


def check_example(root, files):
    if "README.md" in files and "engine/example.c" in files:
        source = (root / "engine/example.c").read_text().split("/* example:begin */\n")[-1].split("/* example:end */")[0]
        if f"```c\n{source}```" not in (root / "README.md").read_text():
            yield "README.md: does not quote engine/example.c as it is"


RULES = [check_spdx, check_length, check_layers, check_pure, check_words, check_listed, check_formatted, check_example]

# What each rule must refuse: (rule, file, content).
WITNESSES = [
    (check_spdx, "algos/a.h", "#pragma once\n"),
    (check_length, "algos/a.cc", "\n" * 401),
    (check_layers, "algos/a.h", '#include "controller/core/group.h"\n'),
    (check_layers, "agent/a.h", '#include "controller/daemon.h"\n'),
    (check_layers, "controller/a.h", '#include "agent/daemon.h"\n'),
    (check_layers, "engine/a.h", '#include "proto/convert.h"\n'),
    (check_pure, "algos/a.h", "#include <thread>\n"),
    (check_pure, "agent/core/a.h", '#include "absl/synchronization/mutex.h"\n'),
    (check_pure, "controller/core/a.cc", "absl::Time t = absl::Now();\n"),
    (check_words, "agent/a.cc", "std::mutex m;\n"),
    (check_words, "agent/a.cc", "int fd = shm_open(name);\n"),
    (check_words, "agent/a.cc", "void* at = ::mmap(nullptr, 1, 0, 0, fd, 0);\n"),
    (check_words, "agent/a.cc", "void F() { throw 1; }\n"),
    (check_words, "agent/a.cc", "auto rest = std::ranges::unique(ids);\n"),
    (check_listed, "algos/a.cc", "int x;\n"),
    (check_formatted, "algos/a.cc", "int   x ;\n"),
]


def self_test() -> list[str]:
    """Rules that do not refuse their witness."""
    failures = []
    for rule, name, content in WITNESSES:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / name).parent.mkdir(parents=True)
            (root / name).write_text(content)
            (root / name).with_name("BUILD.bazel").write_text("")
            if not list(rule(root, [name])):
                failures.append(f"{rule.__name__} lets pass {name}: {content.strip()[:60]!r}")
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path("."))
    parser.add_argument("--self-test", action="store_true", help="also check that each rule refuses what it should")
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    files = tracked(root)
    passed = failed = 0
    results = {rule.__name__: list(rule(root, files)) for rule in RULES}
    if arguments.self_test:
        results["self_test"] = self_test()
    for violations in results.values():
        for violation in violations:
            print(violation)
        passed, failed = passed + (not violations), failed + bool(violations)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
