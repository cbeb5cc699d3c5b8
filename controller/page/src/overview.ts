// SPDX-License-Identifier: Apache-2.0
//
// Overview: the group in a few figures, and what needs a person.

import type { Group, Stats } from "./api";
import { bytes, element, imbalance, short } from "./text";

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
    card("maps", epoch, `term ${group.term}, policy ${group.policy}`),
    card("model", group.info?.model ?? "–", `${group.info?.num_layers ?? 0} layers`));
}

export function showAlerts(parent: HTMLElement, group: Group): void {
  const alerts = [...group.alerts].reverse().slice(0, 8);
  for (const wave of group.waves_blocked ?? []) alerts.unshift(`layer ${wave.layer} waits for rank ${wave.rank}: ${wave.reason}`);
  if (group.imbalance_gap) alerts.unshift(group.imbalance_gap);
  if (group.store_problem) alerts.unshift(group.store_problem);
  if (group.static_reason) alerts.unshift(group.static_reason);
  if (group.forming) alerts.unshift("the group forms: nothing is published until every rank has attached");
  parent.hidden = alerts.length === 0;
  parent.replaceChildren(element("ul", {}, ...alerts.map((alert) => element("li", {}, alert))));
}
