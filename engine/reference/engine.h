// SPDX-License-Identifier: Apache-2.0
//
// RunEngine: the whole reference engine, from its options to its exit.
//
// Threads:   one per lane for steps, one for what other ranks ask; the caller's writes the status file and waits for
//            SIGTERM and SIGINT, which the call blocks for the whole process.
// Errors:    kInvalidArgument: an option or model file is wrong; otherwise why it could not serve or go on, or that
//            mismatched tokens or stale slot uses were counted.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace evenkeel::engine {

// The flags of main.cc, which say what they mean.
struct EngineOptions {
  std::string group;
  int rank = 0;
  int num_ranks = 1;
  int slots_per_rank = 0;
  int num_redundant = -1;
  std::string run_dir;
  std::string region_dir;
  std::string model_dir;
  absl::Duration run_time;
  absl::Duration startup_deadline;
  absl::Duration answer_deadline;
  absl::Duration drop_after;
  int num_lanes = 1;
  int batch = 0;
  int prompt_bytes = 0;
  int decode_bytes = 0;
  int rows_per_step_max = 0;
  double tokens_per_second_max = 0;
  uint64_t seed = 0;
  std::string mix;
  std::string check;
  double check_fraction = 0;
  std::string fail_as;  // empty: not at all
  int64_t fail_after_steps = 0;
};

// Slots of each rank and layer: as given, or the fewest that hold every expert and the redundant ones.
int SlotsPerRank(const EngineOptions& options, int num_experts);

absl::Status RunEngine(const EngineOptions& options);

}  // namespace evenkeel::engine
