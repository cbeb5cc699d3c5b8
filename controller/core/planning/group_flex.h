// SPDX-License-Identifier: Apache-2.0
//
// GroupFlex: the Flex that follows a group whose policy is `flex`, and the rules that it solves shares by.
//
// Threads:   none; pure functions.
// Limits:    kCountersMax counters (layers x experts), about 100 MB; larger groups are planned from windows each time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "algos/flex/flex.h"
#include "algos/problem.h"
#include "controller/core/event.h"

namespace evenkeel::controller {

inline constexpr std::string_view kFlexPolicy = "flex";
inline constexpr int64_t kCountersMax = int64_t{1} << 18;

// Whether there is one. Not where another policy is configured, where maps never change, where the group is too large.
bool FollowedByFlex(const GroupInfo& info, const GroupSettings& settings);
// None where there is to be none, or the policy does not have the options configured.
std::optional<algos::Flex> FlexFor(const GroupInfo& info, const GroupSettings& settings);

// A problem without placements. `window`: the newest with load. `absent`: ranks that hold nothing; empty: none.
algos::Problem ShareRules(const GroupInfo& info, const PlanningSettings& settings, algos::Load window,
                          std::vector<bool> absent = {});

// What Flex expects of the layer, of as many tokens as `tokens` are together.
std::vector<uint64_t> ExpectedTokens(const algos::Flex& flex, LayerId layer, std::span<const uint64_t> tokens);

}  // namespace evenkeel::controller
