/* SPDX-License-Identifier: Apache-2.0
 *
 * evenkeel_cuda.h: steps in the order of a CUDA stream.
 *
 * As evenkeel.h has them, for engines whose host runs ahead of the GPU: a step begins and ends where its stream gets to
 * it. A lane's maps, step number and counters lie in device memory at addresses that stay, so graphs captured with
 * evenkeel_route_on go on with what each begin_step_on put there; nothing is captured again when maps or members change.
 * Slots are not overwritten, nor banks of maps, before the stream has got past the steps that may use them.
 *
 * Threads:   as evenkeel.h says; evenkeel_push_lost: any.
 * Streams:   a lane's calls go to one stream (a cudaStream_t) of the GPU that was opened; to another one only after that
 *            was ordered behind the one before. Side streams of a step are joined before end_step_on. begin_step_on and
 *            end_step_on are called outside of capture, around launches of any number of graphs.
 * Waiting:   none: not for the GPU either.
 * Callbacks: of evenkeel_on_post_move, called by begin_step_on, return when the GPU is done with the refreshing, or have
 *            enqueued it in front of all later steps.
 */
#ifndef EVENKEEL_ENGINE_EVENKEEL_CUDA_H_
#define EVENKEEL_ENGINE_EVENKEEL_CUDA_H_

#include "engine/evenkeel.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of device memory that the library will ever hold once it is opened, a context apart; 0 in builds without CUDA. */
EVENKEEL_API uint64_t evenkeel_device_bytes(const evenkeel_region* region);

/* Takes it, on the GPU that CUDA numbers `ordinal` in this process, which is that of the tensors where they are in device
 * memory; page-locks the region. After evenkeel_ready, before the first step, once. From then on tokens are counted by
 * the calls below alone: evenkeel_route and evenkeel_count are refused. num_counting_threads must not be below num_lanes. */
EVENKEEL_API int evenkeel_open_device(evenkeel_region* region, int32_t ordinal, evenkeel_error* error);

/* As evenkeel_begin_step, with the newest maps now; the GPU takes them over where `stream` gets there.
 * EVENKEEL_INTERNAL: the driver refused, and no step has begun. */
EVENKEEL_API int64_t evenkeel_begin_step_on(evenkeel_region* region, int32_t lane, evenkeel_phase phase,
                                            evenkeel_kind kind, void* stream);

/* As evenkeel_end_step, where `stream` gets there. A step that was begun on a stream may also be ended, or aborted, by
 * evenkeel_end_step or evenkeel_abort_step, after the GPU is done with it. */
EVENKEEL_API int evenkeel_end_step_on(evenkeel_region* region, int32_t lane, int64_t ticket, void* stream);

/* As evenkeel_route, by a kernel: ids and slots are device memory. Counts are added by it with EVENKEEL_COUNT_ROUTER;
 * what is unrouted reaches the agent with a delay of up to 100 ms and a step. May be captured. */
EVENKEEL_API int evenkeel_route_on(evenkeel_region* region, int32_t lane, int32_t layer, const void* ids,
                                   int32_t id_bytes, int64_t num_tokens, int32_t top_k, int64_t row_stride,
                                   int64_t first_token, int32_t* slots, void* stream);

/* With EVENKEEL_COUNT_AFTER_DISPATCH: tokens of each of the rank's local slots in the lane's newest step, values
 * [slots_per_rank] of int32 or int64 (`value_bytes` 4 or 8) in device memory; cumulative: values[i] is the sum up to and
 * with i. Counted to the phase that the step was begun with, if it is real. May be captured. */
EVENKEEL_API int evenkeel_add_counts_on(evenkeel_region* region, int32_t lane, int32_t layer, const void* values,
                                        int32_t value_bytes, int32_t cumulative, void* stream);

/* Brings who is lost (evenkeel_lost_ranks) to the kernels of steps that are under way, also of graphs that are replaying,
 * beside all streams; begin_step_on brings it to those that follow. */
EVENKEEL_API int evenkeel_push_lost(evenkeel_region* region);

#ifdef __cplusplus
}
#endif

#endif /* EVENKEEL_ENGINE_EVENKEEL_CUDA_H_ */
