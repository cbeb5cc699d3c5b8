// SPDX-License-Identifier: Apache-2.0
#include "cli/problem_options.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "algos/base/ids.h"
#include "algos/base/status_macros.h"
#include "cli/files/limits.h"

namespace evenkeel::cli {

namespace {

absl::Status Wrong(const Arguments& arguments, absl::string_view name, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("--", name, "=", arguments.Get(name), ": ", why));
}

// A size that an option gives, something else knows, or both alike.
absl::StatusOr<int> SizeFrom(const Arguments& arguments, const char* name, int known, int max) {
  if (!arguments.Has(name) && known == 0) return absl::InvalidArgumentError(absl::StrCat("--", name, " is needed"));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t size, arguments.GetInteger(name, known, 1, max));
  if (known != 0 && size != known) return Wrong(arguments, name, absl::StrCat("the map has ", known));
  return static_cast<int>(size);
}

absl::StatusOr<std::vector<algos::Pin>> PinsFrom(const Arguments& arguments, const algos::Problem& problem) {
  std::vector<algos::Pin> pins;
  if (!arguments.Has("pin")) return pins;
  const int ends[] = {problem.num_layers, problem.shape.num_experts, problem.shape.num_ranks};
  constexpr const char* kNames[] = {"layer", "expert", "rank"};
  const std::string text = arguments.Get("pin");
  for (absl::string_view pin : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(pin, ':');
    int ids[3] = {0, 0, 0};
    for (size_t i = 0; i < 3; ++i) {
      if (parts.size() != 3 || !absl::SimpleAtoi(parts[i], &ids[i])) {
        return Wrong(arguments, "pin",
                     absl::StrCat("'", pin, "' is no LAYER:EXPERT:RANK; several are joined by commas"));
      }
      if (ids[i] < 0 || ids[i] >= ends[i]) {
        return Wrong(arguments, "pin", absl::StrCat("there is no ", kNames[i], " ", ids[i], "; there are ", ends[i]));
      }
    }
    pins.push_back({LayerId(ids[0]), ExpertId(ids[1]), RankId(ids[2])});
  }
  return pins;
}

absl::StatusOr<std::vector<bool>> DeadRanksFrom(const Arguments& arguments, int num_ranks) {
  std::vector<bool> dead;
  EVENKEEL_ASSIGN_OR_RETURN(const auto ranks, arguments.GetRanges("dead-ranks", static_cast<uint32_t>(num_ranks - 1)));
  if (ranks.empty()) return dead;
  dead.assign(static_cast<size_t>(num_ranks), false);
  for (uint32_t rank : ranks) dead[rank] = true;
  return dead;
}

// One rank, or host, at least must be left to hold the experts.
absl::StatusOr<algos::Survive> SurviveFrom(const Arguments& arguments, const algos::Problem& problem) {
  const std::vector<int32_t> host_of_rank = algos::HostOfRank(problem);
  std::set<int32_t> living_hosts;
  int living_ranks = 0;
  for (int r = 0; r < problem.shape.num_ranks; ++r) {
    if (!problem.IsLive(RankId(r))) continue;
    ++living_ranks;
    living_hosts.insert(host_of_rank[static_cast<size_t>(r)]);
  }
  const auto from = [&](const char* name, int64_t living) -> absl::StatusOr<int> {
    EVENKEEL_ASSIGN_OR_RETURN(const int64_t losses, arguments.GetInteger(name, 0, 0, kRanksMax));
    if (losses == 0 || losses < living) return static_cast<int>(losses);
    return Wrong(arguments, name, absl::StrCat("there are ", living, "; one at least must be left"));
  };
  algos::Survive survive;
  EVENKEEL_ASSIGN_OR_RETURN(survive.ranks, from("survive-ranks", living_ranks));
  EVENKEEL_ASSIGN_OR_RETURN(survive.hosts, from("survive-hosts", static_cast<int64_t>(living_hosts.size())));
  return survive;
}

}  // namespace

absl::StatusOr<std::vector<double>> NumbersFrom(const Arguments& arguments, std::string_view name, size_t count) {
  const std::string key(name), text = arguments.Get(key);
  std::vector<double> numbers;
  for (absl::string_view piece : absl::StrSplit(text, ',')) {
    double number = 0;
    if (!absl::SimpleAtod(piece, &number) || !std::isfinite(number)) {
      return Wrong(arguments, key, absl::StrCat("'", piece, "' is no number"));
    }
    numbers.push_back(number);
  }
  if (numbers.size() != count) {
    return Wrong(arguments, key, absl::StrCat(numbers.size(), " numbers; wanted are ", count));
  }
  return numbers;
}

absl::StatusOr<algos::Problem> ProblemFrom(const Arguments& arguments, const KnownSizes& known) {
  algos::Problem problem;
  problem.num_layers = known.num_layers;
  problem.shape.num_experts = known.num_experts;
  EVENKEEL_ASSIGN_OR_RETURN(problem.shape.num_ranks, SizeFrom(arguments, "ranks", known.num_ranks, kRanksMax));
  EVENKEEL_ASSIGN_OR_RETURN(problem.shape.slots_per_rank, SizeFrom(arguments, "slots-per-rank", known.slots_per_rank,
                                                                   kSlotsMax / problem.shape.num_ranks));
  if (problem.shape.num_redundant() < 0) {
    return absl::InvalidArgumentError(absl::StrCat(problem.shape.num_ranks, " ranks x ", problem.shape.slots_per_rank,
                                                   " slots have room for ", problem.shape.num_slots(),
                                                   " experts; there are ", problem.shape.num_experts));
  }
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t nodes, arguments.GetInteger("nodes", 1, 1, problem.shape.num_ranks));
  if (problem.shape.num_ranks % nodes != 0) {
    return Wrong(arguments, "nodes", absl::StrCat(problem.shape.num_ranks, " ranks cannot be divided among them"));
  }
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t groups,
                            arguments.GetInteger("expert-groups", 1, 1, problem.shape.num_experts));
  if (problem.shape.num_experts % groups != 0) {
    return Wrong(arguments, "expert-groups",
                 absl::StrCat(problem.shape.num_experts, " experts cannot be divided among them"));
  }
  problem.num_nodes = static_cast<int>(nodes);
  problem.num_expert_groups = static_cast<int>(groups);
  EVENKEEL_ASSIGN_OR_RETURN(problem.dead_ranks, DeadRanksFrom(arguments, problem.shape.num_ranks));
  EVENKEEL_ASSIGN_OR_RETURN(problem.pins, PinsFrom(arguments, problem));
  if (arguments.Has("capacities")) {
    EVENKEEL_ASSIGN_OR_RETURN(problem.capacities,
                              NumbersFrom(arguments, "capacities", static_cast<size_t>(problem.shape.num_ranks)));
    if (std::ranges::any_of(problem.capacities, [](double c) { return c <= 0; })) {
      return Wrong(arguments, "capacities", "each must be above 0");
    }
  }
  if (arguments.Has("hosts")) {
    EVENKEEL_ASSIGN_OR_RETURN(const std::vector<double> of_rank,
                              NumbersFrom(arguments, "hosts", static_cast<size_t>(problem.shape.num_ranks)));
    for (double host : of_rank) {
      if (host < 0 || host > kRanksMax || host != std::floor(host)) {
        return Wrong(arguments, "hosts", absl::StrCat("hosts are 0 to ", kRanksMax));
      }
      problem.hosts.push_back(static_cast<int32_t>(host));
    }
  }
  EVENKEEL_ASSIGN_OR_RETURN(problem.survive, SurviveFrom(arguments, problem));
  if (arguments.Has("cost")) {
    EVENKEEL_ASSIGN_OR_RETURN(const std::vector<double> cost, NumbersFrom(arguments, "cost", 2));
    if (cost[0] < 0 || cost[1] < 0 || cost[0] + cost[1] <= 0) {
      return Wrong(arguments, "cost", "neither may be negative, nor both 0");
    }
    problem.cost = {.per_expert = cost[0], .per_token = cost[1]};
  }
  return problem;
}

std::string_view DefaultPolicyName() { return algos::FindPolicy("flex").ok() ? "flex" : "greedy"; }

absl::StatusOr<algos::PolicyConfig> PolicyConfigFrom(const Arguments& arguments) {
  algos::PolicyConfig config;
  if (!arguments.Has("policy-config")) return config;
  const std::string text = arguments.Get("policy-config");
  for (absl::string_view piece : absl::StrSplit(text, ',')) {
    const size_t equals = piece.find('=');
    double value = 0;
    if (equals == absl::string_view::npos || equals == 0 || !absl::SimpleAtod(piece.substr(equals + 1), &value) ||
        !std::isfinite(value)) {
      return Wrong(arguments, "policy-config", absl::StrCat("'", piece, "' is no NAME=NUMBER"));
    }
    const std::string name(piece.substr(0, equals));
    if (!config.options.emplace(name, value).second) {
      return Wrong(arguments, "policy-config", absl::StrCat(name, " is given twice"));
    }
  }
  return config;
}

}  // namespace evenkeel::cli
