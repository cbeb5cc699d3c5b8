// SPDX-License-Identifier: Apache-2.0
//
// Teaches the thread sanitizer what Abseil's locks order. Debian's libabsl is built without the sanitizer, which
// therefore sees neither Mutex nor Notification and would call everything under them a race. Each function here
// stands before the library's own, calls it, and says what happened before what. Empty in other builds.
#if defined(EVENKEEL_TSAN)

#include <dlfcn.h>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

extern "C" {
void __tsan_acquire(void* address);                         // NOLINT
void __tsan_release(void* address);                         // NOLINT
void AnnotateIgnoreReadsBegin(const char* file, int line);  // NOLINT
void AnnotateIgnoreReadsEnd(const char* file, int line);    // NOLINT
}

namespace absl {
ABSL_NAMESPACE_BEGIN
namespace {

// The next definition of a mangled name: the library's own, called with the object first.
template <typename Result, typename... Arguments>
Result Next(const char* name, Arguments... arguments) {
  return reinterpret_cast<Result (*)(Arguments...)>(dlsym(RTLD_NEXT, name))(arguments...);
}

#define EVENKEEL_OWN "_ZN4absl7debian3"
#define EVENKEEL_OWN_CONST "_ZNK4absl7debian3"

}  // namespace

void Mutex::Lock() {
  Next<void>(EVENKEEL_OWN "5Mutex4LockEv", this);
  __tsan_acquire(this);
}

void Mutex::Unlock() {
  __tsan_release(this);
  Next<void>(EVENKEEL_OWN "5Mutex6UnlockEv", this);
}

bool Mutex::TryLock() {
  const bool locked = Next<bool>(EVENKEEL_OWN "5Mutex7TryLockEv", this);
  if (locked) __tsan_acquire(this);
  return locked;
}

void Mutex::ReaderLock() {
  Next<void>(EVENKEEL_OWN "5Mutex10ReaderLockEv", this);
  __tsan_acquire(this);
}

void Mutex::ReaderUnlock() {
  __tsan_release(this);
  Next<void>(EVENKEEL_OWN "5Mutex12ReaderUnlockEv", this);
}

void Mutex::Await(const Condition& condition) {
  __tsan_release(this);
  Next<void>(EVENKEEL_OWN "5Mutex5AwaitERKNS0_9ConditionE", this, &condition);
  __tsan_acquire(this);
}

bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  __tsan_release(this);
  const bool held =
      Next<bool>(EVENKEEL_OWN "5Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE", this, &condition, timeout);
  __tsan_acquire(this);
  return held;
}

bool Mutex::AwaitWithDeadline(const Condition& condition, Time deadline) {
  __tsan_release(this);
  const bool held =
      Next<bool>(EVENKEEL_OWN "5Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE", this, &condition, deadline);
  __tsan_acquire(this);
  return held;
}

// Evaluated under the lock, but by whichever thread lets go of it.
bool Condition::Eval() const {
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  const bool holds = Next<bool>(EVENKEEL_OWN_CONST "9Condition4EvalEv", this);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  return holds;
}

void CondVar::Wait(Mutex* mutex) {
  __tsan_release(mutex);
  Next<void>(EVENKEEL_OWN "7CondVar4WaitEPNS0_5MutexE", this, mutex);
  __tsan_acquire(mutex);
}

bool CondVar::WaitWithTimeout(Mutex* mutex, Duration timeout) {
  __tsan_release(mutex);
  const bool late =
      Next<bool>(EVENKEEL_OWN "7CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE", this, mutex, timeout);
  __tsan_acquire(mutex);
  return late;
}

bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  __tsan_release(mutex);
  const bool late = Next<bool>(EVENKEEL_OWN "7CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE", this, mutex, deadline);
  __tsan_acquire(mutex);
  return late;
}

void Notification::Notify() {
  __tsan_release(this);
  Next<void>(EVENKEEL_OWN "12Notification6NotifyEv", this);
}

void Notification::WaitForNotification() const {
  Next<void>(EVENKEEL_OWN_CONST "12Notification19WaitForNotificationEv", this);
  __tsan_acquire(const_cast<Notification*>(this));
}

bool Notification::WaitForNotificationWithTimeout(Duration timeout) const {
  const bool notified =
      Next<bool>(EVENKEEL_OWN_CONST "12Notification30WaitForNotificationWithTimeoutENS0_8DurationE", this, timeout);
  if (notified) __tsan_acquire(const_cast<Notification*>(this));
  return notified;
}

ABSL_NAMESPACE_END
}  // namespace absl

#endif  // EVENKEEL_TSAN
