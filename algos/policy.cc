// SPDX-License-Identifier: Apache-2.0
#include "algos/policy.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace evenkeel::algos {

std::span<const NamedPolicy> AllPolicies() { return {}; }

absl::StatusOr<Policy> FindPolicy(std::string_view name) {
  std::string known;
  for (const NamedPolicy& policy : AllPolicies()) {
    if (policy.name == name) return policy.policy;
    absl::StrAppend(&known, known.empty() ? "" : ", ", std::string(policy.name));
  }
  return absl::NotFoundError(absl::StrCat("policy '", std::string(name), "': there are ", known));
}

}  // namespace evenkeel::algos
