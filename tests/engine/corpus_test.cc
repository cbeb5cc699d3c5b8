// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/corpus.h"

#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "engine/reference/failure.h"
#include "engine/reference/status.h"

namespace evenkeel::engine {
namespace {

const std::vector<std::string> kDomains = {"cxx", "data", "prose", "python"};

TEST_CASE("the corpus has four domains and gives real windows of them", "[corpus]") {
  const auto corpus = Corpus::Load("engine/reference/tinymoe/prompts");
  REQUIRE(corpus.ok());
  CHECK(corpus->domains() == kDomains);
  CHECK(corpus->Check(256).ok());
  CHECK_THAT(std::string(corpus->Check(1 << 20).message()), Catch::Contains("cxx"));
  Rng rng(1), same(1);
  CHECK(corpus->Window(3, 100, rng) == corpus->Window(3, 100, same));
  CHECK(corpus->Window(3, 100, rng).size() == 100);
  CHECK_FALSE(Corpus::Load("/nonexistent").ok());
}

TEST_CASE("a mix moves evenly from one domain to the next, round and round", "[corpus]") {
  const Mix mix = Mix::Parse("python:10,cxx:20", kDomains).value();
  CHECK(mix.At(absl::ZeroDuration()) == std::vector<double>{0, 0, 0, 1});
  CHECK(mix.At(absl::Seconds(5)) == std::vector<double>{0.5, 0, 0, 0.5});
  CHECK(mix.At(absl::Seconds(10)) == std::vector<double>{1, 0, 0, 0});
  CHECK(mix.At(absl::Seconds(25)) == std::vector<double>{0.25, 0, 0, 0.75});
  CHECK(mix.At(absl::Seconds(35)) == std::vector<double>{0.5, 0, 0, 0.5});
  CHECK(Mix::Parse("mixed:1", kDomains)->At(absl::Seconds(9)) == std::vector<double>(4, 0.25));
  Rng rng(3);
  int num_python = 0;
  for (int i = 0; i < 4000; ++i) num_python += mix.Draw(absl::Seconds(5), rng) == 3 ? 1 : 0;
  CHECK(num_python > 1800);
  CHECK(num_python < 2200);
}

TEST_CASE("a schedule that is wrong is refused with the part that is", "[corpus]") {
  for (const char* bad : {"", "python", "python:0", "python:-3", "python:x", "latin:3", "python:1,,cxx:1"}) {
    CAPTURE(bad);
    CHECK(Mix::Parse(bad, kDomains).status().code() == absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("percentiles of step times are right to a tenth", "[status]") {
  DurationHistogram histogram;
  CHECK(histogram.PercentileMs(0.5) == 0);
  for (int i = 1; i <= 1000; ++i) histogram.Add(absl::Microseconds(i * 100));
  CHECK(histogram.PercentileMs(0.5) == Approx(50).epsilon(0.1));
  CHECK(histogram.PercentileMs(0.99) == Approx(99).epsilon(0.1));
}

TEST_CASE("failures have names", "[failure]") {
  for (const char* name : {"exit", "hang", "slow", "zeros", "cut"}) CHECK(Failure::Parse(name).ok());
  CHECK_FALSE(Failure::Parse("explode").ok());
  Failure zeros(Failure::Kind::kZeros, 3);
  zeros.StepsDone(2);
  CHECK(zeros.Take() == Failure::Kind::kNone);
  zeros.StepsDone(3);
  CHECK(zeros.Take() == Failure::Kind::kZeros);
}

}  // namespace
}  // namespace evenkeel::engine
