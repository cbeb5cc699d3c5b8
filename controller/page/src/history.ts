// SPDX-License-Identifier: Apache-2.0
//
// History: imbalance and moves over time, as lines.
//
// Windows are kept by their beginning, an hour of them at most; what was before the page was opened comes from GetStats.

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { StatsUpdate, WindowStats } from "./api";
import { lines } from "./colours";

const keptSeconds = 3600;

function options(title: string, width: number, series: uPlot.Series[], from: number | null): uPlot.Options {
  return {
    width, height: 220,
    legend: { live: true },
    cursor: { focus: { prox: 24 } },
    scales: { y: { range: (_, low, high) => [from ?? Math.min(low ?? 0, 1), Math.max(high ?? 1, (from ?? 1) + 0.05)] } },
    axes: [{}, { label: title, size: 60 }],
    series: [{ label: "time" }, ...series],
  };
}

export class History {
  private readonly windows = new Map<number, WindowStats>();
  private readonly moves: { at: number; total: number }[] = [];
  private readonly imbalanceChart: uPlot;
  private readonly movesChart: uPlot;

  constructor(imbalanceParent: HTMLElement, movesParent: HTMLElement) {
    const width = () => imbalanceParent.clientWidth || 800;
    this.imbalanceChart = new uPlot(options("busiest / mean rank", width(), [
      { label: "without Evenkeel", stroke: lines.initial, dash: [6, 4], width: 2 },
      { label: "predicted", stroke: lines.predicted, dash: [2, 3], width: 2 },
      { label: "realised", stroke: lines.realised, width: 2 },
    ], 1), [[], [], [], []], imbalanceParent);
    this.movesChart = new uPlot(options("moves / s", width(), [{ label: "moves", stroke: lines.moves, width: 2 }], 0),
                                [[], []], movesParent);
    new ResizeObserver(() => {
      for (const chart of [this.imbalanceChart, this.movesChart]) chart.setSize({ width: width(), height: 220 });
    }).observe(imbalanceParent);
  }

  clear(): void {
    this.windows.clear();
    this.moves.length = 0;
    this.draw();
  }

  add(windows: WindowStats[]): void {
    for (const window of windows) this.windows.set(Number(window.begin_unix_us) / 1e6, window);
    const newest = Math.max(...this.windows.keys());
    for (const at of this.windows.keys()) if (at < newest - keptSeconds) this.windows.delete(at);
    this.draw();
  }

  update(update: StatsUpdate): void {
    const at = Number(update.time_unix_us) / 1e6;
    this.moves.push({ at, total: Number(update.group.totals?.moves ?? 0) });
    while (this.moves.length > 1 && this.moves[0]!.at < at - keptSeconds) this.moves.shift();
    this.add(update.stats?.windows ?? []);
  }

  private draw(): void {
    const times = [...this.windows.keys()].sort((a, b) => a - b);
    const column = (of: (w: WindowStats) => number) => times.map((t) => of(this.windows.get(t)!) || null);
    this.imbalanceChart.setData([times, column((w) => w.imbalance_initial), column((w) => w.imbalance_predicted), column((w) => w.imbalance_realised)]);
    const steps = this.moves.slice(1);
    this.movesChart.setData([steps.map((m) => m.at), steps.map((m, i) => {
      const before = this.moves[i]!;
      return Math.max(0, m.total - before.total) / Math.max(0.05, m.at - before.at);
    })]);
  }
}
