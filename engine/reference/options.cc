// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/options.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "algos/base/status_macros.h"

namespace evenkeel::engine {
namespace {

absl::Status Invalid(absl::string_view what) { return absl::InvalidArgumentError(what); }

}  // namespace

absl::StatusOr<OnLoss> ParseOnLoss(const std::string& name) {
  if (name == "reroute") return OnLoss::kReroute;
  if (name == "wait") return OnLoss::kWait;
  if (name == "drop") return OnLoss::kDrop;
  return Invalid(absl::StrCat("--on_loss is ", name, ": reroute, wait or drop"));
}

int SlotsPerRank(const EngineOptions& options, int num_experts) {
  if (options.slots_per_rank != 0 || options.num_ranks < 1) return options.slots_per_rank;
  const int redundant = options.num_redundant < 0 ? options.num_ranks : options.num_redundant;
  return (num_experts + redundant + options.num_ranks - 1) / options.num_ranks;
}

absl::Status CheckOptions(const EngineOptions& o, const ModelConfig& config) {
  const int slots = SlotsPerRank(o, config.num_experts);
  if (o.run_dir.empty()) return Invalid("--run_dir is needed");
  if (o.group.empty() || o.group.size() > 63) return Invalid("--group: 1 to 63 characters");
  if (o.num_ranks < 1 || o.num_ranks > 4096) return Invalid(absl::StrCat("--ranks is ", o.num_ranks));
  if (o.ranks_max != 0 && (o.ranks_max < o.num_ranks || o.ranks_max > 4096)) {
    return Invalid(absl::StrCat("--ranks_max is ", o.ranks_max, ": at least --ranks, at most 4096"));
  }
  const int first = o.join ? o.num_ranks_ever() : o.num_ranks;
  if (o.rank < 0 || o.rank >= first) return Invalid(absl::StrCat("--rank ", o.rank, " of ", first));
  if (slots < 1 || slots > 1024 || slots * o.num_ranks < config.num_experts) {
    return Invalid(
        absl::StrCat(slots, " slots on each of ", o.num_ranks, " ranks for ", config.num_experts, " experts"));
  }
  if (o.num_lanes < 1 || o.num_lanes > kLanesMax) return Invalid(absl::StrCat("--lanes: 1 to ", kLanesMax));
  if (o.batch < 1 || o.batch > 4096) return Invalid("--batch: 1 to 4096");
  if (o.rows_per_step_max < 1 || o.rows_per_step_max > 4096) return Invalid("--rows_per_step_max: 1 to 4096");
  if (o.prompt_bytes < 1 || o.decode_bytes < 1 || o.prompt_bytes + o.decode_bytes - 1 > config.num_positions_max) {
    return Invalid(absl::StrCat("--prompt_bytes and --decode_bytes: at least 1 each, ", config.num_positions_max + 1,
                                " together"));
  }
  if (o.check != "full" && o.check != "sample" && o.check != "off") return Invalid("--check: full, sample or off");
  if (!(o.check_fraction >= 0 && o.check_fraction <= 1)) return Invalid("--check_fraction: 0 to 1");
  if (o.requests_port < -1 || o.requests_port > 65535)
    return Invalid(absl::StrCat("--requests_port is ", o.requests_port));
  if (!o.background && o.requests_port < 0) return Invalid("--nobackground: without --requests_port nothing is served");
  if (o.device != "cpu" && o.device != "cuda") return Invalid(absl::StrCat("--device is ", o.device, ": cpu or cuda"));
  EVENKEEL_RETURN_IF_ERROR(ParseOnLoss(o.on_loss).status());
  if (o.fail_after_steps < 0) return Invalid("--fail_after_steps: 0 or more");
  return absl::OkStatus();
}
}  // namespace evenkeel::engine
