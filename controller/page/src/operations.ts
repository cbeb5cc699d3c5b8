// SPDX-License-Identifier: Apache-2.0
//
// Operations: the one under way with its waves, layer by layer; the latest ones; and why nothing else was done.

import { cancelOperation, getDecisions, type Group, type LayerDecision, type Operation } from "./api";
import { confirm } from "./confirm";
import { bytes, byId, element, imbalance, seconds, show, table, time, word } from "./text";

const keptMax = 50;
// In force until it is ended: nothing is under way.
const stands = (o: Operation) => /_(PAUSE|MODE|PIN)$/.test(o.cause);
const isUnderWay = (o: Operation) => /RUNNING|PLANNING/.test(o.state) && !stands(o);

export class Operations {
  private readonly known = new Map<string, Operation>();
  private group: Group | null = null;
  private explained = "";

  constructor(private readonly running: HTMLElement, private readonly waves: HTMLElement, private readonly list: HTMLElement, private readonly why: HTMLElement) {}

  clear(): void {
    this.known.clear();
    this.group = null;
    this.explained = "";
    this.why.replaceChildren();
  }

  take(operations: Operation[]): void {
    for (const operation of operations) this.known.set(operation.id, operation);
    for (const old of this.newest().slice(keptMax)) this.known.delete(old.id);
    this.draw();
  }

  // What the waves are doing, and what may keep them.
  see(group: Group): void {
    this.group = group;
    this.draw();
    void this.explain().catch((error: unknown) => { this.why.textContent = String(error); });
  }

  private newest(): Operation[] {
    return [...this.known.values()].sort((a, b) => Number(b.started_unix_us) - Number(a.started_unix_us));
  }

  private draw(): void {
    const newest = this.newest();
    const running = newest.filter(isUnderWay);
    show(this.running, running, () => running.length === 0 ? ["nothing is under way"] : running.map((o) => this.progress(o)));
    this.drawWaves();
    show(this.list, newest, () => {
      const rows = newest.map((o) => [time(o.started_unix_us), word(o.state, "OPERATION_STATE_"), word(o.cause, "OPERATION_CAUSE_"), o.policy,
        `${o.num_moves_done}/${o.num_moves}`, bytes(Number(o.bytes_done)), imbalance(o.imbalance_before), imbalance(o.imbalance_predicted),
        seconds(o.planning_us), seconds(o.retiring_us), seconds(o.moving_us), o.requested_by === "" ? "the controller" : `${o.requested_by}, ${o.request}`,
        o.ended_by === "" ? o.detail : `${o.detail}; ended by ${o.ended_by}`]);
      return [newest.length === 0 ? "nothing was done or decided yet" : element("div", { class: "scroll", tabindex: "0" },
        table(["began", "state", "cause", "policy", ">moves", ">bytes", ">before", ">predicted", ">planning", ">retiring", ">moving", "asked by", "what and why"], rows))];
    });
  }

  private drawWaves(): void {
    const layers = (this.group?.layers ?? []).filter((layer) => layer.phase !== "steady");
    const blocked = this.group?.waves_blocked ?? [];
    show(this.waves, [layers.map((l) => [l.layer, l.phase, l.num_slots_retired, l.num_slots_writing, l.num_slots_verified]), blocked], () => {
      if (layers.length === 0) return [];
      return [element("div", { class: "scroll", tabindex: "0" }, table([">layer", "its wave", ">slots retired", ">being written", ">verified", "waits for"],
        layers.map((layer) => [String(layer.layer), layer.phase, String(layer.num_slots_retired), String(layer.num_slots_writing), String(layer.num_slots_verified),
          blocked.filter((one) => one.layer === layer.layer).map((one) => `rank ${one.rank}: ${one.reason}`).join("; ")])))];
    });
  }

  // Why the last decision was taken, layer by layer; asked for once for each.
  private async explain(): Promise<void> {
    const last = this.newest().find((o) => !stands(o) && !isUnderWay(o) && o.num_layers + o.num_moves >= 0);
    if (!last || !this.group || last.id === this.explained) return;
    this.explained = last.id;
    const decisions = await getDecisions(this.group.info?.name ?? "", last.id);
    if (last.id !== this.explained) return;
    this.why.replaceChildren(
      element("p", {}, element("strong", {}, `${word(last.state, "OPERATION_STATE_")}: `), last.detail || "no reason was noted"), ...this.decided(decisions));
  }

  private decided(decisions: LayerDecision[]): HTMLElement[] {
    if (decisions.length === 0) return [];
    const counts = new Map<string, number>();
    for (const decision of decisions) {
      const why = word(decision.why, "DECISION_REASON_");
      counts.set(why, (counts.get(why) ?? 0) + 1);
    }
    const list = element("ul", { class: "counts" }, ...[...counts].sort((a, b) => b[1] - a[1]).map(([why, count]) => element("li", {}, `${count} layers: ${why}`)));
    const rows = decisions.map((d) => [String(d.layer), d.act ? "yes" : "no", d.reason, imbalance(d.imbalance_before), imbalance(d.imbalance_after), String(d.num_moves)]);
    return [list, element("details", {}, element("summary", {}, "layer by layer"),
      element("div", { class: "scroll", tabindex: "0" }, table([">layer", "acts", "why", ">before", ">after", ">moves"], rows)))];
  }

  private progress(operation: Operation): HTMLElement {
    const cancel = element("button", { type: "button" }, "Cancel…");
    cancel.onclick = () => confirm(`Cancel ${operation.id}? What was moved by then stays.`, "Cancel it", async () => { await cancelOperation(operation.id); });
    return element("div", { class: "running" },
      element("strong", {}, operation.id), word(operation.state, "OPERATION_STATE_"),
      element("progress", { max: String(Math.max(operation.num_moves, 1)), value: String(operation.num_moves_done), "aria-label": "moves done" }),
      `${operation.num_moves_done} of ${operation.num_moves} moves, ${operation.num_layers_done} of ${operation.num_layers} layers, ${operation.num_waves} waves, ${bytes(Number(operation.bytes_done))}`,
      cancel);
  }
}

export const makeOperations = () => new Operations(byId("running"), byId("waves"), byId("operations"), byId("why"));
