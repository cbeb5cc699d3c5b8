// SPDX-License-Identifier: Apache-2.0
//
// ParallelExperts: the experts of a whole group, reached from one lane of one rank.
//
// Each routed copy goes to the slot that evenkeel_route names and is computed by that slot's rank, here or elsewhere;
// which expert is meant travels with it. A rank that is lost in the meantime has its copies routed anew by the newest
// maps, or dropped. A rank that is only slow is waited for, with its name reported.
//
// Threads:   its lane's.
// Waiting:   Run waits for answers, at most Options::answer_deadline (then kAborted), shorter when stopping.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

#include "engine/evenkeel.h"
#include "engine/reference/config.h"
#include "engine/reference/exchange_client.h"
#include "engine/reference/expert.h"
#include "engine/reference/failure.h"
#include "engine/reference/options.h"
#include "engine/reference/slots.h"
#include "engine/reference/status.h"

namespace evenkeel::engine {

class ParallelExperts final : public ExpertBackend {
 public:
  struct Options {
    int rank = 0;
    int num_ranks = 0;
    int slots_per_rank = 0;
    int lane = 0;  // and counting thread
    OnLoss on_loss = OnLoss::kWait;
    absl::Duration report_after = absl::Milliseconds(250);
    absl::Duration answer_deadline = absl::Seconds(10);
    absl::Duration stopping_deadline = absl::Seconds(1);
  };
  // Borrowed; they outlive the object.
  struct Parts {
    evenkeel_region* region = nullptr;
    const Slots* slots = nullptr;
    ExchangeClient* client = nullptr;
    Failure* failure = nullptr;
    Counters* counters = nullptr;
    const absl::Notification* stop = nullptr;
  };
  // Of the step whose layers follow.
  struct Step {
    int64_t ticket = 0;
    uint64_t epoch = 0;
    evenkeel_phase phase = EVENKEEL_PHASE_OTHER;
    bool may_drop = false;  // copies of experts without a live replica count as zero instead of ending the step
  };

  ParallelExperts(const Options& options, const Parts& parts, const ModelConfig& config);

  void Begin(const Step& step);
  // kUnavailable: an expert has no live replica. kAborted: refused, not answered in time, or stopping.
  absl::Status Run(const MoeBatch& batch, float* outputs) override;
  // Tokens of the current step that lost a copy in any layer, ascending, and the copies that were lost.
  const std::vector<int>& dropped_tokens() const { return dropped_; }
  uint64_t num_dropped_copies() const { return num_dropped_copies_; }

 private:
  // Copies of a batch are numbered token * top_k + choice.
  struct Part {
    std::vector<int> copies;  // sorted by slot
    std::vector<SlotGroup> groups;
    std::vector<float> x;
  };

  absl::Status Route(const MoeBatch& batch, float* outputs);
  void Divide(const MoeBatch& batch);
  void Ask(int layer, float* outputs);
  void ComputeLocal(int layer, float* outputs);
  absl::Status Collect(float* outputs);
  void TakeNewestMaps();
  void Lose(int rank, float* outputs);
  void Drop(int copy, float* outputs);
  bool IsLost(int rank) const;
  void Report(int rank);
  void Scatter(const Part& part, const float* y, float* outputs);

  const Options options_;
  const Parts parts_;
  const ModelConfig config_;
  Step step_;
  std::vector<int> dropped_;
  uint64_t num_dropped_copies_ = 0;
  int reported_ = -1;
  // Of the running call.
  std::vector<int> copies_;           // still to be routed
  std::vector<int32_t> ids_, slots_;  // parallel to copies_
  std::vector<int> order_, ends_;
  std::vector<Part> parts_of_rank_;
  std::vector<float> results_, scratch_;
};

}  // namespace evenkeel::engine
