// SPDX-License-Identifier: Apache-2.0
//
// How fast the simulator is: 1,024 agents in 16 groups of 64 ranks, 8 layers of 64 experts, a load report a second
// from each, a fault every 5 s, all checkers on, 10 simulated minutes on one core. Goal: 60 s.
//
// One run is one sample, so there is neither a median nor a p99; the plain reference is the event queue alone, made
// to run as many empty actions.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>

#include "absl/time/time.h"

#include "tests/sim/event_queue.h"
#include "tests/sim/options.h"
#include "tests/sim/simulation.h"

namespace {

using Clock = std::chrono::steady_clock;

// Of the processor: one thread, on a machine that others may use too.
double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

double SecondsSince(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

evenkeel::sim::Options BenchOptions() {
  evenkeel::sim::Options options;
  options.seed = 1;
  options.num_groups = 16;
  options.num_ranks = 64;
  options.num_layers = 8;
  options.num_experts = 64;
  options.slots_per_rank = 2;
  options.duration = absl::Minutes(10);
  options.converge_max = absl::Minutes(2);
  options.steps_around_changes_only = true;
  options.report_interval = absl::Seconds(1);
  options.shares_interval = absl::Seconds(10);
  options.placement_interval = absl::Minutes(1);
  options.rearrange_interval = absl::Minutes(1);
  options.drift_interval = absl::Seconds(30);
  options.faults.interval = absl::Seconds(5);
  options.faults.kill_agent = 4;
  options.faults.kill_agent_in_effect = 2;
  options.faults.kill_controller_in_effect = 1;
  options.faults.stall_agent = 2;
  options.faults.stall_engine = 2;
  options.faults.break_stream = 4;
  options.faults.partition = 2;
  options.faults.transfer_fails = 0.02;
  options.faults.transfer_corrupts = 0.01;
  options.faults.transfer_hangs = 0.01;
  return options;
}

// As many events as the run had, a thousand of them waiting at any time.
double EmptyQueueSeconds(uint64_t num_events) {
  evenkeel::sim::EventQueue queue;
  uint64_t left = num_events;
  const auto post = [&queue, &left](auto& self, uint64_t i) -> void {
    queue.After(absl::Microseconds(static_cast<int64_t>(i * 7919 % 1000)), [&self, &left, i] {
      if (left > 0) --left, self(self, i + 1);
    });
  };
  const double begin = CpuSeconds();
  for (uint64_t i = 0; i < 1000; ++i) post(post, i);
  while (left > 0 && queue.RunNext(absl::InfiniteFuture())) {
  }
  return CpuSeconds() - begin;
}

}  // namespace

int main() {
  const evenkeel::sim::Options options = BenchOptions();
  std::printf("input: %s\n", evenkeel::sim::Describe(options).c_str());
  const Clock::time_point begin = Clock::now();
  const double cpu_begin = CpuSeconds();
  const evenkeel::sim::Outcome outcome = evenkeel::sim::RunAndReport(options);
  const double seconds = CpuSeconds() - cpu_begin;
  const double elapsed = SecondsSince(begin);
  const double plain = EmptyQueueSeconds(outcome.num_events);
  std::printf("batch: 10 simulated minutes and the calm after; samples: 1\n");
  std::printf("%s\n", outcome.ToString().c_str());
  std::printf("simulator: %.1f s of processor time (goal 60 s; elapsed %.1f s), %.0f ns an event\n", seconds, elapsed,
              seconds * 1e9 / static_cast<double>(outcome.num_events));
  std::printf("reference: as many empty events take %.2f s; ratio %.1f\n", plain, seconds / plain);
  return outcome.ok ? 0 : 1;
}
