// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "algos/policies/registry.h"
#include "cli/command.h"
#include "cli/problem_options.h"
#include "cli/table.h"

namespace evenkeel::cli {

namespace {

std::string Text(std::string_view view) { return std::string(view); }

void PrintJson(const Context& context) {
  nlohmann::ordered_json json = {{"default", DefaultPolicyName()}, {"policies", nlohmann::ordered_json::array()}};
  for (const algos::NamedPolicy& policy : algos::AllPolicies()) {
    nlohmann::ordered_json entry = {{"name", policy.name}, {"alias", policy.alias}, {"summary", policy.summary}};
    entry["options"] = nlohmann::ordered_json::array();
    for (const algos::PolicyOption& option : policy.options) {
      entry["options"].push_back({{"name", option.name},
                                  {"default", option.value},
                                  {"min", option.min},
                                  {"max", option.max},
                                  {"summary", option.summary}});
    }
    json["policies"].push_back(std::move(entry));
  }
  context.out << json.dump() << "\n";
}

absl::StatusOr<int> Run(const Context& context) {
  if (context.json) {
    PrintJson(context);
    return kDone;
  }
  Table policies({"POLICY", "ALSO", "WHAT IT IS"});
  Table options({"POLICY", "OPTION", ">DEFAULT", ">FROM", ">TO", "WHAT IT DOES"});
  bool any = false;
  for (const algos::NamedPolicy& policy : algos::AllPolicies()) {
    const bool is_default = policy.name == DefaultPolicyName();
    policies.AddRow({Text(policy.name), Text(policy.alias),
                     absl::StrCat(Text(policy.summary), is_default ? " (the default)" : "")});
    for (const algos::PolicyOption& option : policy.options) {
      options.AddRow({Text(policy.name), Text(option.name), absl::StrCat(option.value), absl::StrCat(option.min),
                      absl::StrCat(option.max), Text(option.summary)});
      any = true;
    }
  }
  context.out << policies.ToString();
  if (any) context.out << "\n" << options.ToString();
  return kDone;
}

}  // namespace

const Command kPoliciesCommand = {
    .name = "policies",
    .summary = "who can plan, and with which options",
    .teaching =
        "Every policy by the name that --policy, the controller's configuration and its requests know, ALSO its\n"
        "number in vllm-ascend, and the options that --policy-config=name=value,... sets, with their bounds.",
    .options = {},
    .run = Run,
    .offline = true};

}  // namespace evenkeel::cli
