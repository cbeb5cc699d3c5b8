// SPDX-License-Identifier: Apache-2.0
//
// The page: one group at a time, live. The stream of stats carries the group's figures; what is larger (layers, maps,
// ranks) is asked for every two seconds, one question at a time.

import * as api from "./api";
import { confirm } from "./confirm";
import { HeatMap } from "./heat_map";
import { History } from "./history";
import { showLayer } from "./layer";
import { makeOperations } from "./operations";
import { showAlerts, showOverview } from "./overview";
import { showRanks } from "./ranks";
import { byId, element } from "./text";
import "./page.css";

const detailPeriodMs = 2000;

const select = byId<HTMLSelectElement>("group");
const connection = byId("connection");
const history = new History(byId("imbalance-chart"), byId("moves-chart"));
const operations = makeOperations();
const experts = new HeatMap(byId("expert-heat"), "expert", chooseLayer);
const ranks = new HeatMap(byId("rank-heat"), "rank", chooseLayer);

let group = "";
let layer = 0;
let detail: { group: api.Group; stats: api.Stats } | null = null;
let endStreams: (() => void)[] = [];

function matrix(layers: api.LayerStats[], of: (layer: api.LayerStats) => string[]) {
  const columns = layers.length > 0 ? of(layers[0]!).length : 0;
  const values = new Float64Array(layers.length * columns);
  layers.forEach((one, r) => of(one).forEach((value, c) => { values[r * columns + c] = Number(value); }));
  return { rows: layers.length, columns, values };
}

async function showChosen(): Promise<void> {
  if (!detail) return;
  byId("layer-title").textContent = `Layer ${layer}`;
  const maps = await api.getMap(group, layer);
  showLayer(byId("layer"), detail.group, detail.stats.layers.find((one) => one.layer === layer), maps.layers[0]?.map ?? null);
}

function chooseLayer(row: number): void {
  layer = row;
  showHeat();
  void showChosen();
}

function showHeat(): void {
  if (!detail) return;
  experts.show(matrix(detail.stats.layers, (one) => one.tokens_of_expert), layer);
  ranks.show(matrix(detail.stats.layers, (one) => one.tokens_of_rank), layer);
}

async function refresh(): Promise<void> {
  const asked = group;
  const [found, stats] = await Promise.all([api.getGroup(asked), api.getStats(asked, 10)]);
  if (asked !== group) return;
  detail = { group: found, stats };
  showAlerts(byId("alerts"), found);
  byId("pause").textContent = found.paused_by ? "Resume…" : "Pause…";
  showHeat();
  operations.see(found);
  const [membership] = await Promise.all([api.getMembership(asked), showChosen()]);
  if (asked === group) showRanks(byId("ranks"), asked, membership);
}

async function refreshForever(): Promise<void> {
  for (;;) {
    if (group && !document.hidden) {
      try { await refresh(); } catch (error) { connection.textContent = String(error); }
    }
    await new Promise((resolve) => setTimeout(resolve, detailPeriodMs));
  }
}

async function follow(name: string): Promise<void> {
  endStreams.forEach((end) => end());
  group = name;
  layer = 0;
  detail = null;
  location.hash = encodeURIComponent(name);
  history.clear();
  operations.clear();
  const connected = (yes: boolean) => {
    connection.textContent = yes ? "live" : "connection lost, trying again";
    connection.className = yes ? "live" : "lost";
  };
  endStreams = [
    api.watch<api.StatsUpdate>("WatchStats", { group: name, brief: "true" }, (update) => {
      showOverview(byId("overview"), update.group, update.stats);
      history.update(update);
    }, connected),
    api.watch<api.Operation>("WatchOperations", { group: name }, (operation) => operations.take([operation]), connected),
  ];
  const shown = refresh();
  const [past, stats] = await Promise.all([api.listOperations(name), api.getWindows(name, 600)]);
  if (name !== group) return;
  operations.take(past.operations);
  history.add(stats.windows);
  await shown;
}

async function begin(): Promise<void> {
  const { groups } = await api.listGroups();
  const names = groups.map((one) => one.info?.name ?? "").filter((name) => name !== "");
  if (names.length === 0) {
    connection.textContent = "no group has attached yet";
    setTimeout(() => void begin(), detailPeriodMs);
    return;
  }
  select.replaceChildren(...names.map((name) => element("option", {}, name)));
  const wanted = decodeURIComponent(location.hash.slice(1));
  select.value = names.includes(wanted) ? wanted : names[0]!;
  await follow(select.value);
}

select.onchange = () => void follow(select.value);
byId("rearrange").onclick = () => confirm(`Rearrange ${group} now? Experts move while it serves.`, "Rearrange", () => api.start("Rearrange", { group }));
byId("pause").onclick = () => {
  if (detail?.group.paused_by) return confirm(`Let the controller balance ${group} by itself again?`, "Resume", async () => { await api.resume(group); await refresh(); });
  confirm(`Pause ${group}? The controller then plans nothing and changes no shares by itself; what is under way goes on to its end.`, "Pause",
    async () => { await api.pause(group, "from the web page"); await refresh(); });
};
void begin().catch((error: unknown) => { connection.textContent = String(error); });
void refreshForever();
