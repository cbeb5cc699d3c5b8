// SPDX-License-Identifier: Apache-2.0
//
// EngineOptions: what a reference engine is told when it is started; the flags of main.cc say what each means.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "engine/reference/config.h"

namespace evenkeel::engine {

// What a step does with tokens of a rank that is lost, or of experts without a live replica (protocol, rule 25).
enum class OnLoss {
  kReroute,  // to another live replica by the newest maps, within the step; where there is none they are dropped
  kWait,     // the same, but the step is given up and tried again while there is none, for a bounded time
  kDrop,     // what was sent to the lost rank is dropped
};

absl::StatusOr<OnLoss> ParseOnLoss(const std::string& name);

struct EngineOptions {
  std::string group;
  int rank = 0;
  int num_ranks = 1;
  int ranks_max = 0;  // 0: num_ranks
  bool join = false;
  int slots_per_rank = 0;
  int num_redundant = -1;
  std::string run_dir;
  std::string region_dir;
  std::string model_dir;
  absl::Duration run_time;
  absl::Duration startup_deadline;
  absl::Duration answer_deadline;
  absl::Duration drop_after;
  std::string device = "cpu";  // or "cuda"
  std::string on_loss = "wait";
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
  int requests_port = -1;  // -1: none; 0: any free one
  bool background = true;
  std::string fail_as;  // empty: not at all
  int64_t fail_after_steps = 0;
  absl::Duration pause;  // of fail_as "pause" and "silence"

  int num_ranks_ever() const { return ranks_max == 0 ? num_ranks : ranks_max; }
};

inline constexpr int kLanesMax = 16;

// Slots of each rank and layer: as given, or the fewest that hold every expert and the redundant ones.
int SlotsPerRank(const EngineOptions& options, int num_experts);

absl::Status CheckOptions(const EngineOptions& options, const ModelConfig& config);

}  // namespace evenkeel::engine
