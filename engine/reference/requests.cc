// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/requests.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace evenkeel::engine {

void Request::Finish(absl::StatusOr<std::string> text) {
  absl::MutexLock lock(&mutex_);
  if (!result_.has_value()) result_ = std::move(text);
}

bool Request::gone() const {
  absl::MutexLock lock(&mutex_);
  return gone_;
}

absl::StatusOr<std::string> Request::Wait(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  const auto is_finished = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return result_.has_value(); };
  if (mutex_.AwaitWithDeadline(absl::Condition(&is_finished), deadline)) return *std::move(result_);
  gone_ = true;
  return absl::DeadlineExceededError(
      absl::StrCat("generate ", num_bytes_, " bytes after ", prompt_.size(), ": not done in time"));
}

absl::StatusOr<std::string> Requests::Generate(absl::string_view prompt, int num_bytes, absl::Time deadline) {
  if (prompt.empty() || num_bytes < 1 ||
      prompt.size() + static_cast<size_t>(num_bytes) > static_cast<size_t>(num_bytes_max_)) {
    return absl::InvalidArgumentError(absl::StrCat("generate ", num_bytes, " bytes after ", prompt.size(),
                                                   ": at least 1 each, ", num_bytes_max_, " together"));
  }
  auto request = std::make_shared<Request>(std::string(prompt), num_bytes);
  {
    absl::MutexLock lock(&mutex_);
    if (!closed_.empty()) return absl::UnavailableError(closed_);
    if (waiting_.size() >= static_cast<size_t>(capacity_)) {
      return absl::ResourceExhaustedError(absl::StrCat(capacity_, " requests wait already"));
    }
    waiting_.push_back(request);
  }
  return request->Wait(deadline);
}

std::shared_ptr<Request> Requests::Take() {
  absl::MutexLock lock(&mutex_);
  while (!waiting_.empty()) {
    std::shared_ptr<Request> next = std::move(waiting_.front());
    waiting_.pop_front();
    if (!next->gone()) return next;
  }
  return nullptr;
}

void Requests::Await(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  const auto is_due = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !waiting_.empty() || !closed_.empty(); };
  mutex_.AwaitWithTimeout(absl::Condition(&is_due), timeout);
}

void Requests::Close(const std::string& why) {
  std::deque<std::shared_ptr<Request>> refused;
  {
    absl::MutexLock lock(&mutex_);
    closed_ = why;
    if (!why.empty()) refused = std::exchange(waiting_, {});
  }
  for (const auto& request : refused) request->Finish(absl::UnavailableError(why));
}

std::string Requests::closed() const {
  absl::MutexLock lock(&mutex_);
  return closed_;
}

}  // namespace evenkeel::engine
