// SPDX-License-Identifier: Apache-2.0
#include "runtime/task_pool.h"

#include <pthread.h>

#include "algos/base/check.h"

namespace evenkeel::runtime {

TaskPool::TaskPool(const Options& options) {
  EVENKEEL_CHECK(options.num_threads > 0);
  for (int i = 1; i < options.num_threads; ++i) {
    threads_.emplace_back([this] { Work(); });
    ::pthread_setname_np(threads_.back().native_handle(), options.name.substr(0, 15).c_str());
  }
}

TaskPool::~TaskPool() {
  {
    absl::MutexLock lock(&mutex_);
    EVENKEEL_CHECK(task_ == nullptr);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

void TaskPool::RunAll(size_t count, const std::function<void(size_t)>& task) {
  absl::MutexLock lock(&mutex_);
  EVENKEEL_CHECK(task_ == nullptr);
  task_ = &task;
  next_ = num_done_ = 0;
  count_ = count;
  while (WorkOnce()) {
  }
  mutex_.Await(absl::Condition(this, &TaskPool::IsDone));
  task_ = nullptr;
  next_ = num_done_ = count_ = 0;
}

void TaskPool::Work() {
  absl::MutexLock lock(&mutex_);
  while (true) {
    mutex_.Await(absl::Condition(this, &TaskPool::HasWork));
    if (stopping_) return;
    WorkOnce();
  }
}

bool TaskPool::WorkOnce() {
  if (next_ >= count_) return false;
  const size_t index = next_++;
  const std::function<void(size_t)>& task = *task_;
  mutex_.Unlock();
  task(index);
  mutex_.Lock();
  ++num_done_;
  return true;
}

}  // namespace evenkeel::runtime
