// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/wait_witness.h"

#include <sys/resource.h>

#include "algos/base/check.h"

namespace evenkeel::engine {

WaitWitness::Sample WaitWitness::Now() {
  rusage usage = {};
  EVENKEEL_CHECK(getrusage(RUSAGE_THREAD, &usage) == 0);
  return {.num_switches = usage.ru_nvcsw, .num_faults = usage.ru_minflt + usage.ru_majflt};
}

void WaitWitness::Judge(const Sample& before, const Sample& after) {
  num_watched_.fetch_add(1, std::memory_order_relaxed);
  if (after.num_switches == before.num_switches) return;
  auto& counter = after.num_faults == before.num_faults ? num_waited_ : num_slept_in_faults_;
  counter.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace evenkeel::engine
