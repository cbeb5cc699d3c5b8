#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Computes the golden vectors of the published policies, from their definitions alone.

Each policy is written down here a second time, scalar by scalar, with the arithmetic that the peer's code has
(numpy's float32 and float64) and with stable sorts; vllm-ascend's in ascend_policies.py. Nothing of the C++ is called.
Usage: peer_policies.py FOLDER writes FOLDER/<policy>.txt for every policy. A file has one row of each word per case:

  case     experts ranks slots_per_rank nodes expert_groups episodes
  dead     ranks that are dead
  tokens   [episodes][experts]
  current  [slots], or nothing
  planned  [slots], -1 where blank
"""
import os
import sys

import numpy as np

from ascend_policies import default_eplb, left_to_right, swift, swift_balancer

F32, F64 = np.float32, np.float64


def heaviest_first(weights):
    """Indices, heaviest first, equal ones by index."""
    return sorted(range(len(weights)), key=lambda i: (-weights[i], i))


def lightest_open(loads, fill, room):
    """The lightest pack that is not full, lowest index among equal ones."""
    return min((p for p in range(len(loads)) if fill[p] < room), key=lambda p: (loads[p], p))


def pack(weights, packs, number):
    """Position of each item: pack * room + place in it; sums are kept in `number`."""
    room = len(weights) // packs
    if room == 1:
        return list(range(len(weights)))
    loads, fill, position = [number(0)] * packs, [0] * packs, [0] * len(weights)
    for item in heaviest_first(weights):
        p = lightest_open(loads, fill, room)
        position[item] = p * room + fill[p]
        loads[p] = number(loads[p] + weights[item])
        fill[p] += 1
    return position


def hierarchical(tokens, ranks, slots, nodes, groups, number, group_sum):
    """DeepSeek's stages; `number` is the type of everything behind the float32 loads."""
    if groups % nodes != 0:
        nodes = groups = 1
    experts, total, size = len(tokens), ranks * slots, len(tokens) // groups
    load = [F32(t) for t in tokens]
    packed = pack([group_sum(load[g * size:(g + 1) * size]) for g in range(groups)], nodes, number)
    order = [0] * experts
    for e in range(experts):
        order[packed[e // size] * size + e % size] = e
    planned = [0] * total
    for node in range(nodes):
        mine = order[node * (experts // nodes):(node + 1) * (experts // nodes)]
        held, count = list(range(len(mine))), [1] * len(mine)
        while len(held) < total // nodes:
            i = heaviest_first([number(load[e]) / number(c) for e, c in zip(mine, count)])[0]
            held.append(i)
            count[i] += 1
        places = pack([number(load[mine[i]]) / number(count[i]) for i in held], ranks // nodes, number)
        for item, place in zip(held, places):
            planned[node * (total // nodes) + place] = mine[item]
    return planned


def vllm(case):
    """vLLM's default policy: float64 behind float32 loads, numpy's own sum of groups, slots kept."""
    planned = hierarchical(case.total(), case.ranks, case.slots, case.nodes, case.groups, F64,
                           lambda values: np.array([values], dtype=F32).sum(axis=-1)[0])
    if not case.current:
        return planned
    result = []
    for rank in range(case.ranks):
        span = slice(rank * case.slots, (rank + 1) * case.slots)
        old, new = case.current[span], list(planned[span])
        kept = [None] * case.slots
        for slot, expert in enumerate(old):
            if expert in new:
                new.remove(expert)
                kept[slot] = expert
        result += [new.pop(0) if expert is None else expert for expert in kept]
    return result


def elasticity_aware(case):
    """SGLang's: DeepSeek's; with dead ranks flat over the living ones, whose blocks stay in place."""
    alive = [r for r in range(case.ranks) if r not in case.dead]
    if not case.dead:
        return hierarchical(case.total(), case.ranks, case.slots, case.nodes, case.groups, F32, left_to_right)
    flat = hierarchical(case.total(), len(alive), case.slots, 1, 1, F32, left_to_right)
    planned = [-1] * (case.ranks * case.slots)
    for block, rank in enumerate(alive):
        planned[rank * case.slots:(rank + 1) * case.slots] = flat[block * case.slots:(block + 1) * case.slots]
    return planned


def cascade_sum(values):
    """The order in which torch adds up float32 values along an outer axis, on a CPU."""
    power = max(4, (max(1, len(values)) - 1).bit_length() // 4)
    step, levels = 1 << power, [F32(0)] * 4
    at = 0
    while at + step <= len(values):
        for _ in range(step):
            levels[0] = F32(levels[0] + values[at])
            at += 1
        for level in range(1, 4):
            levels[level] = F32(levels[level] + levels[level - 1])
            levels[level - 1] = F32(0)
            if at & ((step - 1) << (level * power)):
                break
    for value in values[at:]:
        levels[0] = F32(levels[0] + value)
    for level in range(1, 4):
        levels[0] = F32(levels[0] + levels[level])
    return levels[0]


def deepseek_vec(case):
    """SGLang's vector variant: replicas by the sum over time of the largest load, dealt in snake order."""
    nodes, groups, experts = case.nodes, case.groups, len(case.episodes[0])
    order, totals = list(range(experts)), [F32(t) for t in case.total()]
    if groups > 1 and groups % nodes == 0:
        size = experts // groups
        totals = [cascade_sum([F32(t[e]) for t in case.episodes]) for e in range(experts)]
        sums = [left_to_right(totals[g * size:(g + 1) * size]) for g in range(groups)]
        room, fill, loads, place = groups // nodes, [0] * nodes, [F32(0)] * nodes, [0] * groups
        for g in heaviest_first(sums):
            p = lightest_open(loads, fill, room)
            place[g] = p * room + fill[p]
            loads[p] = F32(loads[p] + sums[g])
            fill[p] += 1
        for e in range(experts):
            order[place[e // size] * size + e % size] = e
    else:
        nodes = 1
    per_node, slots_of_node = experts // nodes, case.ranks * case.slots // nodes
    steps = [[F32(t[e]) for e in order] for t in case.episodes]
    planned = []
    for node in range(nodes):
        first = node * per_node
        count, held = [1] * per_node, list(range(per_node))
        while len(held) < slots_of_node:
            sums = []
            worst = []
            for load in steps:
                score = [F32(F32(load[first + i] + F32(F32(first + i) * F32(1e-4))) / F32(count[i]))
                         for i in range(per_node)]
                top = heaviest_first(score)[0]
                largest = score[top]
                score[top] = F32(load[first + top] / F32(count[top] + 1))
                worst.append((top, largest, max(score)))
            for i in range(per_node):
                sums.append(cascade_sum([second if top == i else largest for top, largest, second in worst]))
            best = min(range(per_node), key=lambda i: (sums[i], i))
            held.append(best)
            count[best] += 1
        ranks = case.ranks // nodes
        if case.slots > 1:
            dealt = heaviest_first([F32(totals[order[first + i]] / F32(count[i])) for i in held])
            rows = [dealt[row * ranks:(row + 1) * ranks] for row in range(case.slots)]
            rows = [row[::-1] if at % 2 else row for at, row in enumerate(rows)]
            held = [held[rows[slot][rank]] for rank in range(ranks) for slot in range(case.slots)]
        planned += [order[first + i] for i in held]
    return planned


def trtllm(case):
    """TensorRT-LLM's doReplication and doPlacement: float32 load factors, double behind them."""
    load = [F32(t) for t in case.total()]
    experts, total = len(load), case.ranks * case.slots
    if sum(float(value) for value in load) == 0:
        count = [total // experts + (1 if e < total % experts else 0) for e in range(experts)]
    else:
        count = [1] * experts
        for _ in range(total - experts):
            count[max(range(experts), key=lambda e: (float(load[e]) / count[e], e))] += 1
    replicas = sorted((-(float(load[e]) / count[e]), e) for e in range(experts) for _ in range(count[e]))
    loads, held = [0.0] * case.ranks, [[] for _ in range(case.ranks)]
    for size, expert in replicas:
        rank = min((r for r in range(case.ranks) if len(held[r]) < case.slots), key=lambda r: (loads[r], r))
        held[rank].append(expert)
        loads[rank] += -size
    return sum(held, [])


class Case:
    def __init__(self, rng, ranks, slots, nodes=1, groups=1, experts=None, episodes=1, dead=(), kind=0, current="none"):
        self.ranks, self.slots, self.nodes, self.groups, self.dead = ranks, slots, nodes, groups, list(dead)
        self.experts = experts
        draw = np.exp(rng.normal(0, 1.2, size=(episodes, experts))) * 1000
        self.episodes = [[int(t) for t in row] for row in draw]
        for row in self.episodes:
            for e in range(experts):
                if kind == 1:
                    row[e] %= 4
                if kind == 2:
                    row[e] *= 100003
                if kind == 3 and rng.random() < 0.5:
                    row[e] = 0
                if kind == 4:
                    row[e] = 0
                if kind == 5:
                    row[e] = 77
        total = ranks * slots
        self.current = []
        if current == "ring":
            self.current = [(r * experts // ranks + s) % experts for r in range(ranks) for s in range(slots)]
        if current == "append":
            room = experts // ranks
            self.current = [r * room + s if s < room else (r * 3 + s) % experts for r in range(ranks)
                            for s in range(slots)]
        if current == "random":
            self.current = [int(e) for e in rng.permutation([i % experts for i in range(total)])]
        if current == "partly":
            self.current = [int(e) for e in rng.integers(-1, experts, size=total)]

    def total(self):
        return [sum(row[e] for row in self.episodes) for e in range(self.experts)]


SHAPES = [  # ranks, slots, nodes, groups, experts
    (4, 3, 1, 1, 9), (4, 3, 2, 4, 8), (8, 2, 1, 1, 8), (8, 3, 2, 6, 12), (1, 10, 1, 1, 7), (1, 6, 1, 3, 6),
    (12, 1, 1, 1, 12), (16, 1, 4, 4, 12), (6, 5, 3, 3, 24), (6, 5, 3, 4, 24), (8, 9, 4, 8, 64), (5, 4, 1, 1, 13),
]


def cases(seed, kinds, currents, episodes=(1,), fits=lambda shape: True, with_dead=False, large=True):
    rng = np.random.default_rng(seed)
    made = []
    for at, (ranks, slots, nodes, groups, experts) in enumerate(s for s in SHAPES if fits(s)):
        for kind in kinds:
            dead = ()
            if with_dead and kind % 2 == 1:
                spare = (ranks * slots - experts) // slots
                dead = sorted(int(r) for r in rng.choice(ranks, size=spare, replace=False))
            made.append(Case(rng, ranks, slots, nodes, groups, experts, episodes[(at + kind) % len(episodes)], dead,
                             kind, currents[(at + kind) % len(currents)]))
    if large:
        for kind in (0, 2):
            made.append(Case(rng, 32, 9, 4, 8, 256, episodes[-1], (), kind, currents[kind % len(currents)]))
        made.append(Case(rng, 4, 70, 2, 2, 272, episodes[-1], (), 2, currents[-1]))  # more than numpy adds at a time
    return made


EVERY = [0, 1, 2, 3, 4, 5]
FILES = {
    "vllm": (vllm, "vLLM's default policy", cases(1, EVERY, ["none", "random", "partly"])),
    "elasticity_aware": (elasticity_aware, "SGLang's elasticity_aware", cases(2, EVERY, ["none"], with_dead=True)),
    "deepseek_vec": (deepseek_vec, "SGLang's deepseek_vec (with deepseek_vec_hierarchical)",
                     cases(3, [0, 1, 3, 4, 5], ["none"], episodes=(1, 4, 20), large=False)),
    "trtllm": (trtllm, "TensorRT-LLM's doReplication and doPlacement", cases(4, EVERY, ["none"])),
    "default_eplb": (default_eplb, "vllm-ascend's policy 1, default_eplb",
                     cases(5, EVERY, ["none", "random", "partly"], fits=lambda s: s[1] <= s[4])),
    "swift_balancer": (swift_balancer, "vllm-ascend's policy 2, swift_balancer",
                       cases(6, EVERY, ["ring", "append", "random"], fits=lambda s: s[1] <= s[4] and s[4] % s[0] == 0)),
    "swift": (swift, "vllm-ascend's policy 2 with the weight of copies corrected",
              cases(6, EVERY, ["ring", "append", "random"], fits=lambda s: s[1] <= s[4] and s[4] % s[0] == 0)),
}


def write(folder, name):
    policy, what, made = FILES[name]
    with open(os.path.join(folder, name + ".txt"), "w", encoding="ascii") as out:
        out.write(f"# Origin: {what}, from its definition, computed by peer_policies.py with stable sorts.\n")
        for case in made:
            rows = [("case", [case.experts, case.ranks, case.slots, case.nodes, case.groups, len(case.episodes)]),
                    ("dead", case.dead), ("tokens", sum(case.episodes, [])), ("current", case.current),
                    ("planned", policy(case))]
            for word, row in rows:
                out.write(" ".join([word] + [str(int(value)) for value in row]) + "\n")


if __name__ == "__main__":
    for each in FILES:
        write(sys.argv[1], each)
