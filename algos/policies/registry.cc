// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/registry.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "algos/policies/constraints.h"
#include "algos/policies/deepseek.h"
#include "algos/policies/greedy.h"

namespace evenkeel::algos {

std::span<const NamedPolicy> AllPolicies() {
  static constexpr NamedPolicy kPolicies[] = {
      {"deepseek", "DeepSeek's EPLB, hierarchical and global, bit for bit with stable sorts",
       Within<DeepseekPolicy, {.groups = true}>},
      {"greedy", "the same idea, no expert twice on a rank, close to the current placement",
       Within<GreedyPolicy, {.dead_ranks = true, .groups = true}>},
  };
  return kPolicies;
}

absl::StatusOr<NamedPolicy> FindPolicy(std::string_view name) {
  std::string known;
  for (const NamedPolicy& policy : AllPolicies()) {
    if (policy.name == name) return policy;
    absl::StrAppend(&known, known.empty() ? "" : ", ", std::string(policy.name));
  }
  return absl::NotFoundError(absl::StrCat("policy '", std::string(name), "': there are ", known));
}

absl::StatusOr<std::vector<LayerPlan>> PlanBy(std::string_view name, const Problem& problem,
                                              const PolicyConfig& config) {
  const absl::StatusOr<NamedPolicy> policy = FindPolicy(name);
  if (!policy.ok()) return policy.status();
  return policy->plan(problem, config);
}

}  // namespace evenkeel::algos
