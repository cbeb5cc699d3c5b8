// SPDX-License-Identifier: Apache-2.0
//
// Factors: the few directions in which a stream of vectors moves most, learnt one vector at a time.
//
// Traffic is a mixture of a few kinds; when their weights change, the loads of all experts of all layers change
// together, in as many directions as there are kinds. Noise is spread over all directions evenly. So what a new
// vector says along these directions is nearly all signal.
//
// An orthonormal basis of the leading eigenvectors of the vectors' second moments, older ones forgotten
// exponentially; each vector rotates the basis together with its own remainder (sequential Karhunen-Loeve).
//
// Cost:      one update is O(dimension * rank^2); nothing but the basis is kept.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace evenkeel::algos {

class Factors {
 public:
  // `forgetting` in (0, 1]: weight of what was known when a vector comes.
  Factors(size_t dimension, size_t rank, double forgetting)
      : dimension_(dimension), rank_(rank), forgetting_(forgetting) {}

  size_t num_known() const { return basis_.size(); }

  // Takes what lies along the basis out of `vector`, and returns how much that was by direction.
  std::vector<double> Split(std::span<double> vector) const;
  // Adds it again.
  void Join(std::span<const double> parts, std::span<double> vector) const;

  // Learns the vector that Split made into these.
  void Learn(std::span<const double> parts, std::span<const double> remainder);

  // Multiplies each coordinate of all that is known by its own factor.
  void Rescale(std::span<const double> factors);

 private:
  void Orthonormalise();

  const size_t dimension_, rank_;
  const double forgetting_;
  std::vector<std::vector<double>> basis_;
  std::vector<double> moments_;  // by direction, descending
  int num_learnt_ = 0;
};

}  // namespace evenkeel::algos
