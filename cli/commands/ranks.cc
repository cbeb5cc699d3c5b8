// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "algos/base/status_macros.h"
#include "cli/command.h"
#include "cli/commands/operation_text.h"
#include "cli/table.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr Option kOptions[] = {
    {"group", "G", "which group; may be left out where there is one"},
    {"all", "", "also ranks that never were there"},
    {"watch", "", "go on until interrupted: a line for each rank that changes"},
};

std::string StandingText(const v1::RankStatus& rank) {
  if (rank.safe_to_terminate()) return "left, safe to terminate";
  return absl::AsciiStrToLower(absl::StripPrefix(v1::RankStanding_Name(rank.standing()), "RANK_STANDING_"));
}

std::string AgentText(const v1::RankStatus& rank) {
  if (rank.attached()) return rank.alive() ? "attached" : "attached, engine ended";
  if (rank.waiting()) return "waits";
  return rank.incarnation() == 0 ? "-" : "away";
}

// Nothing to tell of it.
bool IsBlank(const v1::RankStatus& rank) {
  return rank.standing() == v1::RANK_STANDING_ABSENT && !rank.attached() && !rank.waiting() && rank.operation().empty();
}

std::string NoteOf(const v1::RankStatus& rank) {
  return absl::StrCat(rank.note(), rank.note().empty() || rank.operation().empty() ? "" : "; ", rank.operation());
}

std::string Headline(const v1::GroupMembership& group) {
  int serving = 0;
  for (const v1::RankStatus& rank : group.ranks()) serving += rank.standing() == v1::RANK_STANDING_SERVING;
  return absl::StrCat(group.group(), ": ", serving, " ranks serve, at most ", group.ranks_max(), "; view ",
                      group.view_number(), group.forming() ? ", still forming" : "", "\n");
}

std::string RankTable(const v1::GroupMembership& group, bool all) {
  Table table({">RANK", "STANDING", "SINCE", "AGENT", ">SLOTS LIVE", ">OF", "NOTE"});
  for (const v1::RankStatus& rank : group.ranks()) {
    if (!all && IsBlank(rank)) continue;
    table.AddRow({absl::StrCat(rank.rank()), StandingText(rank),
                  rank.since_unix_us() == 0 ? "-" : TimeText(rank.since_unix_us()), AgentText(rank),
                  absl::StrCat(rank.num_slots_live()), absl::StrCat(group.slots_per_rank()), NoteOf(rank)});
  }
  return table.ToString();
}

absl::StatusOr<int> Watch(const Context& context) {
  v1::WatchMembershipRequest request;
  request.set_group(context.arguments.Get("group"));
  const auto call = context.client->Watch();
  const auto reader = context.client->stub().WatchMembership(call.get(), request);
  v1::GroupMembership update;
  std::map<std::pair<std::string, uint32_t>, std::string> shown;  // by group and rank
  while (reader->Read(&update)) {
    if (context.json) {
      context.out << ToJson(update) << std::endl;
      continue;
    }
    if (context.terminal) {
      context.out << "\033[H\033[2J" << Headline(update) << "\n"
                  << RankTable(update, context.arguments.Has("all")) << std::flush;
      continue;
    }
    for (const v1::RankStatus& rank : update.ranks()) {
      if (IsBlank(rank) && !context.arguments.Has("all")) continue;
      const std::string note = NoteOf(rank);
      std::string line = absl::StrCat(update.group(), "  view ", update.view_number(), "  rank ", rank.rank(), "  ",
                                      StandingText(rank), "  agent ", AgentText(rank), note.empty() ? "" : "  ", note);
      // What changes with every view alone is no news of the rank.
      std::string news = absl::StrCat(StandingText(rank), AgentText(rank), note);
      std::string& last = shown[{update.group(), rank.rank()}];
      if (last == news) continue;
      last = std::move(news);
      context.out << line << std::endl;
    }
  }
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(reader->Finish(), "watch membership"));
  return kDone;
}

absl::StatusOr<int> Run(const Context& context) {
  if (context.arguments.Has("watch")) return Watch(context);
  v1::GetMembershipRequest request;
  request.set_group(context.arguments.Get("group"));
  v1::GroupMembership group;
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(
      context.client->stub().GetMembership(context.client->Call().get(), request, &group), "get membership"));
  if (context.json) {
    context.out << ToJson(group) << "\n";
  } else {
    context.out << Headline(group) << "\n" << RankTable(group, context.arguments.Has("all"));
  }
  return kDone;
}

}  // namespace

const Command kRanksCommand = {
    "ranks", "who is in a group, who joins and who leaves",
    "One line per rank: how it stands, since when, whether its agent speaks, how many of its slots get tokens, and "
    "what\n"
    "it waits for.\n"
    "  joining    a member whose slots are in no map yet      serving   takes tokens\n"
    "  draining   is being emptied: send it no new requests   left      drained; then safe to terminate\n"
    "  lost       expelled                                    absent    never there (only with --all)\n"
    "'keelctl admit' takes ranks in, 'keelctl drain' takes them out.\n"
    "--json prints evenkeel.v1.GroupMembership; with --watch one per line, whenever it changes.",
    kOptions, Run};

}  // namespace evenkeel::cli
