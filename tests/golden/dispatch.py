#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Computes the golden vectors of static dispatch from its definition alone; nothing of the C++ is called.

Usage: dispatch.py FILE writes a file with one row of each word per case:

  case    experts ranks slots_per_rank layer seed rule (0 any, 1 near, 2 remote)
  hosts   [ranks], or nothing
  avoided ranks whose replicas are avoided
  absent  ranks that send nothing
  held    [slots] expert of each, -1 where blank
  chosen  [ranks][experts] slot, -1 without a live replica

The rule: rank after rank takes, of the replicas at the least distance that the rule knows, one that the fewest present
ranks have taken; among equals a draw of xoshiro256**, seeded for the layer and expert, decides.
"""
import random
import sys

M = (1 << 64) - 1


def mix(x):
    x = (x + 0x9E3779B97F4A7C15) & M
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & M
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & M
    return x ^ (x >> 31)


class Xoshiro:
    def __init__(self, seed):
        self.s = [mix((((seed + i) & M) * 0xD1B54A32D192ED03 + 1) & M) for i in range(4)]

    def below(self, bound):
        s, rot = self.s, lambda x, k: ((x << k) | (x >> (64 - k))) & M
        value = rot(s[1] * 5 & M, 7) * 9 & M
        t = s[1] << 17 & M
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rot(s[3], 45)
        return value * bound >> 64


def dispatch(held, experts, ranks, per_rank, layer, seed, rule, hosts, avoided, absent):
    table = [[-1] * experts for _ in range(ranks)]
    for expert in range(experts):
        everywhere = [slot for slot, e in enumerate(held) if e == expert]
        candidates = [slot for slot in everywhere if slot // per_rank not in avoided] or everywhere
        taken = {slot: 0 for slot in candidates}
        draw = Xoshiro(mix(seed) ^ mix(layer << 32 | expert))
        for rank in range(ranks):
            if not candidates:
                break

            def distance(slot):
                to = slot // per_rank
                if rule == 0:
                    return 0
                if rule == 2:
                    return int(to == rank)
                return 0 if to == rank else 1 if hosts and hosts[to] == hosts[rank] else 2

            least = min((distance(slot), taken[slot]) for slot in candidates)
            equal = [slot for slot in candidates if (distance(slot), taken[slot]) == least]
            slot = equal[draw.below(len(equal))] if len(equal) > 1 else equal[0]
            table[rank][expert] = slot
            taken[slot] += rank not in absent
    return table


def main():
    numbers = random.Random(2026)
    with open(sys.argv[1], "w", encoding="ascii") as out:
        out.write("# Origin: tests/golden/dispatch.py, the definition of static dispatch written down a second time\n")
        for case in range(60):
            experts, ranks, per_rank = numbers.randint(1, 6), numbers.randint(1, 6), numbers.randint(1, 4)
            held = [numbers.randint(-1, experts - 1) for _ in range(ranks * per_rank)]
            layer, seed = numbers.randint(0, 60), 42 if case % 2 == 0 else numbers.randint(0, 1 << 40)
            hosts = [] if case % 3 == 0 else [numbers.randint(0, 2) for _ in range(ranks)]
            avoided = sorted(r for r in range(ranks) if numbers.random() < 0.3) if case % 4 else []
            absent = sorted(r for r in range(ranks) if numbers.random() < 0.2) if case % 5 == 0 else []
            rule = case % 3
            rows = dispatch(held, experts, ranks, per_rank, layer, seed, rule, hosts, avoided, absent)
            for word, values in (("case", [experts, ranks, per_rank, layer, seed, rule]), ("hosts", hosts),
                                 ("avoided", avoided), ("absent", absent), ("held", held),
                                 ("chosen", [slot for row in rows for slot in row])):
                out.write(" ".join([word] + [str(v) for v in values]) + "\n")


main()
