// SPDX-License-Identifier: Apache-2.0
#include "cli/commands/operation_text.h"

#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

namespace evenkeel::cli {
namespace {

namespace v1 = evenkeel::v1;

// The words of each line.
std::vector<std::vector<std::string>> Rows(const std::string& table) {
  std::istringstream lines(table);
  std::vector<std::vector<std::string>> rows;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    rows.emplace_back(std::istream_iterator<std::string>(words), std::istream_iterator<std::string>());
  }
  return rows;
}

TEST_CASE("what was decided has a line for each layer: whether it acts, why, and figures as they are known",
          "[operation_text]") {
  v1::Operation operation;
  v1::LayerDecision& acts = *operation.add_decisions();
  acts.set_layer(3);
  acts.set_act(true);
  acts.set_why(v1::DECISION_REASON_ACTS);
  acts.set_imbalance_before(1.5);
  acts.set_imbalance_after(1.125);
  acts.set_num_moves(4);
  acts.set_gain_tokens(2'000'000);
  acts.set_price_tokens(12);
  v1::LayerDecision& stays = *operation.add_decisions();
  stays.set_layer(12);
  stays.set_why(v1::DECISION_REASON_SMALL_GAIN);
  stays.set_gain_tokens(-5);
  stays.set_reason("gains nothing");

  const std::vector<std::vector<std::string>> rows = Rows(DecisionsText(operation));

  REQUIRE(rows.size() == 3);
  CHECK(rows[0].front() == "LAYER");
  const std::vector<std::string> first = {"3", "yes", "acts", "1.500", "1.125", "4", "2.0M", "12"};
  CHECK(rows[1] == first);
  const std::vector<std::string> second = {"12", "no", "small", "gain", "-", "-", "0", "0", "0", "gains", "nothing"};
  CHECK(rows[2] == second);
}

TEST_CASE("nothing is shown where nothing was decided", "[operation_text]") {
  CHECK(DecisionsText(v1::Operation()).empty());
}

TEST_CASE("an operation goes on until it is done or given up", "[operation_text]") {
  CHECK_FALSE(IsFinal(v1::OPERATION_STATE_RUNNING));
  CHECK(StateText(v1::OPERATION_STATE_RUNNING) == "running");
  const auto state = GENERATE(v1::OPERATION_STATE_DONE, v1::OPERATION_STATE_FAILED, v1::OPERATION_STATE_SKIPPED,
                              v1::OPERATION_STATE_SUPERSEDED, v1::OPERATION_STATE_CANCELLED);
  CAPTURE(StateText(state));
  CHECK(IsFinal(state));
}

TEST_CASE("a cause is told in words", "[operation_text]") {
  CHECK(CauseText(v1::OPERATION_CAUSE_SLOW_LOOP) == "slow loop");
}

}  // namespace
}  // namespace evenkeel::cli
