// SPDX-License-Identifier: Apache-2.0
//
// Bench: times two ways of doing the same work in one run and prints both with their ratio.
//
// Samples are taken in turn, one of each, so that whatever else the machine does meets both alike. A figure
// is the CPU time that the calling thread takes for one batch, as others use the machine too; the batch is stated
// by the caller and runs on that thread alone.
#pragma once

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

namespace evenkeel::bench {

struct Timing {
  double median_us = 0;
  double p99_us = 0;
};

inline double CpuMicroseconds() {
  timespec now = {};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) * 1e-3;
}

inline double MicrosecondsOf(const std::function<void()>& batch) {
  const double begin = CpuMicroseconds();
  batch();
  return CpuMicroseconds() - begin;
}

inline Timing Summarise(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  return {samples[samples.size() / 2], samples[(samples.size() * 99) / 100]};
}

struct Comparison {
  std::string input;
  std::string batch;
  int num_samples = 101;
  int reference_every = 1;  // samples of ours for each of the reference, where that one is slow
  double goal_us = 0;       // of a batch; 0: none stated
};

// Each function does one batch. The first run of each is not counted.
inline void Compare(const Comparison& what, const std::function<void()>& ours, const std::string& reference_name,
                    const std::function<void()>& reference) {
  std::vector<double> our_samples, reference_samples;
  ours();
  reference();
  for (int i = 0; i < what.num_samples; ++i) {
    our_samples.push_back(MicrosecondsOf(ours));
    if (i % what.reference_every == 0) reference_samples.push_back(MicrosecondsOf(reference));
  }
  const size_t num_reference = reference_samples.size();
  const Timing mine = Summarise(our_samples), theirs = Summarise(reference_samples);
  std::printf("input      %s\nbatch      %s\n", what.input.c_str(), what.batch.c_str());
  std::printf("ours       %d samples: median %.1f us, p99 %.1f us of CPU time", what.num_samples, mine.median_us,
              mine.p99_us);
  if (what.goal_us > 0) std::printf(" (goal %.0f us)", what.goal_us);
  std::printf("\nreference  %zu samples: median %.1f us, p99 %.1f us (%s)\n", num_reference, theirs.median_us,
              theirs.p99_us, reference_name.c_str());
  std::printf("ratio      %.1f times the reference's speed\n\n", theirs.median_us / mine.median_us);
}

}  // namespace evenkeel::bench
