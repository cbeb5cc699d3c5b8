// SPDX-License-Identifier: Apache-2.0
//
// Serving: one lane's stream of sequences: windows of real text are read and continued greedily, step after step, and
// some of them are compared with a plain copy of the model. What is asked for (Requests) goes before the corpus.
//
// A step reads pieces of prompts as long as any sequence has some left, else the last byte of every sequence. A step
// that fails leaves all sequences as they were and is tried again. A sequence that is checked keeps its logits; when
// it is complete the plain copy reads the same bytes at once, and each position whose logits are not the same bits,
// or whose next byte is not the plain copy's, counts as a mismatched token.
//
// Threads:   its lane's.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

#include "algos/base/rng.h"
#include "engine/evenkeel.h"
#include "engine/reference/corpus.h"
#include "engine/reference/failure.h"
#include "engine/reference/model.h"
#include "engine/reference/parallel_experts.h"
#include "engine/reference/requests.h"
#include "engine/reference/status.h"

namespace evenkeel::engine {

class Serving {
 public:
  struct Options {
    int lane = 0;
    int batch = 32;  // sequences
    int prompt_bytes = 96;
    int decode_bytes = 64;  // at most; each sequence ends by itself after half of them or later
    int rows_per_step_max = 256;
    double check_fraction = 0.5;                    // of sequences
    bool background = true;                         // the corpus is served where nothing is asked for
    double tokens_per_second_max = 0;               // 0: no limit
    bool may_wait = true;                           // for an expert without any live replica
    absl::Duration drop_after = absl::Seconds(10);  // at most
    uint64_t seed = 1;
  };
  // Borrowed; they outlive the object.
  struct Parts {
    evenkeel_region* region = nullptr;
    const Model* model = nullptr;
    DenseExperts* plain = nullptr;  // of this lane alone; may be null when nothing is checked
    ParallelExperts* experts = nullptr;
    const Corpus* corpus = nullptr;
    const Mix* mix = nullptr;
    Requests* requests = nullptr;  // may be null
    Failure* failure = nullptr;
    Counters* counters = nullptr;
    const absl::Notification* stop = nullptr;
  };

  Serving(const Options& options, const Parts& parts);

  // Serves until `stop`. An error is one that trying again cannot mend.
  absl::Status Run();

 private:
  struct Sequence {
    std::vector<uint8_t> bytes;        // prompt, then what was written
    std::shared_ptr<Request> request;  // whose text this is; null: of the corpus
    int num_prompt = 0;                // positions of the prompt
    int num_positions = 0;             // to be read in all; 0: the place is empty
    int num_read = 0;
    bool checked = false;
    std::unique_ptr<KvCache> cache;
    std::vector<float> logits;  // of read positions, where checked
  };

  void Start(Sequence& sequence);
  // Fills empty places as far as anything is to be served; whether any place is taken.
  bool Fill();
  // Chooses rows_, and whether they are prompt.
  bool Choose();
  // One forward step; false when it has to be tried again.
  absl::StatusOr<bool> Step();
  void Commit();
  void Check(Sequence& sequence);
  void Pace(absl::Time now);

  const Options options_;
  const Parts parts_;
  const int num_positions_max_;  // read of a sequence
  const absl::Time started_;
  Rng rng_;
  std::vector<Sequence> sequences_;
  std::vector<Model::Row> rows_;
  std::vector<size_t> sequence_of_row_;
  Model::Workspace workspace_;
  std::vector<float> logits_, plain_logits_;
  std::unique_ptr<KvCache> plain_cache_;
  absl::Time without_replica_since_ = absl::InfiniteFuture();
  double tokens_ahead_ = 0;
  absl::Time paced_at_;
};

}  // namespace evenkeel::engine
