// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/snapshot_reader.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"

#include "agent/stores/snapshot_folder.h"
#include "algos/base/status_macros.h"
#include "kernels/host/fingerprint.h"

namespace evenkeel::agent {

namespace {

// One expert of one file as it was written.
using Damaged = std::set<std::tuple<std::string, int64_t, ExpertId>>;

class SnapshotReader : public StoreReader {
 public:
  SnapshotReader(std::unique_ptr<SnapshotFile> file, ExpertId expert, std::shared_ptr<Damaged> damaged)
      : file_(std::move(file)), expert_(expert), damaged_(std::move(damaged)) {}

  // Pieces are whole words but for a tensor's last, so that their sums add up.
  absl::Status Read(size_t tensor, uint64_t offset, std::span<std::byte> to) override {
    EVENKEEL_RETURN_IF_ERROR(file_->Read(expert_, tensor, offset, to));
    sum_ += kernels::FingerprintSum(to.data(), to.size(), static_cast<uint32_t>(tensor), offset / 8);
    return absl::OkStatus();
  }

  absl::Status Finish() override {
    const uint64_t found = kernels::FinishFingerprint(sum_, file_->header().weights_version);
    const uint64_t expected = file_->header().FingerprintOf(expert_);
    if (found == expected) return absl::OkStatus();
    damaged_->insert({file_->path(), file_->written_at(), expert_});
    return absl::DataLossError(absl::StrCat("read expert ", expert_.value(), " from ", file_->path(),
                                            ": it has fingerprint ", absl::Hex(found), ", its header says ",
                                            absl::Hex(expected)));
  }

 private:
  const std::unique_ptr<SnapshotFile> file_;
  const ExpertId expert_;
  const std::shared_ptr<Damaged> damaged_;
  uint64_t sum_ = 0;
};

absl::StatusOr<std::unique_ptr<StoreReader>> Open(const StoreIdentity& identity, const TransferRequest& request,
                                                  const std::shared_ptr<Damaged>& damaged) {
  const SnapshotFolder folder(request.source.endpoint.address, identity);
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<SnapshotName> names, folder.List());
  absl::Status why =
      absl::NotFoundError(absl::StrCat("read layer ", request.layer.value(), " expert ", request.expert.value(),
                                       " from ", folder.path(), ": no file has it"));
  for (const SnapshotName& name : names) {
    if (name.layer != request.layer || !name.range.Contains(request.expert)) continue;
    absl::StatusOr<std::unique_ptr<SnapshotFile>> file = folder.Open(name);
    if (!file.ok()) {
      why = file.status();
      continue;
    }
    const SnapshotHeader& header = (*file)->header();
    if (damaged->count({(*file)->path(), (*file)->written_at(), request.expert}) > 0) {
      why = absl::DataLossError(
          absl::StrCat("read expert ", request.expert.value(), " from ", (*file)->path(), ": it did not match before"));
    } else if (header.FingerprintOf(request.expert) != request.fingerprint) {
      why = absl::FailedPreconditionError(absl::StrCat("read expert ", request.expert.value(), " from ",
                                                       (*file)->path(), ": it has another fingerprint"));
    } else {
      const auto fits = [](uint64_t bytes, std::span<std::byte> to) { return bytes == to.size(); };
      if (std::equal(header.tensor_bytes.begin(), header.tensor_bytes.end(), request.destination.begin(),
                     request.destination.end(), fits)) {
        return std::make_unique<SnapshotReader>(*std::move(file), request.expert, damaged);
      }
      why = absl::FailedPreconditionError(absl::StrCat("read from ", (*file)->path(), ": tensors of other sizes"));
    }
  }
  return why;
}

}  // namespace

std::function<absl::StatusOr<std::unique_ptr<StoreReader>>(const TransferRequest&)> SnapshotOpener(
    StoreIdentity identity) {
  auto damaged = std::make_shared<Damaged>();
  return [identity = std::move(identity), damaged](const TransferRequest& request) {
    return Open(identity, request, damaged);
  };
}

}  // namespace evenkeel::agent
