// SPDX-License-Identifier: Apache-2.0
#include "algos/trigger.h"

#include <cmath>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "algos/base/check.h"

namespace evenkeel::algos {

namespace {

// "layer 3: imbalance 1.412 to 1.021 with 12 moves".
std::string Outline(const LayerOutlook& outlook) {
  return absl::StrFormat("layer %d: imbalance %.3f to %.3f with %d move%s", outlook.layer.value(),
                         outlook.imbalance_now, outlook.imbalance_planned, outlook.num_moves,
                         outlook.num_moves == 1 ? "" : "s");
}

LayerDecision Skip(LayerDecision decision, const LayerOutlook& outlook, std::string_view why) {
  decision.act = false;
  decision.reason = absl::StrCat(Outline(outlook), "; skipped, as ", std::string(why));
  return decision;
}

}  // namespace

LayerDecision DecideLayer(const LayerOutlook& outlook, const TriggerOptions& options) {
  EVENKEEL_CHECK(outlook.num_ranks > 0 && options.link_bytes_per_second > 0);
  LayerDecision decision{.layer = outlook.layer, .act = false, .gain_tokens = 0, .price_tokens = 0, .reason = ""};
  const double fall = outlook.imbalance_now - outlook.imbalance_planned;
  if (!std::isfinite(fall) || !std::isfinite(outlook.tokens_per_second)) {
    return Skip(decision, outlook, "its loads are not known");
  }
  if (outlook.num_moves == 0) return Skip(decision, outlook, "the placement stays as it is");
  if (!(outlook.tokens_per_second > 0)) return Skip(decision, outlook, "it routes no tokens");
  const double rank_tokens_per_second = outlook.tokens_per_second / outlook.num_ranks;
  const double link_seconds =
      static_cast<double>(outlook.link_bytes) / static_cast<double>(options.link_bytes_per_second);
  decision.gain_tokens = fall * rank_tokens_per_second * absl::ToDoubleSeconds(options.horizon);
  decision.price_tokens = outlook.imbalance_now * rank_tokens_per_second * link_seconds;
  if (!(fall >= options.min_gain)) {
    return Skip(decision, outlook, absl::StrFormat("it must fall by %.3f at least", options.min_gain));
  }
  const std::string balance =
      absl::StrFormat("sparing the busiest rank %.0f tokens in %s against %.0f for %.3f s on the busiest link",
                      decision.gain_tokens, absl::FormatDuration(options.horizon), decision.price_tokens, link_seconds);
  if (!(decision.gain_tokens > decision.price_tokens)) {
    return Skip(decision, outlook, absl::StrCat(balance, " does not pay"));
  }
  decision.act = true;
  decision.reason = absl::StrCat(Outline(outlook), ", ", balance);
  return decision;
}

std::vector<LayerDecision> DecideLayers(std::span<const LayerOutlook> outlooks, const TriggerOptions& options) {
  std::vector<LayerDecision> decisions;
  decisions.reserve(outlooks.size());
  for (const LayerOutlook& outlook : outlooks) decisions.push_back(DecideLayer(outlook, options));
  return decisions;
}

}  // namespace evenkeel::algos
