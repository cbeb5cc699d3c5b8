// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/load_book.h"

#include <vector>

#include "catch2/catch.hpp"

namespace evenkeel::controller {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1000);

// One rank, one layer, one expert; windows of a second.
class Book {
 public:
  Book() : book_(Info(), {}, kStart) { book_.SetExpected(std::vector<RankId>{RankId(0)}); }

  // What was counted in the next window, in engine steps `first` to `last`.
  void Window(uint64_t tokens, uint64_t first, uint64_t last) {
    now_ += absl::Seconds(1);
    LoadReport report{.time = now_, .first_step = first, .last_step = last, .entries = {}};
    if (tokens > 0) report.entries.push_back({LayerId(0), SlotIdx(0), ExpertId(0), tokens});
    REQUIRE(book_.Add(RankId(0), report, now_).ok());
    book_.Advance(now_, std::vector<double>(1, 0.0));
  }

  std::vector<uint64_t> EpisodesOf(int num_windows, int steps) const {
    std::vector<uint64_t> episodes;
    for (const algos::Load& load : book_.HistoryOf(num_windows, steps).episodes) episodes.push_back(load.tokens[0]);
    return episodes;
  }
  int Covered(int num_windows, int steps) const { return book_.HistoryOf(num_windows, steps).num_windows; }

 private:
  static GroupInfo Info() {
    GroupInfo info;
    info.shape = {.num_experts = 1, .num_ranks = 1, .slots_per_rank = 2};
    info.num_layers = 1;
    return info;
  }

  LoadBook book_;
  absl::Time now_ = kStart;
};

using Episodes = std::vector<uint64_t>;

TEST_CASE("without steps each window in which anything was counted is an episode", "[load_book]") {
  Book book;
  for (const uint64_t tokens : {1000, 0, 2000, 3000}) book.Window(tokens, 1, 1);
  CHECK(book.EpisodesOf(10, 0) == Episodes{1000, 2000, 3000});
  CHECK(book.EpisodesOf(3, 0) == Episodes{2000, 3000});
  CHECK(book.Covered(10, 0) == 3);
  CHECK(book.EpisodesOf(0, 0).empty());
}

TEST_CASE("an episode is the fewest whole windows that hold its steps, counted back from the newest", "[load_book]") {
  Book book;
  book.Window(1, 1, 10);
  book.Window(10, 11, 20);
  book.Window(100, 21, 30);
  book.Window(1000, 31, 40);
  book.Window(10000, 41, 50);
  CHECK(book.EpisodesOf(5, 10) == Episodes{1, 10, 100, 1000, 10000});
  CHECK(book.EpisodesOf(5, 11) == Episodes{110, 11000});
  CHECK(book.Covered(5, 11) == 4);
  CHECK(book.EpisodesOf(5, 20) == Episodes{110, 11000});
  CHECK(book.EpisodesOf(5, 21) == Episodes{11100});
  CHECK(book.EpisodesOf(3, 20) == Episodes{11000});
  CHECK(book.EpisodesOf(5, 50) == Episodes{11111});
  CHECK(book.EpisodesOf(5, 1000) == Episodes{11111});
  CHECK(book.Covered(5, 1000) == 5);
}

TEST_CASE("a step that two windows share counts once, and idle windows hold none", "[load_book]") {
  Book book;
  book.Window(1, 1, 5);
  book.Window(10, 5, 10);
  book.Window(0, 10, 10);
  book.Window(100, 10, 15);
  CHECK(book.EpisodesOf(4, 6) == Episodes{11, 100});
  CHECK(book.EpisodesOf(4, 10) == Episodes{110});
  CHECK(book.EpisodesOf(4, 15) == Episodes{111});
}

TEST_CASE("engines that started anew count their steps from the beginning", "[load_book]") {
  Book book;
  book.Window(1, 1001, 1010);
  book.Window(10, 1, 10);
  CHECK(book.EpisodesOf(2, 20) == Episodes{11});
  CHECK(book.EpisodesOf(2, 10) == Episodes{1, 10});
}

}  // namespace
}  // namespace evenkeel::controller
