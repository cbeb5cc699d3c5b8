// SPDX-License-Identifier: Apache-2.0
//
// Ranks: who is a member of the group, and who is about to be or no longer.

import { start, type Membership } from "./api";
import { confirm } from "./confirm";
import { element, table, word } from "./text";

export function showRanks(parent: HTMLElement, group: string, membership: Membership): void {
  const rows = membership.ranks.map((rank) => {
    const standing = word(rank.standing, "RANK_STANDING_");
    const drain = element("button", { type: "button", "aria-label": `Drain rank ${rank.rank}` }, "Drain…");
    drain.onclick = () => confirm(`Drain rank ${rank.rank} of ${group}? Its experts move to the other ranks; then it may be ended.`, "Drain it",
      () => start("DrainRank", { group, ranks: [rank.rank] }));
    return [String(rank.rank), standing, rank.attached ? "yes" : "no", String(rank.num_slots_live ?? 0), rank.note, standing === "serving" ? drain : ""];
  });
  parent.replaceChildren(element("p", {}, `view ${membership.view_number}`), element("div", { class: "scroll" },
    table([">rank", "standing", "agent attached", ">live slots", "note", ""], rows)));
}
