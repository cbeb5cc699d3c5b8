// SPDX-License-Identifier: Apache-2.0
#include "runtime/strand.h"

#include <pthread.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"
#include "runtime/clock.h"

namespace evenkeel::runtime {
namespace {

thread_local const Strand* running_strand = nullptr;

}  // namespace

Strand::Strand(Options options) : options_(std::move(options)), thread_([this] { Run(); }) {
  EVENKEEL_CHECK(options_.queue_capacity > 0);
}

Strand::~Strand() { Stop(); }

absl::Status Strand::Post(Task task) { return Push(std::move(task), options_.queue_capacity); }

absl::Status Strand::PostEssential(Task task) { return Push(std::move(task), std::numeric_limits<size_t>::max()); }

absl::Status Strand::Push(Task task, size_t capacity) {
  absl::MutexLock lock(&mutex_);
  if (stopping_) return absl::UnavailableError(absl::StrCat("post to ", options_.name, ": it has ended"));
  if (tasks_.size() >= capacity) {
    ++num_refused_;
    return absl::ResourceExhaustedError(
        absl::StrCat("post to ", options_.name, ": ", tasks_.size(), " tasks are waiting"));
  }
  tasks_.push_back(std::move(task));
  return absl::OkStatus();
}

void Strand::SetTimer(Timer timer) {
  AssertHeld();
  timer_ = std::move(timer);
}

void Strand::AssertHeld() const { EVENKEEL_CHECK(running_strand == this); }

void Strand::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  absl::MutexLock lock(&stop_mutex_);
  if (!thread_.joinable()) return;
  EVENKEEL_CHECK(running_strand != this);
  thread_.join();
}

absl::Time Strand::NextWakeup() { return timer_.next_wakeup ? timer_.next_wakeup() : absl::InfiniteFuture(); }

void Strand::Run() {
  running_strand = this;
  AssertHeld();
  pthread_setname_np(pthread_self(), options_.name.substr(0, 15).c_str());
  std::vector<Task> batch;
  while (true) {
    const absl::Duration wait = NextWakeup() - MonotonicNow();
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithTimeout(absl::Condition(this, &Strand::HasWork), std::max(wait, absl::ZeroDuration()));
      if (stopping_ && tasks_.empty()) return;
      while (!tasks_.empty() && batch.size() < kBatchMax) {
        batch.push_back(std::move(tasks_.front()));
        tasks_.pop_front();
      }
    }
    for (Task& task : batch) task();
    batch.clear();
    if (NextWakeup() <= MonotonicNow()) timer_.on_wakeup();
  }
}
}  // namespace evenkeel::runtime
