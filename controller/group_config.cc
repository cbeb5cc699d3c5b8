// SPDX-License-Identifier: Apache-2.0
#include "controller/group_config.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "controller/guard_config.h"
#include "controller/planning_config.h"
#include "proto/convert_common.h"
#include "proto/evenkeel/v1/config.pb.h"

namespace evenkeel::controller {
namespace {

constexpr uint64_t kHourMs = 3'600'000;
constexpr uint64_t kDayMs = 24 * kHourMs;
constexpr double kGigabyte = 1e9;
constexpr size_t kPathBytesMax = 1024;  // file names come behind

absl::Status ReadRatio(const std::string& path, bool has, double value, double* target) {
  if (!has) return absl::OkStatus();
  if (!std::isfinite(value) || value < 0 || value > 1000) return proto::Bad(path, value, "0 to 1000");
  *target = value;
  return absl::OkStatus();
}

absl::Status ReadAgent(const std::string& path, const v1::AgentConfig& config, AgentSettings* settings) {
  const auto field = [&](absl::string_view name) { return absl::StrCat(path, ".", name); };
  EVENKEEL_RETURN_IF_ERROR(ReadMs({field("report_interval_ms"), 10, 60'000}, config.has_report_interval_ms(),
                                  config.report_interval_ms(), &settings->report_interval));
  EVENKEEL_RETURN_IF_ERROR(ReadMs({field("scrub_interval_ms"), 0, kDayMs}, config.has_scrub_interval_ms(),
                                  config.scrub_interval_ms(), &settings->scrub_interval));
  EVENKEEL_RETURN_IF_ERROR(ReadCount({field("concurrent_moves_max"), 1, 1024}, config.has_concurrent_moves_max(),
                                     config.concurrent_moves_max(), &settings->concurrent_moves_max));
  EVENKEEL_RETURN_IF_ERROR(ReadCount({field("attempts_per_source"), 1, 100}, config.has_attempts_per_source(),
                                     config.attempts_per_source(), &settings->attempts_per_source));
  if (config.has_bytes_per_second_max()) settings->bytes_per_second_max = config.bytes_per_second_max();
  if (config.has_pool_gb_per_host()) {
    const double gigabytes = config.pool_gb_per_host();
    if (!(gigabytes >= 0 && gigabytes <= 1e6)) return proto::Bad(field("pool_gb_per_host"), gigabytes, "0 to 1000000");
    settings->pool_bytes = static_cast<uint64_t>(std::llround(gigabytes * kGigabyte));
  }
  if (config.has_snapshot_directory()) {
    const std::string& directory = config.snapshot_directory();
    if (!directory.empty() && (directory[0] != '/' || directory.size() > kPathBytesMax)) {
      return absl::InvalidArgumentError(absl::StrCat(field("snapshot_directory"), " is '", directory,
                                                     "': an absolute path of at most ", kPathBytesMax,
                                                     " bytes, or nothing wanted"));
    }
    settings->snapshot_directory = directory;
  }
  if (config.has_store_bytes_per_second_max()) {
    settings->store_bytes_per_second = config.store_bytes_per_second_max();
  }
  if (config.has_transport()) {
    if (!config.transport().empty() && config.transport() != "local" && config.transport() != "ucx" &&
        config.transport() != "ipc") {
      return absl::InvalidArgumentError(
          absl::StrCat(field("transport"), " is '", config.transport(), "': local, ucx, ipc or nothing wanted"));
    }
    settings->transport = config.transport();
  }
  return absl::OkStatus();
}

// Settings that nobody configured go where `policy` puts them.
void TakePace(const std::string& policy, const v1::GroupConfig& below, GroupSettings* settings) {
  const Pace pace = PaceOf(policy);
  if (!below.has_placement_interval_ms()) settings->placement_interval = pace.placement_interval;
  if (below.has_layer_moves_per_100_windows()) return;
  settings->planning.layer_moves_per_100_windows = pace.layer_moves_per_100_windows;
}

uint32_t Ms(absl::Duration duration) { return static_cast<uint32_t>(absl::ToInt64Milliseconds(duration)); }
uint32_t Count(int count) { return static_cast<uint32_t>(count); }

}  // namespace

absl::Status ReadMs(const FieldRange& range, bool has, uint64_t value, absl::Duration* target) {
  if (!has) return absl::OkStatus();
  EVENKEEL_RETURN_IF_ERROR(proto::CheckRange(range.path, value, range.low, range.high));
  *target = absl::Milliseconds(value);
  return absl::OkStatus();
}

absl::Status ReadCount(const FieldRange& range, bool has, uint64_t value, int* target) {
  if (!has) return absl::OkStatus();
  EVENKEEL_RETURN_IF_ERROR(proto::CheckRange(range.path, value, range.low, range.high));
  *target = static_cast<int>(value);
  return absl::OkStatus();
}

absl::Status ReadGroup(absl::string_view path, const v1::GroupConfig& c, const v1::GroupConfig& below,
                       GroupSettings* settings) {
  GroupSettings& s = *settings;
  const auto field = [&](absl::string_view name) { return absl::StrCat(path, ".", name); };
  if (c.has_mode()) {
    const absl::StatusOr<Mode> mode = ParseMode(c.mode());
    if (!mode.ok()) return absl::InvalidArgumentError(field(mode.status().message()));
    s.mode = *mode;
  }
  if (c.has_policy()) TakePace(c.policy(), below, settings);
  EVENKEEL_RETURN_IF_ERROR(ReadPlanning(path, c, &s.policy, &s.planning));
  if (c.has_shares_enabled()) s.shares_enabled = c.shares_enabled();
  if (c.has_placement_enabled()) s.placement_enabled = c.placement_enabled();
  if (c.has_auto_rejoin()) s.auto_rejoin = c.auto_rejoin();
  if (c.has_auto_admit()) s.auto_admit = c.auto_admit();

  const struct {
    const char* name;
    uint64_t low, high;
    bool has;
    uint64_t value;
    absl::Duration* target;
  } times[] = {
      {"shares_interval_ms", 10, kHourMs, c.has_shares_interval_ms(), c.shares_interval_ms(), &s.shares_interval},
      {"window_ms", 10, kHourMs, c.has_window_ms(), c.window_ms(), &s.window},
      {"placement_interval_ms", 100, kDayMs, c.has_placement_interval_ms(), c.placement_interval_ms(),
       &s.placement_interval},
      {"placement_horizon_ms", 1, 7 * kDayMs, c.has_placement_horizon_ms(), c.placement_horizon_ms(),
       &s.placement_horizon},
      {"move_deadline_ms", 1, kHourMs, c.has_move_deadline_ms(), c.move_deadline_ms(), &s.move_deadline},
      {"wave_deadline_ms", 1, kHourMs, c.has_wave_deadline_ms(), c.wave_deadline_ms(), &s.wave_deadline},
      {"agent_lease_ms", 100, kHourMs, c.has_agent_lease_ms(), c.agent_lease_ms(), &s.agent_lease},
      {"engine_lease_ms", 100, kDayMs, c.has_engine_lease_ms(), c.engine_lease_ms(), &s.engine_lease},
      {"agent_reconnect_max_ms", 0, kHourMs, c.has_agent_reconnect_max_ms(), c.agent_reconnect_max_ms(),
       &s.agent.reconnect_max},
      {"drain_grace_ms", 0, kDayMs, c.has_drain_grace_ms(), c.drain_grace_ms(), &s.drain_grace},
  };
  for (const auto& time : times) {
    EVENKEEL_RETURN_IF_ERROR(ReadMs({field(time.name), time.low, time.high}, time.has, time.value, time.target));
  }

  EVENKEEL_RETURN_IF_ERROR(
      ReadRatio(field("shares_min_gain"), c.has_shares_min_gain(), c.shares_min_gain(), &s.shares_min_gain));
  EVENKEEL_RETURN_IF_ERROR(ReadRatio(field("placement_min_gain"), c.has_placement_min_gain(), c.placement_min_gain(),
                                     &s.placement_min_gain));
  if (c.has_link_bytes_per_second()) {
    EVENKEEL_RETURN_IF_ERROR(
        proto::CheckRange(field("link_bytes_per_second"), c.link_bytes_per_second(), 1, proto::kBytesMax));
    s.link_bytes_per_second = c.link_bytes_per_second();
  }

  const struct {
    const char* name;
    uint64_t high;
    bool has;
    uint32_t value;
    int* target;
  } counts[] = {
      {"num_windows_kept", 100'000, c.has_num_windows_kept(), c.num_windows_kept(), &s.num_windows_kept},
      {"num_windows_for_shares", 100'000, c.has_num_windows_for_shares(), c.num_windows_for_shares(),
       &s.num_windows_for_shares},
      {"num_windows_for_placement", 100'000, c.has_num_windows_for_placement(), c.num_windows_for_placement(),
       &s.num_windows_for_placement},
      {"concurrent_layers_max", 4096, c.has_concurrent_layers_max(), c.concurrent_layers_max(),
       &s.concurrent_layers_max},
      {"moves_per_rank_max", 65'536, c.has_moves_per_rank_max(), c.moves_per_rank_max(), &s.moves_per_rank_max},
      {"copies_per_source_max", 65'536, c.has_copies_per_source_max(), c.copies_per_source_max(),
       &s.copies_per_source_max},
      {"mismatches_until_condemned", 1000, c.has_mismatches_until_condemned(), c.mismatches_until_condemned(),
       &s.mismatches_until_condemned},
      {"witnesses", 1000, c.has_witnesses(), c.witnesses(), &s.witnesses},
  };
  for (const auto& count : counts) {
    EVENKEEL_RETURN_IF_ERROR(ReadCount({field(count.name), 1, count.high}, count.has, count.value, count.target));
  }
  for (const auto& [name, windows] : {std::pair{"num_windows_for_shares", s.num_windows_for_shares},
                                      std::pair{"num_windows_for_placement", s.num_windows_for_placement}}) {
    if (windows > s.num_windows_kept) {
      return proto::Bad(field(name), windows, absl::StrCat("at most num_windows_kept, ", s.num_windows_kept, ","));
    }
  }
  EVENKEEL_RETURN_IF_ERROR(ReadGuard(path, c, &s));
  return ReadAgent(field("agent"), c.agent(), &s.agent);
}

void WriteGroup(const GroupSettings& s, v1::GroupConfig* c) {
  c->set_mode(NameOf(s.mode));
  c->set_policy(s.policy);
  WritePlanning(s.planning, c);
  WriteGuard(s, c);
  c->set_shares_enabled(s.shares_enabled);
  c->set_shares_interval_ms(Ms(s.shares_interval));
  c->set_shares_min_gain(s.shares_min_gain);
  c->set_window_ms(Ms(s.window));
  c->set_num_windows_kept(Count(s.num_windows_kept));
  c->set_num_windows_for_shares(Count(s.num_windows_for_shares));
  c->set_placement_enabled(s.placement_enabled);
  c->set_placement_interval_ms(Ms(s.placement_interval));
  c->set_num_windows_for_placement(Count(s.num_windows_for_placement));
  c->set_placement_min_gain(s.placement_min_gain);
  c->set_placement_horizon_ms(static_cast<uint64_t>(absl::ToInt64Milliseconds(s.placement_horizon)));
  c->set_link_bytes_per_second(s.link_bytes_per_second);
  c->set_concurrent_layers_max(Count(s.concurrent_layers_max));
  c->set_moves_per_rank_max(Count(s.moves_per_rank_max));
  c->set_copies_per_source_max(Count(s.copies_per_source_max));
  c->set_move_deadline_ms(Ms(s.move_deadline));
  c->set_wave_deadline_ms(Ms(s.wave_deadline));
  c->set_mismatches_until_condemned(Count(s.mismatches_until_condemned));
  c->set_auto_rejoin(s.auto_rejoin);
  c->set_auto_admit(s.auto_admit);
  c->set_drain_grace_ms(Ms(s.drain_grace));
  c->set_agent_lease_ms(Ms(s.agent_lease));
  c->set_engine_lease_ms(Ms(s.engine_lease));
  c->set_agent_reconnect_max_ms(Ms(s.agent.reconnect_max));
  c->set_witnesses(Count(s.witnesses));
  v1::AgentConfig* agent = c->mutable_agent();
  agent->set_report_interval_ms(Ms(s.agent.report_interval));
  agent->set_bytes_per_second_max(s.agent.bytes_per_second_max);
  agent->set_concurrent_moves_max(Count(s.agent.concurrent_moves_max));
  agent->set_attempts_per_source(Count(s.agent.attempts_per_source));
  agent->set_transport(s.agent.transport);
  agent->set_scrub_interval_ms(Ms(s.agent.scrub_interval));
  agent->set_pool_gb_per_host(static_cast<double>(s.agent.pool_bytes) / kGigabyte);
  agent->set_snapshot_directory(s.agent.snapshot_directory);
  agent->set_store_bytes_per_second_max(s.agent.store_bytes_per_second);
}

}  // namespace evenkeel::controller
