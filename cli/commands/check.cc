// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "algos/base/status_macros.h"
#include "cli/command.h"
#include "cli/commands/operation_text.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr Option kOptions[] = {{"group", "G", "which group; may be left out where there is one"}};

// What the report on redundancy does not tell: it names ranks that are away, and static maps.
std::vector<std::string> ProblemsOf(const v1::Group& group) {
  std::vector<std::string> problems;
  if (group.forming()) problems.push_back("the group is still forming: not every rank has attached");
  if (!group.store_problem().empty()) problems.push_back("the controller's store: " + group.store_problem());
  for (const v1::MemberStatus& member : group.members()) {
    const std::string rank = absl::StrCat("rank ", member.member().rank(), ": ");
    if (!member.missing_calls().empty()) problems.push_back(rank + absl::StrJoin(member.missing_calls(), ", "));
    if (member.num_calls_waited() > 0) {
      problems.push_back(absl::StrCat(rank, member.num_calls_waited(), " calls of the engine library waited"));
    }
  }
  for (const v1::MemberStatus& waiting : group.waiting()) {
    problems.push_back(absl::StrCat("rank ", waiting.member().rank(), ": another engine ", waiting.note()));
  }
  for (const v1::WaveBlocked& blocked : group.waves_blocked()) {
    problems.push_back(
        absl::StrCat("layer ", blocked.layer(), " waits for rank ", blocked.rank(), ": ", blocked.reason()));
  }
  for (const std::string& why : group.ineffective()) {
    if (why != group.static_reason() && !group.forming())
      problems.push_back("balancing is on but has no effect: " + why);
  }
  if (!group.paused_by().empty()) {
    problems.push_back(absl::StrCat("paused by an operator", group.pause_reason().empty() ? "" : ": ",
                                    group.pause_reason(), "; 'keelctl resume' ends it"));
  }
  for (const v1::Alert& alert : group.alerts()) {
    if (alert.ended_unix_us() == 0) problems.push_back(AlertText(alert));
  }
  return problems;
}

void ShowJson(const Context& context, const v1::RedundancyReport& report, const std::vector<std::string>& problems) {
  // One object of two: the report as it came, and all problems in words.
  v1::RedundancyReport all = report;
  all.mutable_problems()->Assign(problems.begin(), problems.end());
  context.out << ToJson(all) << "\n";
}

// The layers that may lose least, and what they would lose.
void ShowRisk(const Context& context, const v1::RedundancyReport& report) {
  const bool asked = report.survive_ranks() > 0 || report.survive_hosts() > 0;
  if (asked) {
    context.out << "asked to survive any " << report.survive_ranks() << " ranks and any " << report.survive_hosts()
                << " hosts\n";
  }
  constexpr int kLayersShown = 4, kExpertsShown = 16;
  int num_shown = 0;
  for (const v1::LayerRedundancy& layer : report.layers()) {
    const bool is_least = asked ? !layer.experts_at_risk().empty()
                                : layer.ranks_may_be_lost_at_once() == report.ranks_may_be_lost_at_once();
    if (!is_least) continue;
    if (++num_shown > kLayersShown) continue;
    const auto& experts = layer.experts_at_risk();
    const int count = std::min(experts.size(), kExpertsShown);
    context.out << "at risk in layer " << layer.layer() << ": experts "
                << absl::StrJoin(experts.begin(), experts.begin() + count, ", ");
    if (experts.size() > count) context.out << " and " << experts.size() - count << " more";
    context.out << "\n";
  }
  if (num_shown > kLayersShown) context.out << "and in " << num_shown - kLayersShown << " further layers (--json)\n";
}

absl::StatusOr<int> Run(const Context& context) {
  v1::CheckRedundancyRequest request;
  request.set_group(context.arguments.Get("group"));
  v1::RedundancyReport report;
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(
      context.client->stub().CheckRedundancy(context.client->Call().get(), request, &report), "check redundancy"));
  v1::GetGroupRequest group_request;
  group_request.set_group(report.group());
  v1::Group group;
  EVENKEEL_RETURN_IF_ERROR(
      context.client->Explain(context.client->stub().GetGroup(context.client->Call().get(), group_request, &group),
                              "get group " + report.group()));

  std::vector<std::string> problems = ProblemsOf(group);
  problems.insert(problems.end(), report.problems().begin(), report.problems().end());
  if (context.json) {
    ShowJson(context, report, problems);
  } else {
    context.out << "group " << report.group() << ": may lose " << report.ranks_may_be_lost_serving()
                << " ranks and go on serving, " << report.ranks_may_be_lost_rebalancing()
                << " and go on rearranging; with the maps in force " << report.ranks_may_be_lost_at_once()
                << " at once without losing an expert for a moment (" << report.ranks_may_be_lost_at_once_rebalancing()
                << " and go on rearranging), or any " << report.hosts_may_be_lost_at_once() << " hosts\n";
    ShowRisk(context, report);
    for (const v1::Alert& alert : group.alerts()) {
      if (alert.ended_unix_us() != 0) context.out << AlertText(alert) << "\n";
    }
    if (!group.mode().empty() && group.mode() != "full") context.out << ModeText(group) << "\n";
    for (const std::string& problem : problems) context.out << "problem: " << problem << "\n";
    if (problems.empty()) context.out << "nothing is wrong\n";
  }
  return problems.empty() ? kDone : kProblem;
}

}  // namespace

const Command kCheckCommand = {
    "check", "is anything wrong; exit status 0 if not",
    "Looks for what an operator should know: ranks without an agent, engines that never call what they must, waves\n"
    "that wait, condemned slots, alerts; and says how many ranks may be lost. Exit status 1 if there is a problem.\n"
    "--json prints evenkeel.v1.RedundancyReport with all problems in `problems`.",
    kOptions, Run};

}  // namespace evenkeel::cli
