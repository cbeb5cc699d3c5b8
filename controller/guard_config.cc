// SPDX-License-Identifier: Apache-2.0
#include "controller/guard_config.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "proto/convert_common.h"
#include "proto/evenkeel/v1/config.pb.h"

namespace evenkeel::controller {

namespace {

constexpr int kFreezesMax = 64;
constexpr uint64_t kHourMs = 3'600'000;
constexpr double kSlowdownMax = 100;

absl::Status ReadFreezes(absl::string_view path, const v1::GroupConfig& config, std::vector<Freeze>* freezes) {
  if (config.freeze().empty()) return absl::OkStatus();
  const std::string field = absl::StrCat(path, ".freeze");
  if (config.freeze_size() > kFreezesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, " has ", config.freeze_size(), " entries: at most ", kFreezesMax, " wanted"));
  }
  freezes->clear();
  for (const std::string& text : config.freeze()) {
    const absl::StatusOr<Freeze> freeze = ParseFreeze(text);
    if (!freeze.ok()) return absl::InvalidArgumentError(absl::StrCat(field, " ", freeze.status().message()));
    freezes->push_back(*freeze);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadGuard(absl::string_view path, const v1::GroupConfig& config, GroupSettings* settings) {
  EVENKEEL_RETURN_IF_ERROR(ReadFreezes(path, config, &settings->freezes));
  const v1::GuardConfig& c = config.guard();
  GuardSettings& guard = settings->guard;
  const auto field = [&](absl::string_view name) { return absl::StrCat(path, ".guard.", name); };
  if (c.has_step_time_p99_max_us()) {
    EVENKEEL_RETURN_IF_ERROR(
        proto::CheckRange(field("step_time_p99_max_us"), c.step_time_p99_max_us(), 0, 1000 * kHourMs));
    guard.step_time_p99_max = absl::Microseconds(c.step_time_p99_max_us());
  }
  if (c.has_slowdown_max()) {
    if (!(c.slowdown_max() >= 0 && c.slowdown_max() <= kSlowdownMax)) {
      return proto::Bad(field("slowdown_max"), c.slowdown_max(), "0 to 100");
    }
    guard.slowdown_max = c.slowdown_max();
  }
  if (c.has_window_ms()) {
    EVENKEEL_RETURN_IF_ERROR(proto::CheckRange(field("window_ms"), c.window_ms(), 100, kHourMs));
    guard.window = absl::Milliseconds(c.window_ms());
  }
  if (c.has_rest_ms()) {
    EVENKEEL_RETURN_IF_ERROR(proto::CheckRange(field("rest_ms"), c.rest_ms(), 0, 24 * kHourMs));
    guard.rest = absl::Milliseconds(c.rest_ms());
  }
  return absl::OkStatus();
}

void WriteGuard(const GroupSettings& settings, v1::GroupConfig* config) {
  for (const Freeze& freeze : settings.freezes) config->add_freeze(ToString(freeze));
  v1::GuardConfig* guard = config->mutable_guard();
  guard->set_step_time_p99_max_us(static_cast<uint64_t>(absl::ToInt64Microseconds(settings.guard.step_time_p99_max)));
  guard->set_slowdown_max(settings.guard.slowdown_max);
  guard->set_window_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(settings.guard.window)));
  guard->set_rest_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(settings.guard.rest)));
}

}  // namespace evenkeel::controller
