# SPDX-License-Identifier: Apache-2.0
"""Scores a file of maps against a timeline, knowing nothing of how either was made; needs no package.

Written from the format's words alone (cli/simulate/maps_file.h), as a check on algos/replay: it shares no code with it.
Use: score_maps.py TIMELINE.npy MAPS.jsonl --ranks R [--warmup 100] [--strict]; prints one JSON object. Exits 1, saying
where, if a map is invalid; with --strict also if a rank has an expert twice.
"""

import argparse
import array
import ast
import json
import math
import sys


def read_npy(path):
    """Shape and row-major values of a C-ordered array of unsigned integers."""
    with open(path, "rb") as file:
        data = file.read()
    assert data[:6] == b"\x93NUMPY", "no NumPy file"
    size = int.from_bytes(data[8:10], "little")
    header = ast.literal_eval(data[10 : 10 + size].decode("latin1"))
    assert not header["fortran_order"]
    values = array.array({"<u4": "I", "<u8": "Q", "|u1": "B", "<u2": "H"}[header["descr"]])
    values.frombytes(data[10 + size :])
    return header["shape"], values


def rank_parts(record, num_experts, num_ranks, strict):
    """For each expert, its parts by rank; raises ValueError for a map that may not be."""
    slots = record["slots"]
    per_rank = len(slots) // num_ranks
    if per_rank * num_ranks != len(slots):
        raise ValueError(f"{len(slots)} slots on {num_ranks} ranks")
    where = [[] for _ in range(num_experts)]
    for slot, expert in enumerate(slots):
        if expert >= 0:
            where[expert].append(slot)
    for expert, held in enumerate(where):
        if not held:
            raise ValueError(f"expert {expert} has no slot")
        if strict and len({slot // per_rank for slot in held}) != len(held):
            raise ValueError(f"expert {expert} is twice on a rank")
    parts = [{} for _ in range(num_experts)]
    if record.get("shares"):
        for expert, slot, share in record["shares"]:
            if slots[slot] != expert or not share >= 0:
                raise ValueError(f"share {share} of expert {expert} on slot {slot}, which holds {slots[slot]}")
            rank = slot // per_rank
            parts[expert][rank] = parts[expert].get(rank, 0.0) + share
        for expert, part in enumerate(parts):
            if abs(sum(part.values()) - 1) > 1e-6:
                raise ValueError(f"shares of expert {expert} add up to {sum(part.values())}")
    else:
        for expert, held in enumerate(where):
            for slot in held:
                rank = slot // per_rank
                parts[expert][rank] = parts[expert].get(rank, 0.0) + 1 / len(held)
    return parts


def score(timeline, maps, num_ranks, warmup, strict):
    (num_windows, num_layers, num_experts), tokens = read_npy(timeline)
    changes = [dict() for _ in range(num_layers)]
    with open(maps) as file:
        for line in file:
            record = json.loads(line)
            changes[record["layer"]][record["window"]] = record
    imbalance, moves = [], 0
    for layer in range(num_layers):
        held = parts = None
        for window in range(num_windows):
            record = changes[layer].get(window)
            if record is not None:
                try:
                    parts = rank_parts(record, num_experts, num_ranks, strict)
                except ValueError as error:
                    sys.exit(f"window {window} layer {layer}: {error}")
                slots = record["slots"]
                per_rank = len(slots) // num_ranks
                new = [set(slots[r * per_rank : (r + 1) * per_rank]) - {-1} for r in range(num_ranks)]
                if held is not None and window > warmup:
                    moves += sum(len(n - h) for n, h in zip(new, held))
                held = new
            if window < warmup:
                continue
            if parts is None:
                sys.exit(f"layer {layer} has no map at window {window}")
            load = [0.0] * num_ranks
            first = (window * num_layers + layer) * num_experts
            for expert, part in enumerate(parts):
                for rank, share in part.items():
                    load[rank] += tokens[first + expert] * share
            imbalance.append(max(load) * num_ranks / sum(load))
    imbalance.sort()
    at = 0.95 * (len(imbalance) - 1)
    low = math.floor(at)
    high = min(low + 1, len(imbalance) - 1)
    return {
        "imbalance_mean": round(math.fsum(imbalance) / len(imbalance), 4),
        "imbalance_p95": round(imbalance[low] + (imbalance[high] - imbalance[low]) * (at - low), 4),
        "moves_per_layer_per_100_windows": round(moves / num_layers / (num_windows - warmup) * 100, 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("timeline")
    parser.add_argument("maps")
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--strict", action="store_true")
    a = parser.parse_args()
    print(json.dumps(score(a.timeline, a.maps, a.ranks, a.warmup, a.strict)))


if __name__ == "__main__":
    main()
