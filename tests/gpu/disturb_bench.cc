// SPDX-License-Identifier: Apache-2.0
//
// What a busy engine feels of experts that arrive on its GPU (protocol, rule 35): step times in interleaved blocks, idle
// and with 20 GB/s by the ipc transport, fingerprints included as the agent takes them: what arrived within 100 ms in one
// launch. The busy engine is a process of its own, as is the agent.
//
//   disturb_bench [STEPS [MILLISECONDS]]: steps of a block (5000), and of what length (2).
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "agent/local_transport.h"
#include "agent/throttle.h"
#include "engine/region/agent_region.h"
#include "kernels/cuda_memory.h"
#include "runtime/clock.h"
#include "tests/gpu/busy_steps.h"
#include "tests/gpu/device_buffers.h"
#include "tests/gpu/device_rank.h"

namespace evenkeel::gpu {
namespace {

using agent::LocalTransport;
using agent::TransferRequest;
using agent::TransferResult;
using engine::AgentRegion;

constexpr uint64_t kExpertBytes = 88 << 20;
constexpr uint64_t kBytesPerSecond = 20'000'000'000;
constexpr int kUnderWay = kSlots * kLayers;  // experts asked for at a time
constexpr int kBlocks = 3;                   // of each sort

struct Percentiles {
  double p50 = 0, p99 = 0;
};

// The busy engine: a block for every line that it is sent, answered by its percentiles in milliseconds.
int BeBusy(const std::string& kind, int steps, double milliseconds) {
  BusySteps busy(kind, milliseconds);
  busy.Run(steps / 10);
  std::printf("ready\n");
  std::fflush(stdout);
  char line[16];
  while (std::fgets(line, sizeof(line), stdin) != nullptr) {
    std::vector<double> times = busy.Run(steps);
    std::sort(times.begin(), times.end());
    std::printf("%.6f %.6f\n", times[times.size() / 2], times[times.size() * 99 / 100]);
    std::fflush(stdout);
  }
  return 0;
}

class BusyEngine {
 public:
  BusyEngine(const std::string& kind, int steps, double milliseconds) {
    int to[2] = {}, from[2] = {};
    if (::pipe(to) != 0 || ::pipe(from) != 0) std::abort();
    const std::string steps_text = std::to_string(steps), length_text = std::to_string(milliseconds);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(to[0], STDIN_FILENO);
      ::dup2(from[1], STDOUT_FILENO);
      for (const int end : {to[0], to[1], from[0], from[1]}) ::close(end);
      ::execl("/proc/self/exe", "disturb_bench", "busy", kind.c_str(), steps_text.c_str(), length_text.c_str(),
              static_cast<char*>(nullptr));
      std::_Exit(127);
    }
    ::close(to[0]);
    ::close(from[1]);
    asks_ = ::fdopen(to[1], "w");
    answers_ = ::fdopen(from[0], "r");
    char line[64];
    if (std::fgets(line, sizeof(line), answers_) == nullptr) std::abort();
  }
  BusyEngine(const BusyEngine&) = delete;
  BusyEngine& operator=(const BusyEngine&) = delete;
  ~BusyEngine() {
    std::fclose(asks_);
    std::fclose(answers_);
    ::waitpid(pid_, nullptr, 0);
  }

  Percentiles Block() {
    std::fputs("block\n", asks_);
    std::fflush(asks_);
    Percentiles block;
    if (std::fscanf(answers_, "%lf %lf", &block.p50, &block.p99) != 2) std::abort();
    return block;
  }

 private:
  pid_t pid_ = 0;
  std::FILE* asks_ = nullptr;
  std::FILE* answers_ = nullptr;
};

// Experts that arrive one after the other, kUnderWay asked for at a time, until it is told to stop.
class Arrivals {
 public:
  Arrivals(LocalTransport& transport, const AgentRegion& from, const AgentRegion& into)
      : transport_(transport), from_(from), into_(into) {
    for (int i = 0; i < kUnderWay; ++i) Ask(i);
    fingerprints_ = std::thread([this] { Fingerprint(); });
  }
  // Bytes that arrived, in GB/s since the beginning.
  double Stop() {
    stopping_ = true;
    fingerprints_.join();
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(this, &Arrivals::IsIdle));
    return static_cast<double>(bytes_) / absl::ToDoubleSeconds(runtime::MonotonicNow() - begun_) / 1e9;
  }
  bool ok() const { return ok_; }
  int num_launches() const { return num_launches_; }

 private:
  bool IsIdle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return under_way_ == 0; }

  void Ask(int index) {
    const LayerId layer(index / kSlots);
    const int slot = index % kSlots;
    TransferRequest request;
    request.transfer_id = ++num_asked_;
    request.layer = layer;
    request.source_local_slot = slot;
    request.source.member = from_.member();
    request.source.generation = from_.ReadSlot(layer, from_.group().shape.SlotAt(from_.member().rank, slot)).generation;
    request.source.endpoint = {"ipc", agent::HostIdentity(), from_.path()};
    request.destination = into_.SlotBytes(layer, into_.group().shape.SlotAt(into_.member().rank, slot));
    request.deadline = runtime::MonotonicNow() + absl::Seconds(60);
    request.bytes_per_second_max = kBytesPerSecond;
    {
      absl::MutexLock lock(&mutex_);
      ++under_way_;
    }
    const absl::Status started =
        transport_.Start(std::move(request), [this, index](const TransferResult& result) { Arrived(index, result); });
    if (!started.ok()) std::abort();
  }
  void Arrived(int index, const TransferResult& result) {
    if (!result.status.ok()) {
      std::printf("FAILED: %s\n", result.status.ToString().c_str());
      ok_ = false;
    }
    {
      absl::MutexLock lock(&mutex_);
      bytes_ += result.bytes;
      arrived_.emplace_back(LayerId(index / kSlots), into_.group().shape.SlotAt(into_.member().rank, index % kSlots));
    }
    if (!stopping_ && ok_) Ask(index);
    absl::MutexLock lock(&mutex_);
    --under_way_;
  }
  void Fingerprint() {
    while (!stopping_) {
      std::vector<std::pair<LayerId, SlotIdx>> slots;
      {
        absl::MutexLock lock(&mutex_);
        mutex_.AwaitWithTimeout(absl::Condition(&never_), absl::Milliseconds(100));
        slots = std::exchange(arrived_, {});
      }
      if (slots.empty()) continue;
      ok_ = into_.FingerprintSlots(slots).ok() && ok_;
      ++num_launches_;
    }
  }

  LocalTransport& transport_;
  const AgentRegion& from_;
  const AgentRegion& into_;
  const absl::Time begun_ = runtime::MonotonicNow();
  bool never_ = false;
  std::atomic<uint64_t> num_asked_{0};
  std::atomic<bool> stopping_{false}, ok_{true};
  std::atomic<int> num_launches_{0};
  absl::Mutex mutex_;
  int under_way_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::pair<LayerId, SlotIdx>> arrived_ ABSL_GUARDED_BY(mutex_);
  std::thread fingerprints_;
};

bool Measure(const std::string& kind, int steps, double milliseconds, int source_gpu) {
  const ScratchDirectory directory;
  const DeviceRank first(directory.path(), 0, source_gpu, "plain", kExpertBytes);
  const DeviceRank second(directory.path(), 1, 0, "plain", kExpertBytes);
  const auto from = AgentRegion::Open(first.text()), into = AgentRegion::Open(second.text());
  std::unique_ptr<kernels::CudaDevice> device;
  if (!from.ok() || !into.ok() || !kernels::CudaDevice::Open((*into)->device(), &device).ok()) {
    std::printf("FAILED: %s %s\n", first.text().c_str(), second.text().c_str());
    return false;
  }
  LocalTransport transport({.host = agent::HostIdentity(),
                            .region_path = (*into)->path(),
                            .throttle = std::make_shared<agent::Throttle>(),
                            .device = std::move(device)});
  BusyEngine busy(kind, steps, milliseconds);
  std::vector<Percentiles> idle, moving;
  double rate = 0, launches = 0;
  bool ok = true;
  for (int i = 0; i < kBlocks; ++i) {
    idle.push_back(busy.Block());
    Arrivals arrivals(transport, **from, **into);
    const absl::Time begun = runtime::MonotonicNow();
    moving.push_back(busy.Block());
    launches += arrivals.num_launches() / absl::ToDoubleSeconds(runtime::MonotonicNow() - begun) / kBlocks;
    rate += arrivals.Stop() / kBlocks;
    ok = ok && arrivals.ok();
  }
  const auto median = [](const std::vector<Percentiles>& blocks, double Percentiles::*one) {
    std::vector<double> values;
    for (const Percentiles& block : blocks) values.push_back(block.*one);
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  };
  const auto spread = [&](double Percentiles::*one) {
    const auto [low, high] =
        std::minmax_element(idle.begin(), idle.end(), [one](const auto& a, const auto& b) { return a.*one < b.*one; });
    return ((*high).*one / (*low).*one - 1) * 100;
  };
  std::printf("%s, %d blocks each of %d steps, %.1f GB/s in, %.1f fingerprint launches a second\n", kind.c_str(),
              kBlocks, steps, rate, launches);
  for (const auto& [name, one] : {std::pair{"p50", &Percentiles::p50}, std::pair{"p99", &Percentiles::p99}}) {
    const double quiet = median(idle, one), disturbed = median(moving, one);
    std::printf("  %s idle %.4f ms, moving %.4f ms: %+.2f %%; idle blocks differ by %.2f %%\n", name, quiet, disturbed,
                (disturbed / quiet - 1) * 100, spread(one));
  }
  std::fflush(stdout);
  return ok;
}

}  // namespace
}  // namespace evenkeel::gpu

int main(int argc, char** argv) {
  if (argc == 5 && std::string(argv[1]) == "busy") {
    return evenkeel::gpu::BeBusy(argv[2], std::atoi(argv[3]), std::atof(argv[4]));
  }
  const int num_gpus = evenkeel::gpu::NumGpus();
  if (num_gpus == 0) {
    std::printf("skipped: no GPU here\n");
    return 0;
  }
  const int steps = argc > 1 ? std::atoi(argv[1]) : 5000;
  const double milliseconds = argc > 2 ? std::atof(argv[2]) : 2;
  bool ok = true;
  for (const char* kind : {"compute", "memory"}) {
    ok = evenkeel::gpu::Measure(kind, steps, milliseconds, num_gpus - 1) && ok;
  }
  return ok ? 0 : 1;
}
