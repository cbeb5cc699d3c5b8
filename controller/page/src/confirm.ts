// SPDX-License-Identifier: Apache-2.0
//
// Confirm: nothing is changed from the page without a second word.

import { ApiError } from "./api";
import { byId, element } from "./text";

// Asks; on yes does it, and tells an error in the same place.
export function confirm(question: string, action: string, act: () => Promise<void>): void {
  const dialog = byId<HTMLDialogElement>("confirm");
  const told = element("p", { role: "alert" });
  const yes = element("button", { type: "button" }, action);
  const no = element("button", { type: "button", autofocus: "" }, "Leave it");
  dialog.replaceChildren(element("p", {}, question), told, element("menu", {}, no, yes));
  no.onclick = () => dialog.close();
  yes.onclick = async () => {
    yes.disabled = true;
    try {
      await act();
      dialog.close();
    } catch (error) {
      told.textContent = error instanceof ApiError ? error.message : String(error);
      yes.disabled = false;
    }
  };
  dialog.showModal();
}
