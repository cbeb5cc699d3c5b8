// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/loss_checker.h"

#include <algorithm>
#include <variant>

#include "absl/strings/str_cat.h"

namespace evenkeel::sim {

void LossChecker::Started(int controller, absl::Time now) {
  processes_[controller] = {.started = now, .stepped = now, .groups = {}};
}

void LossChecker::Hears(int controller, int group_idx, StreamId stream_id, const AgentMessage& message,
                        absl::Time now) {
  Group& group = processes_[controller].groups[group_idx];
  if (const auto* attach = std::get_if<Attach>(&message)) {
    group.streams[stream_id] = {.member = attach->member};
    if (attach->view.number > group.told.number) group.told = attach->view;
  }
  const auto stream = group.streams.find(stream_id);
  if (stream == group.streams.end()) return;
  Heard& heard = group.heard[stream->second.member];
  heard.at = now;
  if (const auto* attach = std::get_if<Attach>(&message)) heard.has_maps = !attach->joining || attach->epoch > Epoch();
  if (const auto* quiesced = std::get_if<Quiesced>(&message)) heard.has_maps |= quiesced->epoch > Epoch();
  const auto* status = std::get_if<EngineStatus>(&message);
  if (status == nullptr) return;
  const bool gets_on = status->num_steps != heard.status.num_steps;
  const bool in_step = status->oldest_open_step > absl::ZeroDuration() && status->waiting_for.empty();
  if (gets_on || !in_step) heard.progressed = now;
  heard.status = *status;
  heard.status_at = now;
  heard.busy_until = now + status->busy_lease;
}

void LossChecker::Closes(int controller, int group, StreamId stream) {
  processes_[controller].groups[group].streams.erase(stream);
}

void LossChecker::Sends(int controller, int group_idx, StreamId stream_id, const ControllerMessage& message) {
  Process& process = processes_[controller];
  Group& group = process.groups[group_idx];
  const auto stream = group.streams.find(stream_id);
  if (const auto* update = std::get_if<ViewUpdate>(&message)) {
    if (stream != group.streams.end()) stream->second.told = update->view.number;
    if (update->view.number <= group.sent.number) return;
    const uint64_t sent_before = group.sent.number;
    const View before = group.sent.number > 0 ? group.sent : group.told;
    group.sent = update->view;
    if (before.number >= update->view.number) return;
    // A group that forms expels before it has a view to say so: what it heard since does not matter.
    const bool forms = sent_before == 0;
    const bool early = process.stepped - process.started < world_.rules.agent_reconnect_max + world_.rules.agent_lease;
    for (const Member& member : before.members) {
      const auto& after = update->view.members;
      if (std::find(after.begin(), after.end(), member) != after.end()) continue;
      ++num_lost_;
      if (forms && !early) continue;
      const std::string why = WhyNot(process, group, group_idx, before, update->view, member);
      if (why.empty()) continue;
      world_.trace->Violation(absl::StrCat("group ", group_idx, ": view ", update->view.number, " leaves out rank ",
                                           member.rank.value(), ", which lives: ", why));
    }
    return;
  }
  if (std::holds_alternative<Refused>(message)) group.streams.erase(stream_id);  // it is to come anew, or not at all
  const bool follows = std::holds_alternative<MapsUpdate>(message) || std::holds_alternative<MoveOrder>(message);
  if (!follows) return;
  if (const auto* maps = std::get_if<MapsUpdate>(&message); maps != nullptr && maps->view_number > group.sent.number) {
    return world_.trace->Violation(absl::StrCat("group ", group_idx, ": maps of epoch ", maps->epoch.ToString(),
                                                " go out before view ", maps->view_number, ", which they presume"));
  }
  for (const auto& [id, other] : group.streams) {
    if (other.told == 0 || other.told >= group.sent.number) continue;
    world_.trace->Violation(absl::StrCat("group ", group_idx, ": maps or moves go out before view ", group.sent.number,
                                         " has gone to rank ", other.member.rank.value()));
    return;
  }
}

std::string LossChecker::WhyNot(const Process& process, const Group& group, int group_idx, const View& before,
                                const View& after, const Member& member) {
  const absl::Time now = process.stepped;
  if (!world_.lives(group_idx, member) || world_.leaves(group_idx, member)) return "";
  const auto found = group.heard.find(member);
  Heard heard;
  heard.at = process.started;
  if (found != group.heard.end()) heard = found->second;
  if (heard.status.leaving) return "";
  if (now - process.started < world_.rules.agent_reconnect_max + world_.rules.agent_lease) {
    return absl::StrCat("its controller began only ", absl::FormatDuration(now - process.started), " ago");
  }
  if (heard.busy_until > now) return "it had announced a pause";
  absl::Time silent_since = absl::InfiniteFuture();
  if (now - heard.at >= world_.rules.agent_lease) {
    silent_since = heard.at;
  } else if (now - heard.progressed >= world_.rules.engine_lease) {
    silent_since = heard.progressed;
  } else {
    return absl::StrCat("it was heard ", absl::FormatDuration(now - heard.at), " ago");
  }
  size_t num_witnesses = 0, num_alive = 0, num_left = 0, num_with_maps = 0;
  for (const Member& other : before.members) {
    num_alive += world_.lives(group_idx, other);
    num_left += std::find(after.members.begin(), after.members.end(), other) != after.members.end();
    const auto theirs = group.heard.find(other);
    num_with_maps += world_.lives(group_idx, other) && (theirs == group.heard.end() || theirs->second.has_maps);
    if (other == member || theirs == group.heard.end()) continue;
    const EngineStatus& status = theirs->second.status;
    const bool waits =
        std::find(status.waiting_for.begin(), status.waiting_for.end(), member.rank) != status.waiting_for.end();
    const bool is_heard = now - theirs->second.at < world_.rules.agent_lease;
    num_witnesses += waits && is_heard && status.alive && !status.leaving && theirs->second.status_at > silent_since;
  }
  const size_t needed = num_with_maps <= 2 ? 1 : 2;
  if (num_witnesses < needed) {
    return absl::StrCat("it was silent, and ", num_witnesses, " others waited for it; ", needed, " must");
  }
  if (num_left < static_cast<size_t>(world_.ranks_needed)) {
    return absl::StrCat(num_left, " ranks cannot hold every expert");
  }
  if (2 * num_left < num_alive) return absl::StrCat(num_left, " of ", num_alive, " ranks are less than half");
  ++num_silent_;
  return "";
}

}  // namespace evenkeel::sim
