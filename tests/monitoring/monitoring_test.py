# SPDX-License-Identifier: Apache-2.0
"""Alert rules and dashboard: valid, tested alert by alert, and about metrics that the controller really tells."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(".")
RULES = ROOT / "deploy/monitoring/alerts.yml"
METRIC = re.compile(r"\bevenkeel_[a-z0-9_]+")


def told() -> set[str]:
    """Names of all series that metrics.cc makes."""
    source = (ROOT / "controller/http/metrics.cc").read_text()
    names = set(METRIC.findall(source))
    names |= {f"evenkeel_group_{name}_total" for name in re.findall(r'\badd\("(\w+)"', source)}
    for name in re.findall(r'Histogram\("(\w+)"', source):
        names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")}
    return names


def promtool(*arguments, folder: pathlib.Path = ROOT):
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, f"promtool {' '.join(arguments)}:\n{done.stdout}{done.stderr}"


def rules_are_valid():
    promtool("check", "rules", str(RULES))


def every_alert_fires_when_it_should():
    tests = (ROOT / "tests/monitoring/alerts_test.yml").read_text()
    for alert in re.findall(r"- alert: (\w+)", RULES.read_text()):
        assert f"alertname: {alert}" in tests, f"{alert} has no test"
    with tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR")) as folder:
        for file in (RULES, ROOT / "tests/monitoring/alerts_test.yml"):
            shutil.copy(file, folder)
        promtool("test", "rules", "alerts_test.yml", folder=pathlib.Path(folder))


def metrics_named_are_told():
    known = told()
    expressions = re.findall(r"expr: (.*)", RULES.read_text())
    expressions += [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    named = {name for expression in expressions for name in METRIC.findall(expression)}
    assert len(named) > 30, f"only {len(named)} metrics are looked at"
    assert named <= known, f"nobody tells {sorted(named - known)}"


def dashboard() -> dict:
    return json.loads((ROOT / "deploy/monitoring/dashboard.json").read_text())


def panels_do_not_overlap():
    taken = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, f"panel {panel['title']}"
        taken |= cells


def main() -> int:
    failed = 0
    cases = [rules_are_valid, every_alert_fires_when_it_should, metrics_named_are_told, panels_do_not_overlap]
    for case in cases:
        try:
            case()
            print(f"{case.__name__}: ok")
        except AssertionError as error:
            failed += 1
            print(f"{case.__name__}: FAILED: {error}")
    print(f"{len(cases) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
