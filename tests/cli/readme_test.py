# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of the README's section "Plan without a cluster" and compares what they print.

readme_test.py [--update] README.md KEELCTL ROOT: ROOT is the checkout, from which the commands name their files; what
they write goes elsewhere. Words must be equal; fractions may differ by one in their last printed digit. --update
writes what is printed into the README instead.
"""

import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

WANTED = ("keelctl plan", "keelctl simulate")
FIGURE = re.compile(r"^[-+]?\d+(\.\d+)?([kMGT%]?)$")


def section(text: str) -> str:
    parts = re.split(r"^## ", text, flags=re.M)
    return next(part for part in parts if part.startswith("Plan without a cluster"))


def examples(text: str) -> list[tuple[list[str], str]]:
    """Each ```sh block's commands, and the ```text block after it (empty if there is none)."""
    blocks = re.findall(r"```(sh|text)\n(.*?)```", text, flags=re.S)
    found = []
    for i, (kind, body) in enumerate(blocks):
        if kind == "sh":
            after = blocks[i + 1][1] if i + 1 < len(blocks) and blocks[i + 1][0] == "text" else ""
            commands = body.replace("\\\n", " ").splitlines()
            found.append(([c.split(" # ")[0].strip() for c in commands if c.strip()], after))
    return found


def same(printed: str, wanted: str) -> bool:
    if printed == wanted:
        return True
    mine, theirs = FIGURE.match(printed), FIGURE.match(wanted)
    if not mine or not theirs or mine.group(2) != theirs.group(2):
        return False
    digits = len((theirs.group(1) or ".")) - 1
    if digits != len((mine.group(1) or ".")) - 1:
        return False
    unit = 10.0**-digits
    strip = lambda word: float(word.rstrip("kMGT%"))
    return digits > 0 and abs(strip(printed) - strip(wanted)) <= 1.001 * unit


def differences(printed: str, wanted: str) -> list[str]:
    mine, theirs = [[line.split() for line in text.strip().splitlines()] for text in (printed, wanted)]
    if len(mine) != len(theirs):
        return [f"{len(mine)} lines printed, {len(theirs)} in the README:\n{printed}"]
    return [f"printed {' '.join(a)!r}, in the README {' '.join(b)!r}"
            for a, b in zip(mine, theirs)
            if len(a) != len(b) or not all(same(x, y) for x, y in zip(a, b))]


def self_test() -> None:
    assert same("1.234", "1.235") and not same("1.234", "1.236") and not same("12", "13") and not same("12", "12.0")
    assert same("greedy", "greedy") and not same("greedy", "flex") and not same("1.2M", "1.2k")
    assert differences("a 1.00\nb", "a 1.01\nb") == [] and differences("a 1.00", "a 1.02") and differences("a", "a\nb")


def run(lines: list[str], keelctl: pathlib.Path, folder: str) -> tuple[str, list[str]]:
    """What the commands print together, and those that fail."""
    printed, failed = "", []
    for line in lines:
        words = shlex.split(line)
        assert words[0] == "keelctl", f"no command of keelctl: {line}"
        done = subprocess.run([str(keelctl)] + words[1:], cwd=folder, capture_output=True, text=True)
        printed += done.stdout
        if done.returncode != 0:
            failed.append(f"{line}\n  exit status {done.returncode}: {done.stderr.strip()}")
    return printed, failed


def main() -> int:
    self_test()
    update = sys.argv[1] == "--update"
    readme, keelctl, root = (pathlib.Path(word).absolute() for word in sys.argv[-3:])
    text = readme.read_text()
    found = examples(section(text))
    commands = [command for lines, _ in found for command in lines]
    failures = [f"the README has no {name}" for name in WANTED if not any(c.startswith(name + " ") for c in commands)]
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "engine").symlink_to(root / "engine")
        for lines, wanted in found:
            printed, failed = run(lines, keelctl, folder)
            failures += failed
            if update and wanted:
                text = text.replace(f"```text\n{wanted}```", f"```text\n{printed.strip()}\n```")
            elif wanted:
                failures += [f"{lines[-1]}\n  {difference}" for difference in differences(printed, wanted)]
    if update and not failures:
        readme.write_text(text)
    for failure in failures:
        print(f"FAIL {failure}")
    print(f"{len(commands)} commands, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
