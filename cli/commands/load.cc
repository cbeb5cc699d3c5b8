// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"

#include "algos/base/status_macros.h"
#include "cli/command.h"
#include "cli/files/file.h"
#include "cli/load/load_run.h"
#include "cli/load/prompts.h"
#include "cli/load/ranks.h"
#include "cli/simulate/progress.h"
#include "cli/table.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr size_t kPromptBytesMax = 64 << 20;
constexpr absl::Duration kFirstWord = absl::Seconds(10);

constexpr Option kOptions[] = {
    {"url", "U", "where ranks take requests; see above"},
    {"prompts", "FILE", "a prompt a line, or JSON lines with prompt and max_tokens"},
    {"group", "G", "whose ranks; may be left out where the controller knows one group"},
    {"concurrency", "N", "requests at a time (default 10)"},
    {"requests", "N", "in all (default 100)"},
    {"timeout", "S", "seconds of one attempt (default 300)"},
    {"no-retry", "", "do not send a request that failed once more"},
    {"no-watch", "", "do not ask the controller who serves: send to every rank of --url"},
    {"out", "FILE", "write the records and the totals as JSON"},
};

// Keeps `ranks` as the group's membership is, from its own thread.
class Follower {
 public:
  Follower(const Context& context, Ranks& ranks) : context_(context), ranks_(ranks), call_(context.client->Watch()) {
    thread_ = std::thread([this] { Follow(); });
  }
  ~Follower() {
    call_->TryCancel();
    thread_.join();
  }

  // Not OK: why nothing is known of the membership.
  absl::Status AwaitFirst() {
    absl::MutexLock lock(&mutex_);
    const auto is_known = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return known_ || ended_.has_value(); };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&is_known), kFirstWord)) {
      return absl::DeadlineExceededError("watch membership: no word from the controller");
    }
    return known_ ? absl::OkStatus() : *ended_;
  }

 private:
  void Follow() {
    v1::WatchMembershipRequest request;
    request.set_group(context_.arguments.Get("group"));
    const auto reader = context_.client->stub().WatchMembership(call_.get(), request);
    v1::GroupMembership membership;
    while (reader->Read(&membership)) {
      std::set<int> serving;
      for (const v1::RankStatus& rank : membership.ranks()) {
        if (rank.standing() == v1::RANK_STANDING_SERVING) serving.insert(static_cast<int>(rank.rank()));
      }
      ranks_.Set(std::move(serving));
      absl::MutexLock lock(&mutex_);
      known_ = true;
    }
    // A controller that is away leaves what was known last.
    const absl::Status status = context_.client->Explain(reader->Finish(), "watch membership");
    absl::MutexLock lock(&mutex_);
    ended_ = status.ok() ? absl::UnavailableError("watch membership: the controller ended it") : status;
  }

  const Context& context_;
  Ranks& ranks_;
  const std::unique_ptr<grpc::ClientContext> call_;
  absl::Mutex mutex_;
  bool known_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> ended_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

void Print(const Context& context, const LoadTotals& totals) {
  context.out << absl::StrFormat(
      "%d requests in %.1f s: %d answered, %d of them at once, %d failed\n"
      "seconds: mean %.3f  min %.3f  p50 %.3f  p99 %.3f  max %.3f\n",
      totals.num_requests, totals.seconds, totals.num_ok, totals.num_ok_at_once, totals.num_failed, totals.mean_seconds,
      totals.min_seconds, totals.p50_seconds, totals.p99_seconds, totals.max_seconds);
  Table table({">RANK", ">ANSWERED"});
  for (const auto& [rank, num_ok] : totals.ok_of_rank) table.AddRow({absl::StrCat(rank), absl::StrCat(num_ok)});
  if (!totals.ok_of_rank.empty()) context.out << table.ToString();
}

absl::StatusOr<int> Run(const Context& context) {
  const Arguments& arguments = context.arguments;
  for (const char* needed : {"url", "prompts"}) {
    if (!arguments.Has(needed)) return absl::InvalidArgumentError(absl::StrCat("--", needed, " is needed"));
  }
  LoadOptions options;
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t concurrency, arguments.GetInteger("concurrency", 10, 1, 1000));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t num_requests, arguments.GetInteger("requests", 100, 1, 10'000'000));
  EVENKEEL_ASSIGN_OR_RETURN(const double timeout, arguments.GetNumber("timeout", 300, 0.001, 86'400));
  options.concurrency = static_cast<int>(concurrency);
  options.num_requests = static_cast<int>(num_requests);
  options.timeout = absl::Seconds(timeout);
  options.retry = !arguments.Has("no-retry");
  const std::string prompts_path = arguments.Get("prompts");
  if (arguments.Has("out")) {
    EVENKEEL_RETURN_IF_ERROR(CheckOutputs({{"--out", arguments.Get("out")}}, {{"--prompts", prompts_path}}));
  }
  EVENKEEL_ASSIGN_OR_RETURN(const std::string text, ReadFile(prompts_path, kPromptBytesMax));
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<Prompt> prompts, InFile(prompts_path, ParsePrompts(text)));
  EVENKEEL_ASSIGN_OR_RETURN(const RankUrls urls, RankUrls::Parse(arguments.Get("url")));

  Ranks ranks;
  std::optional<Follower> follower;
  if (arguments.Has("no-watch")) {
    EVENKEEL_ASSIGN_OR_RETURN(std::set<int> listed, urls.Listed());
    if (listed.empty()) return absl::InvalidArgumentError("--no-watch: --url must list the ranks");
    ranks.Set(std::move(listed));
  } else {
    follower.emplace(context, ranks);
    EVENKEEL_RETURN_IF_ERROR(follower->AwaitFirst());
  }

  std::vector<LoadRecord> records;
  const absl::Time begin = absl::Now();
  {
    Progress progress(context.err, context.err_terminal, static_cast<uint64_t>(options.num_requests));
    int num_failed = 0;
    records = RunLoad(
        options, {.prompts = &prompts, .urls = &urls, .ranks = &ranks, .on_done = [&](const LoadRecord& record) {
                    num_failed += !record.ok();
                    progress.Step(num_failed == 0 ? "requests" : absl::StrCat("requests, ", num_failed, " failed"));
                  }});
  }
  const LoadTotals totals = TotalsOf(records, absl::ToDoubleSeconds(absl::Now() - begin));
  const auto json = ToJson(totals, records);
  const auto dumped = [](const nlohmann::ordered_json& value) {
    return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  };
  if (arguments.Has("out")) EVENKEEL_RETURN_IF_ERROR(WriteFile(arguments.Get("out"), dumped(json)));
  if (context.json) {
    context.out << dumped(json);
  } else {
    Print(context, totals);
  }
  return totals.num_failed == 0 ? kDone : kProblem;
}

}  // namespace

const Command kLoadCommand = {
    "load", "send requests to the ranks of a group, and count what comes back",
    "Sends prompts to the ranks that serve, in turns, as the controller's membership says at each moment; a request\n"
    "that fails is sent once more, to another rank. Engines take POST /v1/completions with prompt and max_tokens.\n"
    "--url says where each rank listens:\n"
    "  http://HOST:{8100+rank}      a port, or part of a name, counted on by rank\n"
    "  0=http://A:1,3=http://B:2    these ranks\n"
    "  @FILE                        a JSON object {\"0\": \"http://A:1\", ...}, read anew while it runs\n"
    "--json and --out give one record a request, with its attempts, and the totals. The exit status is 1 if any "
    "request\n"
    "failed in the end.",
    kOptions, Run};

}  // namespace evenkeel::cli
