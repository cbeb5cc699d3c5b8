// SPDX-License-Identifier: Apache-2.0
#include "cli/load/prompts.h"

#include "catch2/catch.hpp"

namespace evenkeel::cli {
namespace {

TEST_CASE("a line is a prompt, or JSON that says more", "[prompts]") {
  const auto prompts = ParsePrompts("one two\r\n\n{\"prompt\": \"{x\", \"max_tokens\": 7}\nlast");
  REQUIRE(prompts.ok());
  REQUIRE(prompts->size() == 3);
  CHECK(prompts->at(0).text == "one two");
  CHECK(!prompts->at(0).tokens_max.has_value());
  CHECK(prompts->at(1).text == "{x");
  CHECK(prompts->at(1).tokens_max == 7);
  CHECK(prompts->at(2).text == "last");
}

TEST_CASE("what is wrong in a file of prompts is named with its line", "[prompts]") {
  const auto message = [](std::string_view text) { return std::string(ParsePrompts(text).status().message()); };
  CHECK(message("") == "no prompt in it");
  CHECK(message("\n\n") == "no prompt in it");
  CHECK(message("a\n{") == "line 2: begins with '{' and is no JSON object");
  CHECK(message("{}") == "line 1: \"prompt\" is missing or no text");
  CHECK(message("{\"prompt\": \"\"}") == "line 1: \"prompt\" is empty");
  CHECK(message("{\"prompt\": \"a\", \"max_tokens\": 0}") == "line 1: \"max_tokens\" is no whole number from 1");
  CHECK(message("{\"prompt\": \"a\", \"max_tokens\": 1e3}") == "line 1: \"max_tokens\" is no whole number from 1");
}

}  // namespace
}  // namespace evenkeel::cli
