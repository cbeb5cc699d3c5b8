// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/signals.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <algorithm>

namespace evenkeel::engine {

namespace {

sigset_t EndSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

}  // namespace

void BlockEndSignals() {
  const sigset_t signals = EndSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

int WaitForEndSignal(absl::Duration timeout) {
  const sigset_t signals = EndSignals();
  const timespec limit = absl::ToTimespec(std::max(timeout, absl::ZeroDuration()));
  return std::max(0, sigtimedwait(&signals, nullptr, &limit));
}

}  // namespace evenkeel::engine
