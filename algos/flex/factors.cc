// SPDX-License-Identifier: Apache-2.0
#include "algos/flex/factors.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace evenkeel::algos {

namespace {

constexpr int kSweepsMax = 30;
constexpr int kOrthonormaliseEvery = 16;

double Dot(std::span<const double> a, std::span<const double> b) {
  // Four sums, always in this order.
  double sums[4] = {0, 0, 0, 0};
  size_t i = 0;
  for (; i + 4 <= a.size(); i += 4) {
    for (size_t j = 0; j < 4; ++j) sums[j] += a[i + j] * b[i + j];
  }
  for (; i < a.size(); ++i) sums[0] += a[i] * b[i];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

void AddScaled(double factor, std::span<const double> from, std::span<double> to) {
  for (size_t i = 0; i < from.size(); ++i) to[i] += factor * from[i];
}

// Rotates rows p and q of a symmetric matrix [n * n] so that they no longer mix; `vectors` turn with it.
void Rotate(std::vector<double>& matrix, std::vector<double>& vectors, size_t n, size_t p, size_t q) {
  const double mixed = matrix[p * n + q];
  if (mixed == 0) return;
  const double theta = (matrix[q * n + q] - matrix[p * n + p]) / (2 * mixed);
  const double tangent = (theta >= 0 ? 1 : -1) / (std::fabs(theta) + std::sqrt(theta * theta + 1));
  const double cosine = 1 / std::sqrt(tangent * tangent + 1), sine = tangent * cosine;
  const auto turn = [&](double& x, double& y) {
    const double before = x;
    x = cosine * before - sine * y;
    y = sine * before + cosine * y;
  };
  for (size_t k = 0; k < n; ++k) turn(matrix[k * n + p], matrix[k * n + q]);
  for (size_t k = 0; k < n; ++k) turn(matrix[p * n + k], matrix[q * n + k]);
  for (size_t k = 0; k < n; ++k) turn(vectors[k * n + p], vectors[k * n + q]);
}

// Jacobi's method: `matrix` becomes diagonal, the columns of the result are its eigenvectors.
std::vector<double> Diagonalise(std::vector<double>& matrix, size_t n) {
  std::vector<double> vectors(n * n, 0);
  for (size_t i = 0; i < n; ++i) vectors[i * n + i] = 1;
  for (int sweep = 0; sweep < kSweepsMax; ++sweep) {
    double mixed = 0, own = 0;
    for (size_t i = 0; i < n; ++i) {
      own += matrix[i * n + i] * matrix[i * n + i];
      for (size_t j = i + 1; j < n; ++j) mixed += matrix[i * n + j] * matrix[i * n + j];
    }
    if (mixed <= 1e-22 * own) break;
    for (size_t p = 0; p < n; ++p) {
      for (size_t q = p + 1; q < n; ++q) Rotate(matrix, vectors, n, p, q);
    }
  }
  return vectors;
}

}  // namespace

std::vector<double> Factors::Split(std::span<double> vector) const {
  std::vector<double> parts;
  parts.reserve(basis_.size() + 1);
  for (const auto& direction : basis_) {
    parts.push_back(Dot(direction, vector));
    AddScaled(-parts.back(), direction, vector);
  }
  return parts;
}

void Factors::Join(std::span<const double> parts, std::span<double> vector) const {
  for (size_t i = 0; i < parts.size(); ++i) AddScaled(parts[i], basis_[i], vector);
}

void Factors::Learn(std::span<const double> parts, std::span<const double> remainder) {
  const double length = std::sqrt(Dot(remainder, remainder));
  std::vector<double> all(parts.begin(), parts.end());
  all.push_back(length);
  const size_t n = all.size();
  std::vector<double> moments(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) moments[i * n + j] = all[i] * all[j];
    if (i < moments_.size()) moments[i * n + i] += forgetting_ * moments_[i];
  }
  const std::vector<double> vectors = Diagonalise(moments, n);
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return moments[a * n + a] > moments[b * n + b]; });
  order.resize(std::min(n, rank_));
  std::vector<std::vector<double>> basis;
  moments_.clear();
  for (size_t column : order) {
    moments_.push_back(std::max(0.0, moments[column * n + column]));
    std::vector<double> direction(dimension_, 0.0);
    for (size_t i = 0; i + 1 < n; ++i) AddScaled(vectors[i * n + column], basis_[i], direction);
    if (length > 0) AddScaled(vectors[(n - 1) * n + column] / length, remainder, direction);
    basis.push_back(std::move(direction));
  }
  basis_ = std::move(basis);
  if (++num_learnt_ % kOrthonormaliseEvery == 0) Orthonormalise();
}

void Factors::Rescale(std::span<const double> factors) {
  for (auto& direction : basis_) {
    for (size_t i = 0; i < dimension_; ++i) direction[i] *= factors[i];
  }
  Orthonormalise();
}

void Factors::Orthonormalise() {
  for (size_t a = 0; a < basis_.size(); ++a) {
    for (int pass = 0; pass < 2; ++pass) {
      for (size_t b = 0; b < a; ++b) AddScaled(-Dot(basis_[a], basis_[b]), basis_[b], basis_[a]);
    }
    const double length = std::sqrt(Dot(basis_[a], basis_[a]));
    if (length <= 0) continue;
    for (double& value : basis_[a]) value /= length;
  }
}

}  // namespace evenkeel::algos
