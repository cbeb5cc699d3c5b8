// SPDX-License-Identifier: Apache-2.0
//
// Ranks: who is a member of the group, and who is about to be or no longer.

import { start, type Membership, type RankStatus } from "./api";
import { confirm } from "./confirm";
import { element, show, table, word } from "./text";

function drainButton(group: string, rank: number): HTMLElement {
  const button = element("button", { type: "button", "aria-label": `Drain rank ${rank}` }, "Drain…");
  button.onclick = () => confirm(`Drain rank ${rank} of ${group}? Its experts move to the other ranks; then it may be ended.`, "Drain it",
    () => start("DrainRank", { group, ranks: [rank] }));
  return button;
}

function admitButton(group: string, rank: number): HTMLElement {
  const button = element("button", { type: "button", "aria-label": `Admit rank ${rank}` }, "Admit…");
  button.onclick = () => confirm(`Admit rank ${rank} to ${group}? It takes experts over from the other ranks.`, "Admit it",
    () => start("AdmitRank", { group, ranks: [rank] }));
  return button;
}

function noteOf(rank: RankStatus): string {
  const notes = [rank.note];
  if (rank.attached && !rank.alive) notes.push("its engine has ended");
  if (rank.safe_to_terminate) notes.push("safe to terminate");
  return notes.filter((note) => note !== "").join("; ");
}

export function showRanks(parent: HTMLElement, group: string, membership: Membership): void {
  show(parent, [group, membership], () => {
    const rows = membership.ranks.map((rank) => {
      const standing = word(rank.standing, "RANK_STANDING_");
      const button = standing === "serving" ? drainButton(group, rank.rank) : rank.waiting ? admitButton(group, rank.rank) : "";
      return [String(rank.rank), standing, rank.attached ? "yes" : "no", String(rank.num_slots_live), noteOf(rank), button];
    });
    return [element("p", {}, `view ${membership.view_number}`), element("div", { class: "scroll", tabindex: "0" },
      table([">rank", "standing", "agent attached", ">live slots", "note", ""], rows))];
  });
}
