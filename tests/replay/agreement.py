# SPDX-License-Identifier: Apache-2.0
"""keelctl simulate against scorers that know nothing of it, on the routing trace that the repository ships.

Run by agreement_test.sh. Always against tests/replay/score_maps.py; also against the script that $SCORE_MAPS names, or
../shared/tools/score_maps.py beside the checkout, where it and numpy are there, and says so where not.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

KEELCTL, OWN_SCORER, TRACE, ROOT = sys.argv[1:5]
FIGURES = ("imbalance_mean", "imbalance_p95", "moves_per_layer_per_100_windows")
LINKS = ["--expert-bytes=44000000", "--link-gbps=1", "--window-seconds=1"]
CASES = [
    ["--policy=greedy", "--interval=50"],
    ["--policy=deepseek", "--interval=20", "--history=40", "--warmup=60"],
    ["--policy=greedy", "--interval=100", "--shares"],
    ["--policy=greedy", "--interval=100", "--shares", *LINKS],
    ["--policy=deepseek", "--interval=100", *LINKS],
    ["--policy=flex"],
    ["--policy=flex", *LINKS],
]

passed = failed = 0


def case(name, ok, detail=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print(f"{'ok  ' if ok else 'FAIL'} {name}{'' if ok else ': ' + str(detail)}", flush=True)


def run(*words, expected=0):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if done.returncode != expected:
        raise AssertionError(f"{' '.join(map(str, words))}: exit {done.returncode}: {done.stderr}")
    return done.stdout if expected == 0 else done.stderr


def python_with_numpy():
    for python in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([python, "-c", "import numpy"], capture_output=True).returncode == 0:
            return python
    return None


def other_scorer():
    script = os.environ.get("SCORE_MAPS") or pathlib.Path(ROOT).parent / "shared/tools/score_maps.py"
    python = python_with_numpy()
    if not os.path.exists(script):
        return None, f"there is no {script}"
    if python is None:
        return None, "there is no numpy"
    return [python, str(script)], ""


def main():
    scorer, why_not = other_scorer()
    if scorer is None:
        print(f"skipped: the comparison with a second scorer, since {why_not}")
    with tempfile.TemporaryDirectory() as folder:
        maps = pathlib.Path(folder) / "maps.jsonl"
        report = pathlib.Path(folder) / "report.html"
        for options in CASES:
            policy = options[0].removeprefix("--policy=")
            name = " ".join(options)
            words = [KEELCTL, "simulate", TRACE, "--ranks=8", "--slots-per-rank=9", *options]
            said = json.loads(run(*words, "--json", f"--maps={maps}", f"--report={report}"))
            judged = [TRACE, maps, "--ranks", 8, "--warmup", said["warmup"]]
            if policy in ("greedy", "flex"):
                judged.append("--strict")
            own = json.loads(run(sys.executable, OWN_SCORER, *judged))
            case(f"{name}: the own scorer agrees", all(said[f] == own[f] for f in FIGURES), (said, own))
            case(f"{name}: something moved", said["moves"] > 0, said)
            case(f"{name}: the report is there", len(report.read_text()) > 10000)
            if scorer:
                other = json.loads(run(*scorer, *judged))
                case(f"{name}: the second scorer agrees", all(said[f] == other[f] for f in FIGURES), (said, other))
                case(f"{name}: the noise floors are alike",
                     abs(said["noise_floor"] - other["noise_floor"]) < 0.003, (said, other))
        text = json.dumps(json.loads(run(*words, "--json")))
        case("the same command says the same", text == json.dumps({**said}), "")
        whole = maps.read_text()
        run(*words, f"--maps={maps}")
        case("the same command writes the same maps", whole == maps.read_text())
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
