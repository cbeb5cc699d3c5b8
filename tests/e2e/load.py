# SPDX-License-Identifier: Apache-2.0
"""`keelctl load` against eight ranks, one of which is killed while it runs."""

import json
import subprocess
import sys

import cases
from cases import case, check, check_equal
from cluster import Cluster, wait_for

RANKS = 8
REQUESTS = 100  # what the tool sends where it is told nothing else
PROMPTS = [{"prompt": f"def f{i}(x):\n    return", "max_tokens": 12 + i} for i in range(5)] + ["// a line", "a + b"]
# A quarter of a second a sequence at least, so that the kill meets requests under way.
SERVING = ["--batch=4", "--prompt_bytes=32", "--decode_bytes=32", "--tokens_per_second_max=250", "--answer_seconds=60",
           "--check=full", "--on_loss=reroute", "--requests_port=0"]
CONFIG = {"defaults": {"placement_enabled": False, "shares_interval_ms": 500}}


def serving_group() -> Cluster:
    # Three copies of each expert.
    return Cluster(cases.options(ranks=RANKS, redundant=2 * 64, config=CONFIG, engine_flags=SERVING))


def write_files(cluster: Cluster):
    urls = {str(rank): cluster.engine_status(rank)["url"] for rank in range(RANKS)}
    (cluster.run_dir / "urls.json").write_text(json.dumps(urls))
    lines = [json.dumps(prompt) if isinstance(prompt, dict) else prompt for prompt in PROMPTS]
    (cluster.run_dir / "prompts.txt").write_text("\n".join(lines) + "\n")


def load(cluster: Cluster, victim: int, *flags: str) -> tuple[int, dict]:
    """Exit status and JSON of a run during which `victim` is killed."""
    done_before = cluster.engine_total("requests")
    out = cluster.run_dir / f"load-{victim}.json"
    process = subprocess.Popen(
        [str(cluster.options.binaries.keelctl), f"--controller={cluster.address}", "load",
         f"--url=@{cluster.run_dir / 'urls.json'}", f"--prompts={cluster.run_dir / 'prompts.txt'}", f"--out={out}",
         "--json", *flags], stdout=subprocess.PIPE, text=True)
    try:
        wait_for("a fifth of the requests", lambda: cluster.engine_total("requests") - done_before >= REQUESTS // 5, 120)
        cluster.kill_ranks(victim)
        printed = process.communicate(timeout=300)[0]
    finally:
        process.kill()
    result = json.loads(printed)
    check_equal(json.loads(out.read_text()), result, "what was written and what was printed")
    return process.returncode, result


def check_records(result: dict, victim: int):
    """One record for each request, and totals that follow from them."""
    requests, totals = result["requests"], result["totals"]
    check_equal([record["request"] for record in requests], list(range(REQUESTS)), "requests")
    check_equal(totals["requests"], REQUESTS, "requests in all")
    check_equal(totals["ok"], sum(record["ok"] for record in requests), "answered")
    check_equal(totals["failed"], REQUESTS - totals["ok"], "failed")
    check_equal(totals["ok_at_once"], sum(record["ok"] and len(record["attempts"]) == 1 for record in requests),
                "answered at once")
    check_equal(sum(totals["ok_of_rank"].values()), totals["ok"], "answered by ranks")
    latency = totals["latency_seconds"]
    check(0 < latency["min"] <= latency["mean"] <= latency["max"] < 300, f"latencies {latency}")
    text_of_prompt = {}
    for record in requests:
        for attempt in record["attempts"]:
            check(not attempt["error"] or attempt["rank"] == victim, f"rank {attempt['rank']}, which lives: {attempt}")
        if record["ok"]:
            prompt = record["request"] % len(PROMPTS)
            check_equal(record["text"], text_of_prompt.setdefault(prompt, record["text"]), f"text of prompt {prompt}")
    check_equal(len(text_of_prompt), len(PROMPTS), "prompts answered")


@case
def a_rank_is_killed_during_a_load_run_and_all_requests_are_answered_with_one_retry():
    with serving_group() as cluster:
        cluster.start()
        cluster.wait_until_serving()
        write_files(cluster)

        status, result = load(cluster, 3)
        check_equal(status, 0, "exit status")
        check_records(result, 3)
        totals = result["totals"]
        check_equal(totals["ok"], REQUESTS, "answered")
        check(totals["ok_at_once"] >= REQUESTS * 7 / 8, f"{totals['ok_at_once']} answered at once")
        # What failed went to another rank, and who follows the membership does not go on asking the dead one.
        for record in result["requests"]:
            check(len({attempt["rank"] for attempt in record["attempts"]}) == len(record["attempts"]), f"{record}")
        last = max(record["request"] for record in result["requests"] if record["attempts"][0]["rank"] == 3)
        check(last < REQUESTS - RANKS, f"request {last} was sent to the dead rank")

        status, result = load(cluster, 6, "--no-retry")
        check_records(result, 6)
        totals = result["totals"]
        check_equal(status, 1 if totals["failed"] else 0, "exit status")
        check(totals["ok"] >= REQUESTS * 7 / 8, f"{totals['ok']} answered without retry")
        cluster.check_alive()
        cluster.check_text()
        cluster.stop_engines()


if __name__ == "__main__":
    sys.exit(cases.main())
