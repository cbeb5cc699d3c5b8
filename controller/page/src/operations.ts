// SPDX-License-Identifier: Apache-2.0
//
// Operations: the one under way with its progress, and the latest ones with their reasons: also those that were decided
// against.

import { cancelOperation, type Operation } from "./api";
import { confirm } from "./confirm";
import { bytes, element, imbalance, table, time, word } from "./text";

const keptMax = 50;

export class Operations {
  private readonly known = new Map<string, Operation>();

  constructor(private readonly parent: HTMLElement) {}

  clear(): void { this.known.clear(); }

  take(operations: Operation[]): void {
    for (const operation of operations) this.known.set(operation.id, operation);
    const newest = [...this.known.values()].sort((a, b) => Number(b.started_unix_us) - Number(a.started_unix_us));
    for (const old of newest.splice(keptMax)) this.known.delete(old.id);
    this.draw(newest);
  }

  private draw(newest: Operation[]): void {
    const running = newest.filter((o) => /RUNNING|PLANNING/.test(o.state)).map((o) => this.progress(o));
    const rows = newest.map((o) => [time(o.started_unix_us), word(o.state, "OPERATION_STATE_"), word(o.cause, "OPERATION_CAUSE_"), o.policy,
      `${o.num_moves_done}/${o.num_moves}`, bytes(Number(o.bytes_done)), imbalance(o.imbalance_before), imbalance(o.imbalance_predicted), o.detail]);
    this.parent.replaceChildren(...running, newest.length === 0
      ? "nothing was done or decided yet"
      : element("div", { class: "scroll" }, table(["began", "state", "cause", "policy", ">moves", ">bytes", ">before", ">predicted", "what and why"], rows)));
  }

  private progress(operation: Operation): HTMLElement {
    const cancel = element("button", { type: "button" }, "Cancel…");
    cancel.onclick = () => confirm(`Cancel ${operation.id}? What was moved by then stays.`, "Cancel it", async () => { await cancelOperation(operation.id); });
    return element("div", { class: "running" },
      element("strong", {}, operation.id),
      element("progress", { max: String(Math.max(operation.num_moves, 1)), value: String(operation.num_moves_done), "aria-label": "moves done" }),
      `${operation.num_moves_done} of ${operation.num_moves} moves, ${operation.num_layers_done} of ${operation.num_layers} layers, ${operation.num_waves} waves, ${bytes(Number(operation.bytes_done))}`,
      cancel);
  }
}
