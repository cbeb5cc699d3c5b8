// SPDX-License-Identifier: Apache-2.0
//
// Overview: the group in a few figures, and what needs a person.

import type { Group, Stats } from "./api";
import { bytes, element, imbalance, short, show, time } from "./text";

const modes: Record<string, string> = {
  off: "nothing is decided, and no load kept", record: "load is kept, nothing is decided",
  shadow: "decisions are recorded, none is carried out", shares: "shares change, no expert is moved",
};

function card(name: string, value: string, note = ""): HTMLElement {
  return element("div", { class: "card" }, element("div", { class: "name" }, name), element("div", { class: "value" }, value), element("div", { class: "note" }, note));
}

export function showOverview(parent: HTMLElement, group: Group, stats: Stats | null): void {
  const totals = group.totals;
  const epoch = group.epoch ? `${group.epoch.term}.${group.epoch.number}` : "–";
  parent.replaceChildren(
    card("imbalance now", imbalance(group.imbalance_now), "busiest / mean rank; 1 is even"),
    card("without Evenkeel", imbalance(group.imbalance_initial), "the same tokens, as first placed"),
    card("predicted", imbalance(group.imbalance_predicted), "by the shares in force"),
    card("tokens", short(Number(stats?.tokens ?? 0)), "in the last window"),
    card("moves", short(Number(totals?.moves ?? 0)), `${bytes(Number(totals?.bytes_moved ?? 0))}, ${totals?.moves_failed ?? 0} failed`),
    card("shares", short(Number(totals?.shares_updates ?? 0)), "updates of the fast loop"),
    card("maps", epoch, `term ${group.term}, policy ${group.policy}, mode ${group.mode}`),
    card("ranks", String(group.info?.shape.num_ranks ?? 0), `${group.info?.shape.num_experts ?? 0} experts, ${group.info?.shape.slots_per_rank ?? 0} slots a rank`),
    card("model", group.info?.model ?? "–", `${group.info?.num_layers ?? 0} layers`));
}

export function showAlerts(parent: HTMLElement, group: Group): void {
  const alerts = group.ineffective.map((why) => `balancing has no effect: ${why}`);
  if (group.mode !== "full") {
    const shadow = group.shadow_shares;
    const would = shadow && shadow.num_layers > 0 ? `; shares of ${shadow.num_layers} layers would change: imbalance ${imbalance(shadow.imbalance_before)} to ${imbalance(shadow.imbalance_after)}` : "";
    alerts.unshift(`mode ${group.mode}: ${modes[group.mode] ?? ""}${would}`);
  }
  for (const pins of group.pins) alerts.push(`pinned by ${pins.operation}: ${pins.pins.length} experts, ${pins.frozen_layers.length} layers frozen${pins.reason ? `; ${pins.reason}` : ""}`);
  if (group.paused_by) alerts.unshift(`paused by an operator${group.pause_reason ? `: ${group.pause_reason}` : ""}`);
  if (group.store_problem) alerts.push(`the controller's store: ${group.store_problem}`);
  for (const layer of group.layers) if (layer.experts_lost.length > 0) alerts.push(`layer ${layer.layer}: no live replica of experts ${layer.experts_lost.slice(0, 16).join(", ")}`);
  alerts.push(...group.alerts.filter((alert) => alert.ended_unix_us === "0").reverse().slice(0, 8).map((alert) => `since ${time(alert.began_unix_us)}: ${alert.text}`));
  parent.hidden = alerts.length === 0;
  show(parent, alerts, () => [element("ul", {}, ...alerts.map((alert) => element("li", {}, alert)))]);
}
