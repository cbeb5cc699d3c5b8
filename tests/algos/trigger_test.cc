// SPDX-License-Identifier: Apache-2.0
#include "algos/trigger.h"

#include <catch2/catch.hpp>
#include <cmath>

namespace evenkeel::algos {
namespace {

// 8 ranks, 8000 copies a second: a mean rank has 1000. One link carries 1000 bytes a second.
constexpr TriggerOptions kOptions{.min_gain = 0.02, .horizon = absl::Seconds(100), .link_bytes_per_second = 1000};

LayerOutlook Outlook(double now, double planned, uint64_t link_bytes) {
  return {.layer = LayerId(3),
          .imbalance_now = now,
          .imbalance_planned = planned,
          .tokens_per_second = 8000,
          .num_ranks = 8,
          .num_moves = 4,
          .link_bytes = link_bytes};
}

TEST_CASE("a gain that outweighs its bytes acts, and says so in numbers", "[trigger]") {
  const LayerDecision decision = DecideLayer(Outlook(1.5, 1.25, 2000), kOptions);
  CHECK(decision.act);
  CHECK(decision.gain_tokens == Approx(0.25 * 1000 * 100));
  CHECK(decision.price_tokens == Approx(1.5 * 1000 * 2));
  CHECK(decision.reason ==
        "layer 3: imbalance 1.500 to 1.250 with 4 moves, sparing the busiest rank 25000 tokens in 1m40s against "
        "3000 for 2.000 s on the busiest link");
}

TEST_CASE("the same gain does not pay for more bytes, or over a shorter horizon", "[trigger]") {
  CHECK(DecideLayer(Outlook(1.5, 1.25, 16'000), kOptions).act);
  const LayerDecision dear = DecideLayer(Outlook(1.5, 1.25, 17'000), kOptions);
  CHECK_FALSE(dear.act);
  CHECK(dear.reason.find("does not pay") != std::string::npos);
  TriggerOptions hurried = kOptions;
  hurried.horizon = absl::Seconds(10);
  CHECK_FALSE(DecideLayer(Outlook(1.5, 1.25, 2000), hurried).act);
}

TEST_CASE("a fall below the least gain is skipped however cheap", "[trigger]") {
  CHECK_FALSE(DecideLayer(Outlook(1.5, 1.49, 1), kOptions).act);
  CHECK(DecideLayer(Outlook(1.5, 1.47, 1), kOptions).act);
  const LayerDecision worse = DecideLayer(Outlook(1.1, 1.3, 1), kOptions);
  CHECK_FALSE(worse.act);
  CHECK(worse.reason == "layer 3: imbalance 1.100 to 1.300 with 4 moves; skipped, as it must fall by 0.020 at least");
}

TEST_CASE("idle layers, layers without moves and unknown loads are skipped", "[trigger]") {
  LayerOutlook outlook = Outlook(2.0, 1.0, 10);
  outlook.tokens_per_second = 0;
  CHECK(DecideLayer(outlook, kOptions).reason.find("routes no tokens") != std::string::npos);
  outlook = Outlook(2.0, 1.0, 10);
  outlook.num_moves = 0;
  CHECK(DecideLayer(outlook, kOptions).reason.find("stays as it is") != std::string::npos);
  outlook = Outlook(std::nan(""), 1.0, 10);
  CHECK(DecideLayer(outlook, kOptions).reason.find("not known") != std::string::npos);
}

TEST_CASE("the decision does not depend on the amount of traffic, only on its distribution", "[trigger]") {
  const double scale = GENERATE(0.001, 1.0, 1e6);
  for (uint64_t bytes : {10'000u, 20'000u}) {
    LayerOutlook outlook = Outlook(1.5, 1.25, bytes);
    outlook.tokens_per_second *= scale;
    CHECK(DecideLayer(outlook, kOptions).act == (bytes == 10'000));
  }
}

TEST_CASE("layers are judged apart, in order", "[trigger]") {
  std::vector<LayerOutlook> outlooks = {Outlook(1.5, 1.25, 10), Outlook(1.01, 1.0, 10)};
  outlooks[1].layer = LayerId(9);
  const auto decisions = DecideLayers(outlooks, kOptions);
  REQUIRE(decisions.size() == 2);
  CHECK(decisions[0] == DecideLayer(outlooks[0], kOptions));
  CHECK(decisions[1].layer == LayerId(9));
  CHECK_FALSE(decisions[1].act);
}

}  // namespace
}  // namespace evenkeel::algos
