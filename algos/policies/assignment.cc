// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/assignment.h"

#include <algorithm>
#include <limits>

#include "algos/base/check.h"

namespace evenkeel::algos {

namespace {

constexpr int32_t kFar = std::numeric_limits<int32_t>::max() / 2;

}  // namespace

std::span<const uint32_t> Assigner::Solve(std::span<const int32_t> values, size_t n) {
  EVENKEEL_CHECK(values.size() == n * n);
  column_of_row_.assign(n, 0);
  if (n <= kExactMax) {
    SolveExactly(values, n);
  } else {
    SolveGreedily(values, n);
  }
  return column_of_row_;
}

// Costs are negated values; prices keep cost - row_price - column_price at 0 or above, and at 0 where assigned.
void Assigner::SolveExactly(std::span<const int32_t> values, size_t n) {
  column_price_.assign(n + 1, 0);
  row_of_column_.assign(n + 1, static_cast<uint32_t>(n));
  row_price_.resize(n);
  late_rows_.clear();
  for (size_t row = 0; row < n; ++row) {
    if (!TakeBestColumn(values, n, row)) late_rows_.push_back(static_cast<uint32_t>(row));
  }
  for (uint32_t row : late_rows_) AddRow(values, n, row);
  for (size_t column = 0; column < n; ++column) {
    column_of_row_[row_of_column_[column]] = static_cast<uint32_t>(column);
  }
}

// Whether a free column is among those that the row values most.
bool Assigner::TakeBestColumn(std::span<const int32_t> values, size_t n, size_t row) {
  const auto row_values = values.subspan(row * n, n);
  const int32_t best = *std::max_element(row_values.begin(), row_values.end());
  row_price_[row] = -best;
  for (size_t column = 0; column < n; ++column) {
    if (row_values[column] != best || row_of_column_[column] != n) continue;
    row_of_column_[column] = static_cast<uint32_t>(row);
    return true;
  }
  return false;
}

// The shortest augmenting path from `row` to a free column, then the columns along it change hands.
void Assigner::AddRow(std::span<const int32_t> values, size_t n, size_t row) {
  slack_.assign(n, kFar);
  from_column_.assign(n, static_cast<uint32_t>(n));
  reached_.assign(n + 1, 0);
  row_of_column_[n] = static_cast<uint32_t>(row);
  size_t column = n;
  while (row_of_column_[column] != n) {
    reached_[column] = 1;
    const size_t at_row = row_of_column_[column];
    const int32_t* const row_values = values.data() + at_row * n;
    const int32_t price = row_price_[at_row];
    int32_t step = kFar;
    size_t next = n;
    for (size_t c = 0; c < n; ++c) {
      if (reached_[c]) continue;
      const int32_t reduced = -row_values[c] - price - column_price_[c];
      if (reduced < slack_[c]) {
        slack_[c] = reduced;
        from_column_[c] = static_cast<uint32_t>(column);
      }
      // Of columns equally near a free one ends the path.
      if (slack_[c] < step || (slack_[c] == step && row_of_column_[next] != n && row_of_column_[c] == n)) {
        step = slack_[c];
        next = c;
      }
    }
    if (step != 0) {
      for (size_t c = 0; c <= n; ++c) {
        if (reached_[c]) {
          row_price_[row_of_column_[c]] += step;
          column_price_[c] -= step;
        } else if (c < n) {
          slack_[c] -= step;
        }
      }
    }
    column = next;
  }
  while (column != n) {
    const size_t from = from_column_[column];
    row_of_column_[column] = row_of_column_[from];
    column = from;
  }
  row_of_column_[n] = static_cast<uint32_t>(n);
}

void Assigner::SolveGreedily(std::span<const int32_t> values, size_t n) {
  EVENKEEL_CHECK(n < (size_t{1} << 16));
  places_.clear();
  for (size_t at = 0; at < values.size(); ++at) {
    const uint64_t descending = static_cast<uint64_t>((int64_t{1} << 30) - values[at]);
    if (values[at] > 0) places_.push_back(descending << 32 | at);
  }
  std::sort(places_.begin(), places_.end());
  std::vector<uint8_t> row_done(n, 0);
  reached_.assign(n, 0);
  for (uint64_t place : places_) {
    const size_t at = place & 0xFFFFFFFFu, row = at / n, column = at % n;
    if (row_done[row] || reached_[column]) continue;
    row_done[row] = reached_[column] = 1;
    column_of_row_[row] = static_cast<uint32_t>(column);
  }
  size_t column = 0;
  for (size_t row = 0; row < n; ++row) {
    if (row_done[row]) continue;
    while (reached_[column]) ++column;
    reached_[column] = 1;
    column_of_row_[row] = static_cast<uint32_t>(column);
  }
}

}  // namespace evenkeel::algos
