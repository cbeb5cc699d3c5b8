// SPDX-License-Identifier: Apache-2.0
//
// The controller's HTTP port as typed calls. Field names and units are those of proto/evenkeel/v1/control.proto;
// 64-bit numbers come as strings.

export interface Epoch { term: number; number: number }
export interface Totals { tokens: string; moves: string; moves_failed: string; bytes_moved: string; shares_updates: string; publishes: string; rollouts: string; waves: string; waves_undone: string; fingerprint_failures: string }
export interface Layer { layer: number; phase: string; imbalance_now: number; imbalance_initial: number; imbalance_predicted: number; free_redundancy: number; num_slots_retired: number; num_slots_writing: number; num_slots_verified: number; num_slots_condemned: number; experts_lost: number[] }
export interface Alert { text: string; began_unix_us: string; ended_unix_us: string }
export interface Group {
  info: { name: string; model: string; shape: { num_experts: number; num_ranks: number; slots_per_rank: number }; num_layers: number; world: number } | null;
  policy: string; term: number; epoch: Epoch | null; forming: boolean; static_reason: string; running_operation: string;
  imbalance_now: number; imbalance_initial: number; imbalance_predicted: number;
  layers: Layer[]; waves_blocked: { layer: number; rank: number; reason: string }[]; alerts: Alert[]; totals: Totals | null;
  imbalance_gap: string; store_problem: string; step_time_p99_us: string;
  ineffective: string[]; paused_by: string; pause_reason: string; mode: string; mode_set_by: string;
  shadow_shares: { num_layers: number; imbalance_before: number; imbalance_after: number } | null;
  pins: { operation: string; pins: { layer: number; expert: number; rank: number }[]; frozen_layers: number[]; reason: string }[];
}
export interface WindowStats { begin_unix_us: string; tokens: string; imbalance_realised: number; imbalance_initial: number; imbalance_predicted: number }
export interface LayerStats { layer: number; tokens_of_expert: string[]; tokens_of_rank: string[]; imbalance_realised: number }
export interface Stats { group: string; tokens: string; layers: LayerStats[]; windows: WindowStats[] }
export interface StatsUpdate { time_unix_us: string; group: Group; stats: Stats | null }
export interface LayerMap { replicas_of_expert: number[]; slots: number[]; bounds: number[] }
export interface GroupMaps { layers: { layer: number; map: LayerMap | null }[] }
export interface Operation {
  id: string; group: string; cause: string; state: string; policy: string; detail: string; started_unix_us: string; changed_unix_us: string;
  num_layers: number; num_layers_done: number; num_waves: number; num_moves: number; num_moves_done: number; num_moves_failed: number;
  bytes_done: string; imbalance_before: number; imbalance_predicted: number;
  planning_us: string; retiring_us: string; moving_us: string; decisions: LayerDecision[];
  requested_by: string; request: string; ended_by: string;
}
export interface LayerDecision { layer: number; act: boolean; why: string; reason: string; imbalance_before: number; imbalance_after: number; num_moves: number }
export interface RankStatus { rank: number; standing: string; num_slots_live: number; note: string; attached: boolean; alive: boolean; waiting: boolean; safe_to_terminate: boolean }
export interface Membership { view_number: string; forming: boolean; ranks: RankStatus[] }

export class ApiError extends Error {}

async function call<T>(method: string, request: object): Promise<T> {
  const answer = await fetch(`v1/${method}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(request),
    signal: AbortSignal.timeout(30_000),
  });
  const text = await answer.text();
  if (!answer.ok) {
    let message = text;
    try { message = (JSON.parse(text) as { message: string }).message; } catch { /* no JSON: the text says it */ }
    throw new ApiError(message);
  }
  return JSON.parse(text) as T;
}

export const listGroups = () => call<{ groups: Group[] }>("ListGroups", {});
export const getGroup = (group: string) => call<Group>("GetGroup", { group });
export const getStats = (group: string, num_windows: number) => call<Stats>("GetStats", { group, num_windows });
export const getWindows = (group: string, num_windows: number) => call<Stats>("GetStats", { group, num_windows, brief: true });
export const getMap = (group: string, layer: number) => call<GroupMaps>("GetMap", { group, layers: [layer] });
export const getMembership = (group: string) => call<Membership>("GetMembership", { group });
export const listOperations = (group: string) => call<{ operations: Operation[] }>("ListOperations", { group });
export const getDecisions = async (group: string, id: string) =>
  (await call<{ operations: Operation[] }>("ListOperations", { group, id, decisions: true })).operations[0]?.decisions ?? [];
export const cancelOperation = (id: string) => call<Operation>("CancelOperation", { id });
export const pause = (group: string, reason: string) => call<Operation>("Pause", { group, reason });
export const resume = (group: string) => call<Operation>("Resume", { group });

// Starts the operation; its progress comes by the watch of operations.
export async function start(method: "Rearrange" | "DrainRank" | "AdmitRank", request: object): Promise<void> {
  const answer = await fetch(`v1/${method}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(request),
  });
  const reader = answer.body?.getReader();
  const first = reader ? new TextDecoder().decode((await reader.read()).value) : "";
  await reader?.cancel();
  const message = first.trim() === "" ? {} : (JSON.parse(first.split("\n")[0]!) as { code?: number; message?: string });
  if (!answer.ok || message.code) throw new ApiError(message.message ?? `HTTP ${answer.status}`);
}

// A stream that is opened again when it breaks. Returns how to end it.
export function watch<T>(method: string, query: Record<string, string>, take: (message: T) => void,
                         connected: (yes: boolean) => void): () => void {
  const source = new EventSource(`v1/${method}?${new URLSearchParams(query)}`);
  source.onopen = () => connected(true);
  source.onmessage = (event) => take(JSON.parse(event.data as string) as T);
  source.onerror = () => connected(false);
  return () => source.close();
}
