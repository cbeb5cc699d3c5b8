// SPDX-License-Identifier: Apache-2.0
//
// Assigner: gives each of n rows a column of its own so that the values at the chosen places add up to the most.
//
// Exact up to kExactMax rows (the Hungarian method, n^3); beyond that the largest values are taken first, at
// least half of the best sum.
//
// Order:     which of several equal assignments is found depends on the values alone.
// Limits:    n columns; values from -2^24 to 2^24.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace evenkeel::algos {

class Assigner {
 public:
  static constexpr size_t kExactMax = 64;

  // The column of each row; valid until the next call. `values` is row-major, [n * n].
  std::span<const uint32_t> Solve(std::span<const int32_t> values, size_t n);

 private:
  void SolveExactly(std::span<const int32_t> values, size_t n);
  bool TakeBestColumn(std::span<const int32_t> values, size_t n, size_t row);
  void AddRow(std::span<const int32_t> values, size_t n, size_t row);
  void SolveGreedily(std::span<const int32_t> values, size_t n);

  std::vector<uint32_t> column_of_row_;
  // Of the exact method; index n stands for "none yet".
  std::vector<int32_t> row_price_, column_price_, slack_;
  std::vector<uint32_t> row_of_column_, from_column_, late_rows_;
  std::vector<uint8_t> reached_;
  // Of the greedy one: (value, place), largest value first.
  std::vector<uint64_t> places_;
};

}  // namespace evenkeel::algos
