#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes flashlb.txt: FlashLB's search written down plainly with numpy, in double, on seeded loads.

Every placement starts from nothing, covariances are looked up expert by expert, and shares are counted on the
groups themselves. Sorts are stable, the first of equal values wins.
"""
import math

import numpy as np

Z = 0.6744897501960817


def episodes_of(steps, sample_size=64):
    heat = steps.astype(float) + 1
    run = max(len(heat) // sample_size, 1)
    heat = heat[-run * sample_size:]
    return heat.reshape(-1, run, heat.shape[1]).sum(1)


def allot(values, extra, method):
    """Counts with 0, 1, ... extra slots more than experts."""
    counts = np.ones(len(values), int)
    history = [counts.copy()]
    for k in range(1, extra + 1):
        if method == 2:
            quotas = values / values.sum() * k
            counts = 1 + np.floor(quotas).astype(int)
            rest = quotas - np.floor(quotas)
            for i in np.argsort(-rest, kind="stable")[:k - int(np.floor(quotas).sum())]:
                counts[i] += 1
        else:
            unit = values / counts
            counts[int(np.argmax(unit / (counts + 1) if method == 1 else unit))] += 1
        history.append(counts.copy())
    return history


def place(mean, cov, counts, ranks, slots):
    held = [[] for _ in range(ranks)]
    means, variances = np.zeros(ranks), np.zeros(ranks)
    for e in np.argsort(-(mean / counts), kind="stable"):
        for _ in range(counts[e]):
            best, best_risk = None, math.inf
            free = [d for d in range(ranks) if len(held[d]) < slots]
            apart = [d for d in free if e not in held[d]]
            for d in apart or free:
                var = variances[d] + cov[e, e] / counts[e] ** 2
                var += sum(2 * cov[e, j] / counts[e] / counts[j] for j in held[d])
                risk = means[d] + mean[e] / counts[e] + Z * math.sqrt(max(var, 0.0))
                if risk < best_risk:
                    best, best_risk, best_var = d, risk, max(var, 0.0)
            held[best].append(int(e))
            means[best] += mean[e] / counts[e]
            variances[best] = best_var
    return held


def score_of(heat, counts, held):
    ratios = []
    for row in heat:
        largest = max(sum(row[e] / counts[e] for e in experts) for experts in held)
        ratios.append((largest * len(held) + 0.01) / (row.sum() + 0.01))
    return float(np.mean(ratios))


def search(heat, ranks, slots, depth, width, method):
    num_experts = heat.shape[1]
    mean = heat.mean(0)
    centred = heat - mean
    cov = centred.T @ centred / (len(heat) - 1) if len(heat) > 1 else np.zeros((num_experts,) * 2)
    values = mean + Z * np.sqrt(np.diag(cov))
    order = np.argsort(-values, kind="stable")
    size = math.ceil(num_experts / depth)
    extra = ranks * slots - num_experts
    counts = np.ones(num_experts, int)
    if depth == 1:
        counts[order] = allot(values[order], extra, method)[-1]
    for level in range(depth - 1):
        group, rest = order[level * size:(level + 1) * size], order[(level + 1) * size:]
        of_group, of_rest = allot(values[group], extra, method), allot(values[rest], extra, method)
        together = allot(values[np.concatenate([group, rest])], extra, method)[-1]
        plain = int((together[:len(group)] - 1).sum())
        best, best_score = None, math.inf
        for share in [plain] + [plain + s * r for r in range(1, width + 1) for s in (-1, 1)]:
            if not 0 <= share <= extra:
                continue
            counts[group], counts[rest] = of_group[share], of_rest[extra - share]
            score = score_of(heat, counts, place(mean, cov, counts, ranks, slots))
            if score < best_score:
                best, best_score = share, score
        counts[group], counts[rest] = of_group[best], of_rest[extra - best]
        extra -= best
        if extra == 0:
            break
    held = place(mean, cov, counts, ranks, slots)
    return counts, held, score_of(heat, counts, held)


def main():
    example = np.array([[600, 560, 120, 120, 20, 10, 10, 10]])
    cases = [(example, 8, 2, depth, 8, 0) for depth in (1, 2, 3, 4, 8)]
    for seed, (steps, experts, ranks, slots, depth, width, method) in enumerate([
            (1, 16, 4, 5, 4, 8, 0), (1, 24, 6, 6, 3, 2, 0), (7, 16, 4, 5, 4, 8, 0), (64, 16, 8, 3, 4, 8, 0),
            (100, 24, 8, 4, 2, 4, 0), (130, 16, 4, 6, 4, 8, 0), (200, 32, 8, 5, 4, 8, 0), (30, 16, 4, 6, 4, 8, 1),
            (30, 24, 6, 5, 4, 8, 2), (30, 64, 16, 5, 4, 8, 0), (12, 13, 5, 4, 5, 3, 0), (20, 32, 8, 5, 1, 8, 0),
            (40, 32, 8, 4, 4, 8, 0)]):
        rng = np.random.default_rng(seed)
        popularity = rng.lognormal(0, 1, experts)
        waves = 1 + 0.7 * np.sin(np.outer(np.arange(steps), rng.uniform(0.05, 0.6, experts)) + rng.uniform(0, 6, experts))
        loads = rng.poisson(1000 * popularity * waves)
        cases.append((loads, ranks, slots, depth, width, method))
    with open("flashlb.txt", "w", encoding="ascii") as out:
        out.write("# Origin: written by flashlb.py in this folder, from the published description of vllm-ascend's FlashLB.\n")
        out.write(f"cases {len(cases)}\n")
        for i, (steps, ranks, slots, depth, width, method) in enumerate(cases):
            counts, held, score = search(episodes_of(steps), ranks, slots, depth, width, method)
            out.write(f"shape_{i} {steps.shape[1]} {ranks} {slots} {depth} {width} {method}\n")
            for row in steps:
                out.write(f"step_{i} " + " ".join(map(str, row)) + "\n")
            out.write(f"counts_{i} " + " ".join(map(str, counts)) + "\n")
            for experts in held:
                out.write(f"rank_{i} " + " ".join(map(str, experts)) + "\n")
            out.write(f"score_{i} {round(score * 1e9)}\n")


if __name__ == "__main__":
    main()
