// SPDX-License-Identifier: Apache-2.0
#include "controller/store_writer.h"

#include <memory>
#include <utility>

namespace evenkeel::controller {

StoreWriter::StoreWriter(Store& store) : store_(store), strand_({.name = "store", .queue_capacity = kWaitingMax}) {}

StoreWriter::~StoreWriter() { Stop(); }

void StoreWriter::SaveTerm(uint32_t term, Done done) {
  const auto shared_done = std::make_shared<Done>(std::move(done));  // for the task or for its refusal
  const absl::Status posted = strand_.Post([this, term, shared_done] { (*shared_done)(store_.SaveTerm(term)); });
  if (!posted.ok()) (*shared_done)(posted);
}

void StoreWriter::SaveOperation(const OperationProgress& operation, Done done) {
  {
    absl::MutexLock lock(&mutex_);
    const auto [waiting, is_first] = waiting_.try_emplace(operation.id);
    waiting->second.operation = operation;
    waiting->second.done = std::move(done);
    if (!is_first) return;
  }
  const absl::Status posted = strand_.Post([this, id = operation.id] {
    Waiting waiting = Take(id);
    waiting.done(store_.SaveOperation(waiting.operation));
  });
  if (!posted.ok()) Take(operation.id).done(posted);
}

void StoreWriter::SaveLoad(std::shared_ptr<const LoadHistory> load, Done done) {
  const auto shared_done = std::make_shared<Done>(std::move(done));
  const absl::Status posted =
      strand_.Post([this, load = std::move(load), shared_done] { (*shared_done)(store_.SaveLoad(*load)); });
  if (!posted.ok()) (*shared_done)(posted);
}

StoreWriter::Waiting StoreWriter::Take(const std::string& id) {
  absl::MutexLock lock(&mutex_);
  const auto found = waiting_.find(id);
  Waiting waiting = std::move(found->second);
  waiting_.erase(found);
  return waiting;
}

void StoreWriter::Stop() { strand_.Stop(); }

}  // namespace evenkeel::controller
