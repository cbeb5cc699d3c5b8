# SPDX-License-Identifier: Apache-2.0
"""The results table of planning: every policy at every cadence on recorded and composed timelines, as Markdown.

    python3 tests/bench/planning_results.py [--traces ../shared/traces] [--seeds 2-6] [--only glm,tinymoe] [--prebuilt DIR]

Builds keelctl and make_timeline unless --prebuilt names a folder with both. The routing trace in engine/reference is
always there; the other timelines are composed (tests/bench/make_timeline.cc) out of traces that the project does not
ship, and are named as absent where they are not found. --composer FILE composes with another program that takes the
same arguments. --answers DIR keeps each seed's answer there, and takes what is there already instead of replaying
again: for long runs, and for adding seeds to a table. Policies are replayed by `keelctl simulate`, whose figures
tests/replay/agreement.py checks.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
INTERVALS = [5, 10, 20, 50, 100, 300]
SKIPPED = {"static": "holds one given map", "random": "is for tests"}
FLEX_MOVES_MAX = 10

# Name, what it is, trace, arguments of the composer (none: the recorded windows themselves), ranks, slots per rank.
TIMELINES = [
    ("tinymoe", "TinyMoE's routing, as shipped", ROOT / "engine/reference/tinymoe/routing_counts.npy", None, 8, 9),
    ("glm", "GLM-5.2, layers 5, 20, 40, 60, 10 domains", "glm_5_2_domain_shards",
     ["--domains", "10", "--layers", "5,20,40,60"], 32, 9),
    ("v2lite", "DeepSeek-V2-Lite, 26 layers, 4 domains, 60,000 copies", "deepseek_v2_lite_esft_tasks",
     ["--domains", "4", "--copies", "60000"], 8, 9),
    ("v3-32x9", "DeepSeek-V3, 58 layers, 12 domains", "deepseek_v3_r1_sglang_ep_stats", ["--domains", "12"], 32, 9),
    ("v3-64x5", "DeepSeek-V3, 58 layers, 12 domains", "deepseek_v3_r1_sglang_ep_stats", ["--domains", "12"], 64, 5),
    ("smartmoe", "SmartMoE's 501 training windows, 24 layers", "smartmoe_gpt_training", None, 8, 5),
]


def numbers(text):
    out = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        out += range(int(first), int(last or first) + 1)
    return out


def tools(prebuilt):
    if prebuilt:
        return pathlib.Path(prebuilt) / "keelctl", pathlib.Path(prebuilt) / "make_timeline"
    subprocess.run([ROOT / "deploy/bazel.sh", "build", "-c", "opt", "//cli:keelctl", "//tests/bench:make_timeline"],
                   check=True)
    return ROOT / "bazel-bin/cli/keelctl", ROOT / "bazel-bin/tests/bench/make_timeline"


def call(*words):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def simulate(keelctl, timeline, ranks, slots, policies, intervals, shares=False):
    words = [keelctl, "simulate", timeline, f"--ranks={ranks}", f"--slots-per-rank={slots}", "--json",
             f"--policy={','.join(policies)}", f"--interval={','.join(map(str, intervals))}"]
    return json.loads(call(*words, *(["--shares"] if shares else [])))


def answer_of(a, tool, composer, name, recipe, counts, ranks, slots, policies, intervals, seed):
    """What simulate says of one seed of a timeline; --answers may have it."""
    asked = {"counts": str(counts), "composer": composer.name if recipe else "", "recipe": recipe, "seed": seed,
             "ranks": ranks, "slots": slots, "policies": policies, "intervals": intervals, "shares": a.shares}
    kept = pathlib.Path(a.answers or ".") / f"{name}-{composer.name}-{seed}.json"
    if a.answers and kept.exists():
        known = json.loads(kept.read_text())
        if known["asked"] == asked:
            return known["answer"]
    with tempfile.TemporaryDirectory() as folder:
        timeline = counts
        if recipe:
            timeline = pathlib.Path(folder) / "timeline.npy"
            call(*([sys.executable] if composer.suffix == ".py" else []), composer, counts, timeline, *recipe,
                 "--seed", seed)
        answer = simulate(tool, timeline, ranks, slots, policies, intervals)
        if a.shares:
            peers = [p for p in policies if p != "flex"]
            answer["runs"] += simulate(tool, timeline, ranks, slots, peers, intervals, shares=True)["runs"][1:]
    if a.answers:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps({"asked": asked, "answer": answer}))
    return answer


def cell(runs):
    """Excess and moves, means over the seeds."""
    return (statistics.mean(r["excess_over_floor"] for r in runs),
            statistics.mean(r["moves_per_layer_per_100_windows"] for r in runs))


def text(pair):
    return f"{pair[0]:.4f} / {pair[1]:.1f}" if pair else "-"


def table(results, intervals):
    """results: one JSON answer of simulate for each seed."""
    by_run = {}
    for answer in results:
        for run in answer["runs"]:
            by_run.setdefault((run["policy"], run["shares"], run["interval"]), []).append(run)
    lines = ["| policy | " + " | ".join(f"every {i}" for i in intervals) + " |",
             "|---|" + "---|" * len(intervals)]
    cadenced = sorted({(p, s) for p, s, i in by_run if i > 0})
    for policy, shares in cadenced:
        cells = [by_run.get((policy, shares, i)) for i in intervals]
        name = policy + (" + shares" if shares else "")
        lines.append(f"| {name} | " + " | ".join(text(c and cell(c)) for c in cells) + " |")
    lines += ["", "| | excess / moves | imbalance mean | p95 | with best shares | doubled slots |", "|---|---|---|---|---|---|"]
    for (policy, shares, interval), runs in sorted(by_run.items()):
        if interval > 0 and (policy, interval) not in (("deepseek", 100), ("deepseek", 20)):
            continue
        mean = lambda field: statistics.mean(r[field] for r in runs)
        name = "never changed" if policy == "contiguous" else policy + (f" every {interval}" if interval else "")
        lines.append(f"| {name}{' + shares' if shares else ''} | {text(cell(runs))} | {mean('imbalance_mean'):.4f} | "
                     f"{mean('imbalance_p95'):.4f} | {mean('imbalance_with_best_shares'):.4f} | {mean('doubled_slots'):.2f} |")
    floor = statistics.mean(a["runs"][0]["noise_floor"] for a in results)
    lines += ["", f"Noise floor {floor:.4f}. A placement and shares for each very window: "
              f"{statistics.mean(a['best_placement_found'] for a in results):.4f} found, none below "
              f"{statistics.mean(a['best_placement_lower_bound'] for a in results):.4f}."]
    return lines, by_run


def goals(by_run):
    flex, slow, often = (by_run.get(k) for k in (("flex", False, 0), ("deepseek", False, 100), ("deepseek", False, 20)))
    if not (flex and slow and often):
        return []
    (excess, moves), (slow_excess, _), (often_excess, often_moves) = cell(flex), cell(slow), cell(often)
    said = lambda ok: "met" if ok else "missed"
    return [f"Goals: flex at {moves:.2f} moves ({said(moves <= FLEX_MOVES_MAX)}: at most {FLEX_MOVES_MAX}); excess "
            f"{excess:.4f}, at most half of deepseek's every 100, {slow_excess / 2:.4f} ({said(excess <= slow_excess / 2)}), "
            f"and at most deepseek's every 20, {often_excess:.4f} at {often_moves:.0f} moves ({said(excess <= often_excess)})."]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", default=str(ROOT.parent / "shared/traces"))
    parser.add_argument("--seeds", default="2-6", help="of the composed timelines")
    parser.add_argument("--only", default="", help="names of timelines: " + ", ".join(t[0] for t in TIMELINES))
    parser.add_argument("--intervals", default=",".join(map(str, INTERVALS)))
    parser.add_argument("--policies", default="", help="all but static and random if empty")
    parser.add_argument("--shares", action="store_true", help="also every policy with shares solved before each window")
    parser.add_argument("--prebuilt", default="")
    parser.add_argument("--composer", default="", help="in place of make_timeline")
    parser.add_argument("--answers", default="", help="folder of answers, kept and used again")
    a = parser.parse_args()
    keelctl, composer = tools(a.prebuilt)
    composer = pathlib.Path(a.composer) if a.composer else composer
    intervals = [int(i) for i in a.intervals.split(",")]
    known = [p["name"] for p in json.loads(call(keelctl, "policies", "--json"))["policies"]]
    policies = a.policies.split(",") if a.policies else sorted({"flex", *known} - set(SKIPPED))
    only = set(filter(None, a.only.split(",")))
    unknown = only - {t[0] for t in TIMELINES}
    if unknown:
        parser.error(f"no timeline {', '.join(sorted(unknown))}")
    print("Each cell: excess of the mean imbalance over the noise floor / moves per layer and 100 windows.\n")
    for name, what, trace, recipe, ranks, slots in TIMELINES:
        if only and name not in only:
            continue
        counts = trace if isinstance(trace, pathlib.Path) else pathlib.Path(a.traces) / trace / "counts.npy"
        print(f"## {name}: {what}, {ranks} ranks x {slots} slots\n", flush=True)
        if not counts.exists():
            print(f"Absent: {counts} is not there.\n", flush=True)
            continue
        began, results = time.monotonic(), []
        for seed in numbers(a.seeds) if recipe else [0]:
            results.append(answer_of(a, keelctl, composer, name, recipe, counts, ranks, slots, policies, intervals, seed))
            print(f"{name}: seed {seed} done after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        lines, by_run = table(results, intervals)
        seeds = f"Means over seeds {a.seeds}" if recipe else "The recorded windows"
        print("\n".join([f"{seeds}; scored from window {results[0]['warmup']} of {results[0]['windows']} on.", ""] +
                        lines + [""] + goals(by_run)), "\n", flush=True)


if __name__ == "__main__":
    main()
