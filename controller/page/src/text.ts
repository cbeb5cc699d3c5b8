// SPDX-License-Identifier: Apache-2.0
//
// Numbers and names as people read them, and the little DOM that the page needs.

const units = ["", "k", "M", "G", "T", "P"];

export function short(value: number): string {
  let unit = 0;
  while (Math.abs(value) >= 1000 && unit + 1 < units.length) { value /= 1000; ++unit; }
  return `${unit === 0 ? Math.round(value) : value.toPrecision(3)}${units[unit]}`;
}
export const bytes = (value: number) => `${short(value)}B`;
export const imbalance = (value: number) => (value === 0 ? "–" : value.toFixed(3));
export const seconds = (us: string) => `${(Number(us) / 1e6).toFixed(2)} s`;
export const time = (unixUs: string) => new Date(Number(unixUs) / 1000).toLocaleTimeString();
// "OPERATION_STATE_DONE" -> "done"
export const word = (name: string, prefix: string) => name.replace(prefix, "").toLowerCase().replaceAll("_", " ");

type Child = Node | string;
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Record<string, string> = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Puts `children` into `parent` unless `key` is what is there already, so that what has the focus keeps it; a list keeps
// how far it was scrolled.
export function show(parent: HTMLElement, key: unknown, make: () => Child[]): void {
  const text = JSON.stringify(key);
  if (parent.dataset.shown === text) return;
  parent.dataset.shown = text;
  const scrolled = parent.querySelector(".scroll")?.scrollTop ?? 0;
  parent.replaceChildren(...make());
  const list = parent.querySelector(".scroll");
  if (list) list.scrollTop = scrolled;
}

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found as T;
}

// Columns that begin with ">" are numbers.
export function table(columns: string[], rows: Child[][]): HTMLTableElement {
  const made = element("table");
  const isNumber = columns.map((column) => column.startsWith(">"));
  const head = element("tr");
  columns.forEach((column, i) => head.append(element("th", { scope: "col", ...(isNumber[i] ? { class: "number" } : {}) }, column.replace(/^>/, ""))));
  made.append(element("thead", {}, head));
  const body = element("tbody");
  for (const row of rows) {
    const line = element("tr");
    row.forEach((cell, i) => line.append(element("td", isNumber[i] ? { class: "number" } : {}, cell)));
    body.append(line);
  }
  made.append(body);
  return made;
}
