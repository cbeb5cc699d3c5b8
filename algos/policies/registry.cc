// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/registry.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "algos/flex/flex_policy.h"
#include "algos/policies/constraints.h"
#include "algos/policies/greedy.h"
#include "algos/policies/peers/deepseek.h"
#include "algos/policies/peers/deepseek_vec.h"
#include "algos/policies/peers/default_eplb.h"
#include "algos/policies/peers/elasticity_aware.h"
#include "algos/policies/peers/flashlb/flashlb.h"
#include "algos/policies/peers/random.h"
#include "algos/policies/peers/swift.h"
#include "algos/policies/peers/trtllm.h"
#include "algos/policies/peers/vllm.h"
#include "algos/policies/static.h"

namespace evenkeel::algos {

namespace {

bool Always(const PolicyConfig&) { return true; }

}  // namespace

std::span<const NamedPolicy> AllPolicies() {
  static constexpr NamedPolicy kPolicies[] = {
      {"deepseek",
       "DeepSeek's EPLB, hierarchical and global, bit for bit with stable sorts",
       Within<DeepseekPolicy, Abilities{.groups = true}>,
       {},
       {},
       Always},
      {"deepseek_vec",
       "SGLang's: replicas by the sum of each episode's largest load, dealt in snake order",
       Within<DeepseekVecPolicy, Abilities{.groups = true}>,
       {},
       {},
       Always},
      {"default_eplb",
       "vllm-ascend's: extra replicas dealt rank by rank, one of each expert packed by weight",
       Within<DefaultEplbPolicy>,
       {},
       "1",
       Always},
      {"elasticity_aware",
       "SGLang's: deepseek, and flat over the living ranks once one is dead",
       Within<ElasticityAwarePolicy, Abilities{.dead_ranks = true, .groups = true}>,
       {},
       {},
       Always},
      {"flashlb", "vllm-ascend's FlashLB: replicas and places found together, over the heat of many episodes",
       Within<FlashlbPolicy>, kFlashlbOptions, "3", FlashlbPlansLayersApart},
      {"flex", "few moves after which shares can even out what is expected and all episodes",
       Within<FlexPolicy, Abilities{.dead_ranks = true, .capacities = true, .survive = true}>, kFlexOptions},
      {"greedy",
       "the same idea, no expert twice on a rank, close to the current placement",
       Within<GreedyPolicy, Abilities{.dead_ranks = true, .groups = true}>,
       {},
       {},
       Always},
      {"random", "vllm-ascend's: two ranks of each layer exchange an expert, whatever the load", Within<RandomPolicy>,
       kRandomOptions, "0"},
      {"static", "the placements of a file, whatever the load",
       Within<StaticPolicy, Abilities{.dead_ranks = true, .groups = true, .capacities = true}>},
      {"swift", "swift_balancer with the weight of further replicas corrected", Within<SwiftPolicy>},
      {"swift_balancer",
       "vllm-ascend's SwiftBalancer as published: few exchanges from the current placement",
       Within<SwiftBalancerPolicy>,
       {},
       "2"},
      {"trtllm", "TensorRT-LLM's greedy: replicate and pack what weighs most", Within<TrtllmPolicy>, {}, {}, Always},
      {"vllm",
       "vLLM's default, bit for bit with stable sorts: experts that stay on a rank keep their slots",
       Within<VllmPolicy, Abilities{.groups = true}>,
       {},
       {},
       Always},
  };
  return kPolicies;
}

absl::StatusOr<NamedPolicy> FindPolicy(std::string_view name) {
  std::string known;
  for (const NamedPolicy& policy : AllPolicies()) {
    if (policy.name == name || (!name.empty() && policy.alias == name)) return policy;
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
