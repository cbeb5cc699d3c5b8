# SPDX-License-Identifier: Apache-2.0
"""vllm-ascend's policies 1 and 2, a second time: see peer_policies.py, which writes the golden vectors."""
import numpy as np

F32, F64 = np.float32, np.float64


def left_to_right(values):
    total = F32(0)
    for value in values:
        total = F32(total + value)
    return total


def last_first(weights):
    """Heaviest first, equal ones by highest index: a stable ascending sort read backwards."""
    return [int(i) for i in np.argsort(np.array(weights, dtype=F64), kind="stable")[::-1]]


def default_eplb(case):
    """vllm-ascend's policy 1."""
    tokens, cards, slots = case.total(), case.ranks, case.slots
    items = [(e, F64(t)) for e, t in enumerate(tokens)]
    extra = [0] * len(items)
    for _ in range(cards * slots - len(items)):
        items = [items[i] for i in last_first([w for _, w in items])]
        at = next(i for i, (e, _) in enumerate(items) if extra[e] != cards - 1)
        expert, weight = items[at]
        extra[expert] += 1
        items[at] = (expert, weight * extra[expert] / (extra[expert] + 1))
    held, weights, loads = [[] for _ in range(cards)], [[] for _ in range(cards)], [F64(0)] * cards

    def put(card, expert, weight):
        held[card].append(expert)
        weights[card].append(weight)
        loads[card] = loads[card] + weight

    card = 0
    for expert in range(len(tokens)):
        for _ in range(extra[expert]):
            put(card, expert, dict(items)[expert])
            card = (card + 1) % cards
    items = [items[i] for i in last_first([w for _, w in items])]
    for expert, weight in items:
        opened = [c for c in range(cards) if len(held[c]) < slots]
        fitting = [c for c in opened if expert not in held[c]]
        put(min(fitting, key=lambda c: (loads[c], c)) if fitting else opened[0], expert, weight)
    for card in range(cards):
        for twice in sorted({e for e in held[card] if held[card].count(e) > 1}):
            while held[card].count(twice) > 1:
                at = held[card].index(twice)
                lost = weights[card][at]
                distance = [abs(w * (extra[e] + 1) / (extra[e] + 2) - lost) for e, w in items]
                items = [items[i] for i in np.argsort(np.array(distance), kind="stable")]
                pick = next(i for i, (e, _) in enumerate(items) if extra[e] < cards - 1 and e not in held[card])
                expert, weight = items[pick]
                held[card][at] = expert
                extra[expert] += 1
                weights[card][at] = weight * extra[expert] / (extra[expert] + 1)
                items[pick] = (expert, weights[card][at])
                items = [(e, lost * (extra[e] + 1) / extra[e] if e == twice else w) for e, w in items]
                extra[twice] -= 1
    if case.current:
        for card in range(cards):
            old = case.current[card * slots:(card + 1) * slots]
            stays = [e in held[card] and old.index(e) == s for s, e in enumerate(old)]
            coming = [e for e in held[card] if e not in [o for o, stay in zip(old, stays) if stay]]
            held[card] = [e if stay else coming.pop(0) for e, stay in zip(old, stays)]
    return sum(held, [])


class Swift:
    """vllm-ascend's policy 2, one layer. `corrected`: n extra copies leave w/(n+1), not 2w/(n+2).

    Where the peer walks through CPython sets, experts are taken in ascending order here."""

    def __init__(self, case, corrected):
        self.case, self.corrected = case, corrected
        self.ranks, self.slots = case.ranks, case.slots
        self.load = [F64(t) for t in case.total()]
        self.mean = F64(sum(self.load)) / self.ranks
        self.table = [case.current[r * self.slots:(r + 1) * self.slots] for r in range(self.ranks)]

    def imbalance(self):
        copies = {}
        for expert in self.case.current:
            copies[expert] = copies.get(expert, 0) + 1
        largest, total = F64(0), F64(0)
        for row in self.table:
            load = F64(0)
            for expert in row:
                load += self.load[expert] / copies[expert]
                total += self.load[expert] / copies[expert]
            largest = max(largest, load)
        mean = total / self.ranks
        return 1.0 if abs(mean) < 1e-9 else largest / mean

    def replicate(self, num_redundant):
        """Copies to hand out, heaviest first, and the weight of each expert's replica."""
        weight, extra = list(self.load), [0] * len(self.load)
        for _ in range(num_redundant):
            for e in last_first(weight):
                r = extra[e] + 1
                if r < self.ranks:
                    weight[e] = weight[e] * r / (r + 1) if self.corrected else weight[e] * (r + 1) / (r + 2)
                    extra[e] += 1
                    break
        weight = [F32(w) for w in weight]
        copies = [e for e in range(len(weight)) for _ in range(extra[e])]
        return sorted(copies, key=lambda e: -weight[e]), weight

    def hand_out(self):
        primary, free = {}, [[] for _ in range(self.ranks)]
        for slot in range(self.slots):
            for rank in range(self.ranks):
                expert = self.table[rank][slot]
                if expert in primary:
                    free[rank].append(slot)
                else:
                    primary[expert] = rank
        copies, weight = self.replicate(sum(len(f) for f in free))
        self.held = [[-1 if s in free[r] else self.table[r][s] for s in range(self.slots)] for r in range(self.ranks)]
        self.loads = [left_to_right([weight[e] for e in row if e >= 0]) for row in self.held]
        self.pairs = [[0] * self.ranks for _ in range(self.ranks)]
        self.got = [set() for _ in range(self.ranks)]
        for expert in copies:
            source = primary[expert]
            fitting = [r for r in range(self.ranks)
                       if free[r] and expert not in self.held[r] and self.pairs[source][r] < 1]
            if fitting:
                rank = min(fitting, key=lambda r: (self.loads[r], r))
                self.held[rank][free[rank].pop()] = expert
                self.loads[rank] = F32(self.loads[rank] + weight[expert])
                self.pairs[source][rank] += 1
                self.got[rank].add(expert)
        if any(free):
            count = [sum(row.count(e) for row in self.held) for e in range(len(weight))]
            weight = [F32(w / c) for w, c in zip(self.load, count)]
            for rank in range(self.ranks):
                for slot in free[rank]:
                    expert = next(e for e in last_first(weight) if e not in self.held[rank])
                    self.held[rank][slot] = expert
                    self.pairs[primary[expert]][rank] += 1
                    self.got[rank].add(expert)
                    weight[expert] = F32(F64(weight[expert]) * (F64(count[expert]) / F64(count[expert] + 1)))
                    count[expert] += 1
            self.loads = [left_to_right([weight[e] for e in row]) for row in self.held]
        self.weight = weight

    def best_swap(self, hot, cold):
        best, pair = float(self.loads[hot]), None
        for out in sorted(set(self.held[hot]) - set(self.held[cold]) - self.got[hot]):
            for back in sorted(set(self.held[cold]) - set(self.held[hot]) - self.got[cold]):
                gives, takes = float(self.weight[out]), float(self.weight[back])
                worst = max(float(self.loads[hot]) - gives + takes, float(self.loads[cold]) - takes + gives)
                if worst < best:
                    best, pair = worst, (out, back)
        return best, pair

    def swap(self):
        """The load of the hottest rank, as the peer has it at the start of its last round."""
        for turn in range(100):
            order = sorted(range(self.ranks), key=lambda r: (self.loads[r], r))
            hot, peak = order[-1], float(self.loads[order[-1]])
            done = False
            for cold in order[:-1]:
                if self.pairs[cold][hot] or self.pairs[hot][cold]:
                    continue
                best, pair = self.best_swap(hot, cold)
                if pair is None or peak - best < self.mean * 0.01:
                    continue
                out, back = pair
                self.held[hot] = [e for e in self.held[hot] if e != out] + [back]
                self.held[cold] = [e for e in self.held[cold] if e != back] + [out]
                self.loads[hot] = F32(self.loads[hot] + F32(self.weight[back] - self.weight[out]))
                self.loads[cold] = F32(self.loads[cold] + F32(self.weight[out] - self.weight[back]))
                self.got[hot].add(back)
                self.got[cold].add(out)
                self.pairs[hot][cold] += 1
                self.pairs[cold][hot] += 1
                done = True
                break
            if not done:
                break
        return peak

    def plan(self):
        before = self.imbalance()
        if before < 1.01:
            return list(self.case.current)
        self.hand_out()
        if not self.swap() / self.mean < before:
            return list(self.case.current)
        planned = []
        for old, new in zip(self.table, self.held):
            new = sorted(new)
            coming = [e for e in new if e not in old]
            taken = set()
            for expert in old:
                if expert in new and expert not in taken:
                    planned.append(expert)
                    taken.add(expert)
                else:
                    planned.append(coming.pop(0))
        return planned


def swift_balancer(case):
    return Swift(case, corrected=False).plan()


def swift(case):
    return Swift(case, corrected=True).plan()
