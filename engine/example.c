/* SPDX-License-Identifier: Apache-2.0
 *
 * What an engine has to do. Compiled as C and run by //tests/engine:example_test; the README quotes the part between
 * the markers.
 */
/* example:begin */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/evenkeel.h"

enum { kExperts = 8, kRanks = 2, kSlots = 5, kExpertBytes = 4096, kTokens = 4, kTopK = 2 };

int main(int argc, char** argv) {
  evenkeel_error error;
  evenkeel_region* region;
  evenkeel_options options = {.abi_version = EVENKEEL_ABI_VERSION, .group = "example", .model = "tiny", .rank = 0};
  options.num_ranks = kRanks, options.num_layers = 1, options.num_experts = kExperts;
  options.slots_per_rank = kSlots, options.weights_bytes = kSlots * kExpertBytes;
  options.directory = argc > 1 ? argv[1] : NULL; /* of region files; NULL: /dev/shm */
  if (evenkeel_create(&options, &region, &error) != 0) return puts(error.message), EXIT_FAILURE;

  char* weights = evenkeel_alloc_weights(region, kSlots * kExpertBytes); /* load each slot's expert into it */
  for (int slot = 0; slot < kSlots; ++slot)
    memset(weights + slot * kExpertBytes, evenkeel_initial_expert(region, 0, slot), kExpertBytes);
  if (evenkeel_add_tensor(region, 0, "w13", "u8", weights, kExpertBytes, kExpertBytes, &error) != 0 ||
      evenkeel_ready(region, &error) != 0)
    return puts(error.message), EXIT_FAILURE;

  for (int step = 0; step < 3; ++step) { /* every forward step */
    const int32_t expert_ids[kTokens * kTopK] = {0, 1, 4, 2, 3, 7, 0, 5};
    int32_t slots[kTokens * kTopK];
    const int64_t ticket = evenkeel_begin_step(region, 0, EVENKEEL_DECODE, EVENKEEL_REAL);
    evenkeel_route(region, 0, 0, expert_ids, sizeof(int32_t), kTokens, kTopK, kTopK, 0, slots);
    for (int i = 0; i < kTokens * kTopK; ++i) /* send the copy to rank slots[i] / kSlots; compute what came here */
      if (slots[i] / kSlots == options.rank) evenkeel_count(region, 0, EVENKEEL_DECODE, 0, slots[i] % kSlots, 1);
    evenkeel_end_step(region, 0, ticket); /* every token has come back */
    printf("step %d: expert 4 is served by rank %d\n", step, slots[2] / kSlots);
  }
  evenkeel_destroy(region);
  return EXIT_SUCCESS;
}
/* example:end */
