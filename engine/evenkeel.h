/* SPDX-License-Identifier: Apache-2.0
 *
 * evenkeel.h: what an inference engine links.
 *
 * One region per rank: a file in shared memory, owned by the engine's process, through which an evenkeel-agent reads
 * what the engine does and writes which slot holds which expert. The engine brackets each forward step, asks where
 * routed tokens go, and counts what it computes. It serves by a default placement when no agent is up, and nothing
 * here ever waits for an agent or a controller.
 *
 * Threads:   create, add_tensor, ready, destroy: one thread. Step calls: one thread per lane at a time; lanes are
 *            independent. serve_* and count: any thread, each with its own lane of counters (see evenkeel_count).
 * Memory:    all of it is taken by create and alloc_weights; no later call allocates.
 * Waiting:   no call but evenkeel_suspend waits for a lock or another process.
 * Errors:    calls return 0 or a negative evenkeel_status; where they take an evenkeel_error, its text says what was
 *            being done, with which values. The library logs nothing and keeps no global state.
 * Needs:     libc and libstdc++; the CUDA runtime is linked in and opens a driver only for tensors in device memory.
 */
#ifndef EVENKEEL_ENGINE_EVENKEEL_H_
#define EVENKEEL_ENGINE_EVENKEEL_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EVENKEEL_ABI_VERSION 6
#define EVENKEEL_API __attribute__((visibility("default")))

typedef struct evenkeel_region evenkeel_region;

typedef enum evenkeel_status {
  EVENKEEL_OK = 0,
  EVENKEEL_INVALID_ARGUMENT = -1,
  EVENKEEL_FAILED_PRECONDITION = -2, /* right call, wrong state: before ready, no member yet, unknown ticket */
  EVENKEEL_RESOURCE_EXHAUSTED = -3,  /* no room in shared memory, too many open steps */
  EVENKEEL_PERMISSION_DENIED = -4,
  EVENKEEL_INTERNAL = -5,
  EVENKEEL_DEADLINE_EXCEEDED = -6
} evenkeel_status;

typedef struct evenkeel_error {
  int32_t status;
  char message[256]; /* zero-terminated */
} evenkeel_error;

typedef enum evenkeel_phase { EVENKEEL_PHASE_OTHER = 0, EVENKEEL_PREFILL = 1, EVENKEEL_DECODE = 2 } evenkeel_phase;
/* Only real steps are counted as load. */
typedef enum evenkeel_kind { EVENKEEL_REAL = 0, EVENKEEL_DUMMY = 1, EVENKEEL_PROFILE = 2 } evenkeel_kind;
typedef enum evenkeel_count_place { EVENKEEL_COUNT_AFTER_DISPATCH = 0, EVENKEEL_COUNT_ROUTER = 1 } evenkeel_count_place;
typedef enum evenkeel_routing { EVENKEEL_ROUTING_SENDER = 0, EVENKEEL_ROUTING_REPLICATED = 1 } evenkeel_routing;

typedef struct evenkeel_options {
  uint32_t abi_version;  /* EVENKEEL_ABI_VERSION */
  const char* directory; /* of region files; NULL: /dev/shm */
  const char* group;     /* letters, digits, '-', '_'; at most 63 */
  const char* model;     /* at most 127; only engines of the same model form a group */
  uint64_t weights_version;
  int32_t rank;
  int32_t num_ranks; /* that make the group */
  int32_t ranks_max; /* that it may ever have, of which all tables are; 0 means num_ranks */
  int32_t join;      /* not 0: comes to a group under way, in place of an ended process or as a rank beyond num_ranks */
  int32_t num_nodes; /* ranks are node-major; 0 means 1 */
  int32_t num_layers;  /* MoE layers only */
  int32_t num_experts; /* logical experts of a layer */
  int32_t slots_per_rank;
  int32_t num_lanes;            /* streams of steps that may be open at the same time; 0 means 1; at most 16 */
  int32_t num_counting_threads; /* threads that call evenkeel_count at the same time; 0 means num_lanes; at most 64 */
  evenkeel_count_place count_place;
  evenkeel_routing routing;
  uint64_t weights_bytes; /* of per-expert tensors, host memory: room for evenkeel_alloc_weights */
} evenkeel_options;

/* ---- Set-up ------------------------------------------------------------------------------------------------------ */

/* Makes the region file evenkeel.<group>.<rank>.<incarnation> and takes its lock. */
EVENKEEL_API int evenkeel_create(const evenkeel_options* options, evenkeel_region** region, evenkeel_error* error);

/* Host memory for weights, 64-byte aligned, readable and writable by the rank's agent. NULL when weights_bytes is used up. */
EVENKEEL_API void* evenkeel_alloc_weights(evenkeel_region* region, uint64_t bytes);

/* Names one tensor of the experts of `layer`: local slot s begins at data + s * stride_bytes and has bytes_per_expert
 * bytes. `data` comes from evenkeel_alloc_weights, or is CUDA device memory that IPC handles can export (cudaMalloc;
 * PyTorch's allocator without expandable segments): agents then read and write it there, and the region needs no
 * weights_bytes. All tensors of a rank are of one kind, on one GPU. Their memory must stay where it is until
 * evenkeel_destroy. Same names, sizes and order on every rank of the group. */
EVENKEEL_API int evenkeel_add_tensor(evenkeel_region* region, int32_t layer, const char* name, const char* dtype,
                                     void* data, uint64_t bytes_per_expert, uint64_t stride_bytes,
                                     evenkeel_error* error);

/* Called on the engine's thread in begin_step or set_idle, after an expert was copied into a slot and before any map names it. */
typedef void (*evenkeel_post_move_fn)(void* context, int32_t layer, int32_t local_slot, int32_t expert);
EVENKEEL_API int evenkeel_on_post_move(evenkeel_region* region, evenkeel_post_move_fn function, void* context);

/* The expert whose weights the engine must put into a local slot before evenkeel_ready; -1 where none: with
 * options.join all slots are free. */
EVENKEEL_API int32_t evenkeel_initial_expert(const evenkeel_region* region, int32_t layer, int32_t local_slot);

/* Weights are in place: takes their fingerprints and opens the region to an agent. */
EVENKEEL_API int evenkeel_ready(evenkeel_region* region, evenkeel_error* error);

/* Ends the incarnation: lock released, file removed, memory unmapped. */
EVENKEEL_API void evenkeel_destroy(evenkeel_region* region);

EVENKEEL_API uint64_t evenkeel_incarnation(const evenkeel_region* region);
EVENKEEL_API const char* evenkeel_path(const evenkeel_region* region);

/* 1 once the newest view has this engine and, with options.join, maps have come; else 0. An engine that joins begins no
 * step before; one that was a member and is none any more finishes what it has begun and begins nothing new. May be
 * read anywhere, also within a step. */
EVENKEEL_API int evenkeel_is_member(const evenkeel_region* region);
/* Incarnation of the rank's member in the newest view: the only one to send to or to take tokens from. 0: it has none;
 * UINT64_MAX: no view has come yet, and any of the first ranks is one. */
EVENKEEL_API uint64_t evenkeel_member(const evenkeel_region* region, int32_t rank);

/* ---- Steps --------------------------------------------------------------------------------------------------------- */

/* Begins a forward step with the newest complete maps. Returns its ticket (> 0) or a negative status;
 * EVENKEEL_RESOURCE_EXHAUSTED when 64 steps of the lane are open, EVENKEEL_FAILED_PRECONDITION while an engine that
 * joins is no member yet. */
EVENKEEL_API int64_t evenkeel_begin_step(evenkeel_region* region, int32_t lane, evenkeel_phase phase,
                                         evenkeel_kind kind);

/* Every token that the step sent to other ranks has come back, and no kernel of the step uses a slot any more: with
 * tensors in device memory, call it after the GPU has got there. Tickets of a lane may end in any order. */
EVENKEEL_API int evenkeel_end_step(evenkeel_region* region, int32_t lane, int64_t ticket);
/* The step was given up; late answers to it must be discarded by ticket. */
EVENKEEL_API int evenkeel_abort_step(evenkeel_region* region, int32_t lane, int64_t ticket);

/* Within the lane's newest step, whose ticket is given: takes the newest complete maps for what is routed from now on,
 * so that tokens of a rank that was lost find another replica. The ticket goes on to hold the maps that it began with. */
EVENKEEL_API int evenkeel_reroute(evenkeel_region* region, int32_t lane, int64_t ticket);

/* No step is open and none will begin before the next begin_step: the lane then holds up nobody. Implied when all
 * tickets have ended; saying so lets the agent tell an idle engine from one that forgot to report. */
EVENKEEL_API int evenkeel_set_idle(evenkeel_region* region, int32_t lane);

/* Top-k expert ids -> slots of the whole layer (slot = rank * slots_per_rank + local slot), by the shares of the maps
 * that the lane's newest step took. Replicas on ranks that are lost now are passed over, their shares spread over the
 * others. ids [num_tokens, top_k] of int32 or int64 (`id_bytes` 4 or 8), rows row_stride
 * elements apart; slots int32 [num_tokens, top_k], dense. Negative ids give -1 and are not counted; an expert without
 * live replica gives -1 and is counted as unrouted. Token t of the batch has index first_token + t. With
 * EVENKEEL_COUNT_ROUTER the routed copies of real steps are counted here, by the step's phase. */
EVENKEEL_API int evenkeel_route(evenkeel_region* region, int32_t lane, int32_t layer, const void* ids, int32_t id_bytes,
                                int64_t num_tokens, int32_t top_k, int64_t row_stride, int64_t first_token,
                                int32_t* slots);

/* Tokens computed in a local slot of this rank (EVENKEEL_COUNT_AFTER_DISPATCH). `thread` in [0, num_counting_threads):
 * each value by one thread at a time. `phase`: of the step that sent them, of whatever rank; prefill and decode are
 * counted apart. Only valid rows of real steps are to be counted. */
EVENKEEL_API int evenkeel_count(evenkeel_region* region, int32_t thread, evenkeel_phase phase, int32_t layer,
                                int32_t local_slot, uint64_t num_tokens);

/* ---- Work for other ranks, death -------------------------------------------------------------------------------------- */

/* Brackets computing a batch that `peer_rank` sent, where that is not part of a lockstep step. `thread` as for
 * evenkeel_count. Refused (EVENKEEL_FAILED_PRECONDITION) when the newest view lacks this peer and incarnation. */
EVENKEEL_API int evenkeel_serve_begin(evenkeel_region* region, int32_t thread, int32_t peer_rank,
                                      uint64_t peer_incarnation);
EVENKEEL_API int evenkeel_serve_end(evenkeel_region* region, int32_t thread);

/* One word per rank of ranks_max, 0 while it is a member: may be polled anywhere, also within a step. */
EVENKEEL_API const volatile uint32_t* evenkeel_lost_ranks(const evenkeel_region* region);

/* A step of this engine has been waiting for `rank`; -1: no longer. Evidence for the controller, nothing more. */
EVENKEEL_API int evenkeel_report_waiting(evenkeel_region* region, int32_t lane, int32_t rank);

/* The engine is about to end, in order: peers are told at once instead of when they notice. */
EVENKEEL_API int evenkeel_leave(evenkeel_region* region);

/* The engine will be silent for up to `seconds` (graph capture, compilation) and is not to be judged by it. */
EVENKEEL_API int evenkeel_busy_lease(evenkeel_region* region, double seconds);

/* ---- Weights that change: reload, RL sync, LoRA merge, sleep ---------------------------------------------------------- */

/* Call from one thread, after the engine's last step has ended and before it touches the weights or their memory. From
 * now on begin_step and serve_begin are refused (EVENKEEL_FAILED_PRECONDITION). Waits until no step is open, nothing is
 * served, all copies into and out of this rank's slots have ended and their mappings are closed; goes on without an
 * agent where there is none. EVENKEEL_DEADLINE_EXCEEDED after `seconds`: the suspension stands; call again to wait on,
 * or evenkeel_resume with the version that there was to give it up. */
EVENKEEL_API int evenkeel_suspend(evenkeel_region* region, double seconds, evenkeel_error* error);
/* While suspended: the expert whose weights must be in a local slot before evenkeel_resume; -1: none. */
EVENKEEL_API int32_t evenkeel_reload_expert(const evenkeel_region* region, int32_t layer, int32_t local_slot);
/* The weights are in place, of this version: takes their fingerprints and goes on. Nothing is moved to or from this
 * rank until all ranks of the group are of one version. */
EVENKEEL_API int evenkeel_resume(evenkeel_region* region, uint64_t weights_version, evenkeel_error* error);
EVENKEEL_API uint64_t evenkeel_weights_version(const evenkeel_region* region);

/* ---- What the maps say, for engines with tables of their own -------------------------------------------------------------- */

/* Version of the maps that the lane's newest step took: (term << 32) | number. 0: the default placement. */
EVENKEEL_API uint64_t evenkeel_epoch(const evenkeel_region* region, int32_t lane);
/* [ranks_max * slots_per_rank]: expert of each slot, -1 where no map names it. */
EVENKEEL_API int evenkeel_physical_to_logical(const evenkeel_region* region, int32_t lane, int32_t layer,
                                              int32_t* experts);
/* [num_experts, width] slots, -1 padded, and [num_experts] numbers of entries. Unequal shares are rendered by repeated
 * entries, for engines that take entry (index modulo count). Requires: width >= the most replicas of any expert. */
EVENKEEL_API int evenkeel_logical_to_physical(const evenkeel_region* region, int32_t lane, int32_t layer, int32_t width,
                                              int32_t* slots, int32_t* counts);
/* [num_experts]: local slot of each expert on `rank`, -1 where it has none (vLLM's expert_map). */
EVENKEEL_API int evenkeel_expert_map(const evenkeel_region* region, int32_t lane, int32_t layer, int32_t rank,
                                     int32_t* local_slots);
/* Tables of one rank where place matters. Ranks that give the same answers here get tables that fit each other. */
typedef enum evenkeel_prefer {
  EVENKEEL_PREFER_NONE = 0,
  EVENKEEL_PREFER_NEAR = 1,  /* replicas of the rank, then of its host */
  EVENKEEL_PREFER_REMOTE = 2 /* by shares: of other hosts; in static tables: of other ranks */
} evenkeel_prefer;

typedef struct evenkeel_dispatch {
  evenkeel_prefer prefer;
  int32_t rank;            /* whose tokens; -1: of this rank */
  const int32_t* hosts;    /* [num_ranks] equal for ranks of a host; NULL: nodes are hosts */
  const uint32_t* avoid;   /* [num_ranks] nonzero: replicas there are used only where there are no others; NULL: none.
                            * The words of evenkeel_lost_ranks will do. */
  const uint64_t* traffic; /* [num_ranks] tokens that ranks send, in any unit; NULL: members alike, others none */
  uint64_t seed;           /* of static tables, where it breaks ties; usual is 42 */
} evenkeel_dispatch;

/* Of the memory that the next two calls need for their time, aligned to 8 bytes; the same for all layers. */
EVENKEEL_API uint64_t evenkeel_dispatch_work_bytes(const evenkeel_region* region);
/* As evenkeel_logical_to_physical, for one rank: it prefers what it is told to as far as shares allow. All ranks
 * together, by their traffic, still give every replica its share (what avoided ones had goes to the others). */
EVENKEEL_API int evenkeel_rank_logical_to_physical(const evenkeel_region* region, int32_t lane, int32_t layer,
                                                   const evenkeel_dispatch* dispatch, int32_t width, void* work,
                                                   int32_t* slots, int32_t* counts);
/* [num_experts] one slot of each expert for the tokens of one rank, -1 only without a live replica. Shares play no
 * part: of the replicas preferred each rank, in order, takes one that fewest ranks before it took. */
EVENKEEL_API int evenkeel_static_dispatch(const evenkeel_region* region, int32_t lane, int32_t layer,
                                          const evenkeel_dispatch* dispatch, void* work, int32_t* slots);
/* The expert and generation that a local slot of this rank holds now, and whether it is verified. */
EVENKEEL_API int evenkeel_slot_content(const evenkeel_region* region, int32_t layer, int32_t local_slot,
                                       int32_t* expert, uint64_t* generation, int32_t* verified);

/* For engines that watch from outside whether calls of this library wait (the kernel counts a thread's voluntary
 * switches): how many did, ever, in this incarnation. Shown to operators; anything but 0 is a fault of this library. */
EVENKEEL_API int evenkeel_report_calls_waited(evenkeel_region* region, uint64_t num_calls);

#ifdef __cplusplus
}
#endif

#endif /* EVENKEEL_ENGINE_EVENKEEL_H_ */
