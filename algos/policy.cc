// SPDX-License-Identifier: Apache-2.0
#include "algos/policy.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "algos/deepseek.h"
#include "algos/greedy.h"

namespace evenkeel::algos {

std::span<const NamedPolicy> AllPolicies() {
  static constexpr NamedPolicy kPolicies[] = {
      {"deepseek", "DeepSeek's EPLB, hierarchical and global, bit for bit with stable sorts", PlanDeepseek},
      {"greedy", "the same idea, no expert twice on a rank, close to the current placement", PlanGreedy},
  };
  return kPolicies;
}

absl::StatusOr<Policy> FindPolicy(std::string_view name) {
  std::string known;
  for (const NamedPolicy& policy : AllPolicies()) {
    if (policy.name == name) return policy.policy;
    absl::StrAppend(&known, known.empty() ? "" : ", ", std::string(policy.name));
  }
  return absl::NotFoundError(absl::StrCat("policy '", std::string(name), "': there are ", known));
}

}  // namespace evenkeel::algos
