// SPDX-License-Identifier: Apache-2.0
//
// Reload: replaces the experts' weights of a running rank, when a file in its run directory asks for it.
//
// <run_dir>/reload-<rank> holds one line: the version that the weights then have, a directory with model.safetensors,
// and for how many seconds the rank stays suspended at least. It is removed when it was read. Only the experts in the
// slots are read anew: the rest of the model, and the copy that text is compared with, stay.
//
// Threads:   one, while the lanes serve on others: their steps are refused meanwhile.
// Owns:      nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "engine/evenkeel.h"
#include "engine/reference/config.h"
#include "engine/reference/slots.h"
#include "engine/reference/status.h"

namespace evenkeel::engine {

struct ReloadRequest {
  uint64_t version = 0;
  std::string model_dir;
  absl::Duration pause;
};

// kInvalidArgument where the line is not one.
absl::StatusOr<ReloadRequest> ParseReload(const std::string& line);

class Reload {
 public:
  struct Parts {
    evenkeel_region* region = nullptr;
    Slots* slots = nullptr;
    Counters* counters = nullptr;
    // Called again and again while it waits; false: the rank is to end.
    std::function<bool(absl::Duration at_most)> go_on;
  };

  Reload(const std::string& run_dir, int rank, const ModelConfig& config, Parts parts);

  // Does what the file asks for, if there is one. kCancelled: the rank is to end; then it is suspended no more, but has
  // the weights that it had.
  absl::Status RunIfAsked();

 private:
  absl::Status Run(const ReloadRequest& request);
  absl::Status Suspend();
  absl::Status Fill(const std::string& model_dir);

  const std::string path_;
  const ModelConfig config_;
  const Parts parts_;
};

}  // namespace evenkeel::engine
