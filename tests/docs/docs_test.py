# SPDX-License-Identifier: Apache-2.0
"""What docs/ says of this tree holds in it: docs_test.py ROOT.

Every row of the requirements is listed once in docs/acceptance.md, with a state and, where met, tests; every Bazel target
and every test case that the docs name exists; links lead to files and headings; what deploy/docs.py writes is current.
Prints what is wrong and closes with "N passed, N failed".
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1]).resolve()
sys.path.insert(0, str(ROOT / "deploy"))
import docs  # noqa: E402

ROWS = {"R0": 23, "R1": 71, "R2": 9, "R3": 33, "R4": 16, "R5": 10}  # of the requirements: R0.1 to R0.23, and so on
TOP_LEVEL = ("WORKSPACE", "BUILD.bazel", "README.md", "LICENSE", "CONTRIBUTING.md", "proto/evenkeel", "controller/BUILD.bazel",
             "agent/BUILD.bazel", "kernels/BUILD.bazel", "algos/BUILD.bazel", "tests/BUILD.bazel", "deploy/BUILD.bazel")
CODE = ("agent", "algos", "cli", "controller", "engine", "runtime")
SHOWN = re.compile(r"`(//[\w/.:-]+)`|\*([^*]+)\*")
LABEL = re.compile(r"//([\w/.-]*)(?::([\w.+-]+))?")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "deploy/README.md", *sorted((ROOT / "docs").glob("*.md"))]


def acceptance() -> list[tuple[str, list[str]]]:
    return docs.rows((ROOT / "docs/acceptance.md").read_text())


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", lambda m: "\n" * m[0].count("\n"), text, flags=re.S)


def target_exists(package: str, name: str) -> bool:
    if package.startswith("tests/e2e") and name.endswith("_test"):
        return f'("{name.removesuffix("_test")}",' in (ROOT / package / "BUILD.bazel").read_text()
    build = ROOT / package / "BUILD.bazel"
    return build.exists() and re.search(rf'name = "{re.escape(name)}"', build.read_text()) is not None


def cases_of(package: str, name: str) -> set[str]:
    """The names of the test cases of a target, from the file that has its stem."""
    folder = ROOT / package
    stem = name.removesuffix("_test") if package == "tests/e2e" else name
    cases = set()
    for path in (folder / f"{stem}.cc", folder / f"{stem}.py"):
        if path.exists() and path.suffix == ".py":
            cases |= set(re.findall(r"^def (\w+)\(", path.read_text(), re.M))
        elif path.exists():
            for match in re.finditer(r'TEST_CASE\(\s*((?:"(?:[^"\\]|\\.)*"\s*)+)', path.read_text()):
                cases.add("".join(re.findall(r'"((?:[^"\\]|\\.)*)"', match[1])).replace('\\"', '"'))
    return cases


def every_row_is_listed_once_in_order():
    listed = [row for row, _ in acceptance()]
    wanted = [f"{part}.{number}" for part, last in ROWS.items() for number in range(1, last + 1)]
    for row in sorted(set(listed + wanted), key=lambda row: [int(n) for n in re.findall(r"\d+", row)]):
        if listed.count(row) != wanted.count(row):
            yield f"{row} is listed {listed.count(row)} times"
    if sorted(listed) == sorted(wanted) and listed != wanted:
        yield "rows are not in order"


def every_row_has_a_state_and_what_is_met_is_shown():
    for row, cells in acceptance():
        if len(cells) != 4:
            yield f"{row} has {len(cells) + 1} cells, wanted 5"
        elif cells[1] not in docs.STATES:
            yield f"{row} is '{cells[1]}', wanted one of {', '.join(docs.STATES)}"
        elif cells[1] == "met" and "`//tests/" not in cells[3]:
            yield f"{row} is met and names no test"
        elif cells[1] != "met" and not cells[2]:
            yield f"{row} is {cells[1]} and does not say why"
        elif cells[1] in ("not yet", "does not apply") and cells[3]:
            yield f"{row} is {cells[1]} and names a test"


def every_test_named_as_showing_a_row_exists():
    for row, cells in acceptance():
        yield from missing_tests(row, cells[3] if len(cells) == 4 else "")


def every_threat_is_stopped_somewhere_and_its_tests_exist():
    table = (ROOT / "docs/security.md").read_text().split("| who tries what |")[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        cells = [part.strip() for part in line.strip("|").split("|")]
        if len(cells) != 3 or not all(cells) or "`//tests/" not in cells[2]:
            yield f"security.md: '{cells[0]}' does not say what stops it, and which test shows that"
        else:
            yield from missing_tests(f"security.md: '{cells[0]}'", cells[2])


def missing_tests(row: str, shown_by: str):
    """Of what a cell names, `//target` and then *cases* of it, that which is not there."""
    label = None
    for match in SHOWN.finditer(shown_by):
        if match[1]:
            label = LABEL.match(match[1])
            if not target_exists(label[1], label[2]):
                yield f"{row} names {label[0]}, which is no target"
        elif label is None:
            yield f"{row} names a case before its target: {match[2]}"
        elif match[2] not in cases_of(label[1], label[2]):
            yield f"{row}: {label[0]} has no case '{match[2]}'"


def every_target_named_anywhere_exists():
    for path in PAGES:
        for match in re.finditer(r"(?<![\w:/.])//[a-z][\w/.-]*(?::[\w.+-]+)?", path.read_text()):
            label = LABEL.match(match[0].rstrip("."))
            package, name = label[1].rstrip("/").removesuffix("/..."), label[2]
            if name == "NAME" or not (ROOT / package.split("/")[0]).is_dir():
                continue
            if not (ROOT / package / "BUILD.bazel").exists() and not label[1].endswith("..."):
                yield f"{path.name} names {match[0]}, which is no package"
            elif name and not target_exists(package, name):
                yield f"{path.name} names {match[0]}, which is no target"


def anchors(path: pathlib.Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", without_code(path.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links_lead_somewhere():
    for path in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text())):
            if "://" in target:
                continue
            file, _, anchor = target.partition("#")
            found = (path.parent / file).resolve() if file else path
            if not found.exists():
                yield f"{path.name}: {target} leads nowhere"
            elif anchor and found.suffix == ".md" and anchor not in anchors(found):
                yield f"{path.name}: {target}: no such heading"


def headings_stand_once():
    for path in PAGES:
        heads = re.findall(r"^## .*$", without_code(path.read_text()), re.M)
        for head in sorted({head for head in heads if heads.count(head) > 1}):
            yield f"{path.name} has '{head}' {heads.count(head)} times"


def what_is_written_from_the_sources_is_current():
    for name, text in docs.written(ROOT).items():
        if (ROOT / name).read_text() != text:
            yield f"{name} is not what the sources say; run python3 deploy/docs.py"


def every_page_is_reachable_from_the_readme():
    linked, todo = set(), [ROOT / "README.md"]
    while todo:
        path = todo.pop()
        if path in linked or not path.exists():
            continue
        linked.add(path)
        for target in re.findall(r"\]\(([^)#\s]+\.md)", path.read_text()):
            if "://" not in target:
                todo.append((path.parent / target).resolve())
    for path in PAGES:
        if path not in linked:
            yield f"{path.name} is linked from nowhere"


def whoever_calls_calls_where_a_controller_listens():
    default = docs.default_of(next(item for block in docs.parse((ROOT / "proto/evenkeel/v1/config.proto").read_text())[1]
                                   if block.name == "ControllerConfig" for item in block.items if item.name == "listen"))
    for name, pattern in (("agent/main.cc", r'controller, "([\d.:]+)"'), ("cli/keelctl.h", r'default_controller = "([\d.:]+)"'),
                          ("controller/config.h", r'listen = "([\d.:]+)"')):
        found = re.search(pattern, (ROOT / name).read_text())
        if not found or found[1] != default:
            yield f"{name} says {found and found[1]}, the configuration {default}"


def every_message_quoted_is_in_the_sources():
    sources = [path for folder in CODE for kind in ("*.cc", "*.h") for path in (ROOT / folder).rglob(kind)]
    text = "".join(re.sub(r'"\s*\n\s*"', "", path.read_text()) for path in sources)
    for line in re.findall(r"^\| (`.*?) \| ", (ROOT / "docs/troubleshooting.md").read_text(), re.M):
        for message in re.findall(r"`([^`]+)`", line):
            for piece in filter(None, (piece.strip() for piece in message.split("…"))):
                if piece not in text:
                    yield f"troubleshooting.md: no program says '{piece}' (of '{message}')"


def the_top_level_is_as_asked():
    for name in TOP_LEVEL:
        if not (ROOT / name).exists():
            yield f"{name} is missing"


CASES = [every_row_is_listed_once_in_order, every_row_has_a_state_and_what_is_met_is_shown,
         every_test_named_as_showing_a_row_exists, every_target_named_anywhere_exists, links_lead_somewhere,
         headings_stand_once, what_is_written_from_the_sources_is_current, every_page_is_reachable_from_the_readme,
         whoever_calls_calls_where_a_controller_listens, every_message_quoted_is_in_the_sources, the_top_level_is_as_asked]

# What a case must refuse: (case, file, what stands there, what stands there instead).
WITNESSES = [
    (every_row_is_listed_once_in_order, "docs/acceptance.md", "| R2.9 |", "| R2.8 |"),
    (every_row_has_a_state_and_what_is_met_is_shown, "docs/acceptance.md", "| not yet |", "| soon |"),
    (every_row_has_a_state_and_what_is_met_is_shown, "docs/acceptance.md", "`//tests/", "`//test/"),
    (every_test_named_as_showing_a_row_exists, "docs/acceptance.md", "//tests/algos:greedy_test", "//tests/algos:greed_test"),
    (every_test_named_as_showing_a_row_exists, "docs/acceptance.md", "*eight_ranks_are", "*nine_ranks_are"),
    (every_threat_is_stopped_somewhere_and_its_tests_exist, "docs/security.md", "*an agent speaks for", "*an agent talks for"),
    (every_threat_is_stopped_somewhere_and_its_tests_exist, "docs/security.md",
     "| the names in its certificate, at every `Attach` (`controller/agent_service.cc`) |", "| |"),
    (every_target_named_anywhere_exists, "docs/membership.md", "//tests/controller:ranks_test", "//tests/controller:rank_test"),
    (links_lead_somewhere, "README.md", "](docs/design.md)", "](docs/designs.md)"),
    (headings_stand_once, "docs/membership.md", "## Draining", "## Losing ranks"),
    (what_is_written_from_the_sources_is_current, "docs/api.md", "| `layer` |", "| `layers` |"),
    (every_page_is_reachable_from_the_readme, "README.md", "](docs/figures.md", "](docs/figure.md"),
    (every_message_quoted_is_in_the_sources, "docs/troubleshooting.md", "`never called", "`has never called"),
]


def every_case_refuses_its_witness():
    real = pathlib.Path.read_text
    for case, name, there, instead in WITNESSES:
        if there not in real(ROOT / name):
            yield f"{name} does not say '{there}'"
            continue

        def changed(path, *arguments):
            text = real(path, *arguments)
            return text.replace(there, instead) if path == ROOT / name else text

        pathlib.Path.read_text = changed
        refused = list(case())
        pathlib.Path.read_text = real
        if not refused:
            yield f"{case.__name__} lets pass '{instead}' in {name}"


CASES.append(every_case_refuses_its_witness)


def main() -> int:
    failed = 0
    for case in CASES:
        problems = list(case())
        failed += bool(problems)
        for problem in problems:
            print(f"{case.__name__}: {problem}")
    print(f"{len(CASES) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
