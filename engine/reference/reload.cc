// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/reload.h"

#include <cstdio>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "algos/base/status_macros.h"
#include "engine/reference/expert.h"
#include "engine/reference/safetensors.h"

namespace evenkeel::engine {
namespace {

// So often whoever waits for the suspension looks around.
constexpr absl::Duration kLook = absl::Milliseconds(250);

}  // namespace

absl::StatusOr<ReloadRequest> ParseReload(const std::string& line) {
  std::istringstream words(line);
  ReloadRequest request;
  double seconds = 0;
  std::string more;
  if (!(words >> request.version >> request.model_dir >> seconds) || words >> more || !(seconds >= 0)) {
    return absl::InvalidArgumentError(absl::StrCat("reload: '", line, "' is not VERSION DIRECTORY SECONDS"));
  }
  request.pause = absl::Seconds(seconds);
  return request;
}

Reload::Reload(const std::string& run_dir, int rank, const ModelConfig& config, Parts parts)
    : path_(absl::StrCat(run_dir, "/reload-", rank)), config_(config), parts_(std::move(parts)) {}

absl::Status Reload::RunIfAsked() {
  std::ifstream file(path_);
  std::string line;
  if (!std::getline(file, line)) return absl::OkStatus();
  std::remove(path_.c_str());
  EVENKEEL_ASSIGN_OR_RETURN(const ReloadRequest request, ParseReload(line));
  return Run(request);
}

absl::Status Reload::Run(const ReloadRequest& request) {
  const absl::Time begun = absl::Now();
  parts_.counters->suspended = true;
  EVENKEEL_RETURN_IF_ERROR(Suspend());
  parts_.counters->suspend_ms = static_cast<uint64_t>(absl::ToInt64Milliseconds(absl::Now() - begun));
  while (absl::Now() - begun < request.pause) {
    if (!parts_.go_on(kLook)) return absl::CancelledError("told to end while suspended");
  }
  parts_.slots->SetVersion(request.version);
  EVENKEEL_RETURN_IF_ERROR(Fill(request.model_dir));
  evenkeel_error error = {};
  if (evenkeel_resume(parts_.region, request.version, &error) != EVENKEEL_OK) {
    return absl::InternalError(error.message);
  }
  parts_.counters->suspended = false;
  parts_.counters->weights_version = request.version;
  ++parts_.counters->reloads;
  return absl::OkStatus();
}

absl::Status Reload::Suspend() {
  for (;;) {
    evenkeel_error error = {};
    const int code = evenkeel_suspend(parts_.region, absl::ToDoubleSeconds(kLook), &error);
    if (code == EVENKEEL_OK) return absl::OkStatus();
    if (code != EVENKEEL_DEADLINE_EXCEEDED) return absl::InternalError(error.message);
    if (parts_.go_on(absl::ZeroDuration())) continue;
    evenkeel_resume(parts_.region, evenkeel_weights_version(parts_.region), &error);
    return absl::CancelledError("told to end before it was suspended");
  }
}

absl::Status Reload::Fill(const std::string& model_dir) {
  EVENKEEL_ASSIGN_OR_RETURN(const Safetensors file, Safetensors::ReadFile(model_dir + "/model.safetensors"));
  for (int layer = 0; layer < config_.num_layers; ++layer) {
    for (int slot = 0; parts_.slots->InRange(layer, slot); ++slot) {
      const int expert = evenkeel_reload_expert(parts_.region, layer, slot);
      if (expert < 0) continue;
      EVENKEEL_ASSIGN_OR_RETURN(const ExpertTensors tensors, LoadExpert(file, config_, layer, expert));
      EVENKEEL_RETURN_IF_ERROR(parts_.slots->Fill(layer, slot, expert, tensors));
    }
  }
  return absl::OkStatus();
}

}  // namespace evenkeel::engine
