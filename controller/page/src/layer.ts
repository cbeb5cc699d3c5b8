// SPDX-License-Identifier: Apache-2.0
//
// One layer: what each rank computes now, would without Evenkeel, and is foretold; and who holds which expert.
//
// Pure but for `showLayer`: ranks' loads are worked out here from tokens per expert, by the placement that all compute
// alike (docs/protocol.md, rule 4) and by the map in force.

import type { Group, LayerMap, LayerStats } from "./api";
import { lines } from "./colours";
import { element, imbalance, short, table } from "./text";

export interface Sizes { experts: number; ranks: number; world: number; slots: number }

export function sizesOf(group: Group): Sizes {
  const shape = group.info?.shape ?? { num_experts: 0, num_ranks: 0, slots_per_rank: 0 };
  return { experts: shape.num_experts, ranks: shape.num_ranks, world: group.info?.world || shape.num_ranks, slots: shape.slots_per_rank };
}

// Tokens of each rank under the default placement, shared evenly.
export function initialLoads(tokens: number[], sizes: Sizes): number[] {
  const holders: number[][] = tokens.map(() => []);
  for (let rank = 0; rank < sizes.world; ++rank) {
    const first = Math.floor((rank * sizes.experts) / sizes.world);
    for (let slot = 0; slot < sizes.slots; ++slot) holders[(first + slot) % sizes.experts]!.push(rank);
  }
  const loads = new Array<number>(sizes.ranks).fill(0);
  tokens.forEach((count, expert) => holders[expert]!.forEach((rank) => { loads[rank]! += count / holders[expert]!.length; }));
  return loads;
}

export interface Replica { expert: number; slot: number; share: number }

export function replicasOf(map: LayerMap): Replica[] {
  const replicas: Replica[] = [];
  let at = 0;
  map.replicas_of_expert.forEach((count, expert) => {
    let below = -1;
    for (let i = 0; i < count; ++i, ++at) {
      const bound = map.bounds[at]!;
      replicas.push({ expert, slot: map.slots[at]!, share: (bound - below) / 4294967296 });
      below = bound;
    }
  });
  return replicas;
}

// Tokens of each rank when the map's shares are met exactly.
export function predictedLoads(tokens: number[], map: LayerMap, sizes: Sizes): number[] {
  const loads = new Array<number>(sizes.ranks).fill(0);
  for (const { expert, slot, share } of replicasOf(map)) loads[Math.floor(slot / sizes.slots)]! += (tokens[expert] ?? 0) * share;
  return loads;
}

const max = (values: number[]) => values.reduce((a, b) => Math.max(a, b), 0);
const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / Math.max(values.length, 1);

function bars(name: string, loads: number[], largest: number, colour: string): HTMLElement {
  const canvas = element("canvas", { width: String(Math.max(200, loads.length * Math.max(2, Math.floor(900 / Math.max(loads.length, 1))))), height: "90", role: "img" });
  const ratio = mean(loads) === 0 ? 0 : max(loads) / mean(loads);
  canvas.setAttribute("aria-label", `${name}: busiest rank over the mean ${imbalance(ratio)}`);
  const context = canvas.getContext("2d")!;
  const width = canvas.width / Math.max(loads.length, 1);
  context.fillStyle = colour;
  loads.forEach((load, rank) => {
    const height = largest === 0 ? 0 : (load / largest) * 86;
    context.fillRect(rank * width, 90 - height, Math.max(1, width - 1), height);
  });
  const level = largest === 0 ? 90 : 90 - (mean(loads) / largest) * 86;
  context.strokeStyle = "#d1005d";
  context.beginPath(); context.moveTo(0, level); context.lineTo(canvas.width, level); context.stroke();
  return element("figure", {}, element("figcaption", {}, `${name}: ${imbalance(ratio)}`), canvas);
}

export function showLayer(parent: HTMLElement, group: Group, stats: LayerStats | undefined, map: LayerMap | null): void {
  if (!stats || !map) { parent.replaceChildren("no load was counted in it yet"); return; }
  const scrolled = parent.querySelector(".scroll")?.scrollTop ?? 0;
  parent.replaceChildren();
  const sizes = sizesOf(group);
  const tokens = stats.tokens_of_expert.map(Number);
  const now = stats.tokens_of_rank.map(Number), before = initialLoads(tokens, sizes), foretold = predictedLoads(tokens, map, sizes);
  const largest = Math.max(max(now), max(before), max(foretold));
  parent.append(element("div", { class: "bars" },
    bars("without Evenkeel", before, largest, lines.initial),
    bars("now", now, largest, lines.realised),
    bars("by the shares in force", foretold, largest, lines.predicted)));
  const byExpert = new Map<number, Replica[]>();
  for (const replica of replicasOf(map)) byExpert.set(replica.expert, [...(byExpert.get(replica.expert) ?? []), replica]);
  const rows = tokens.map((count, expert) => ({ count, expert, replicas: byExpert.get(expert) ?? [] }))
    .sort((a, b) => b.count - a.count)
    .map(({ count, expert, replicas }) => [String(expert), short(count), String(replicas.length),
      replicas.map((r) => `rank ${Math.floor(r.slot / sizes.slots)} slot ${r.slot % sizes.slots} ${(100 * r.share).toFixed(1)}%`).join(" · ") || "none lives"]);
  const list = element("div", { class: "scroll", tabindex: "0" }, table([">expert", ">tokens", ">replicas", "where, and its share"], rows));
  parent.append(list);
  list.scrollTop = scrolled;
}
