// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/snapshot_keeper.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "kernels/host/fingerprint.h"

namespace evenkeel::agent {

namespace {

// The first one holds.
void Note(const absl::Status& status, absl::Status& trouble) {
  if (trouble.ok()) trouble = status;
}

absl::StatusOr<uint64_t> FingerprintOnDisk(const SnapshotFile& file, ExpertId expert, const Pace& pace) {
  const SnapshotHeader& header = file.header();
  std::vector<std::byte> piece(kPacedPiece);
  uint64_t sum = 0;
  for (size_t t = 0; t < header.tensor_bytes.size(); ++t) {
    for (uint64_t offset = 0; offset < header.tensor_bytes[t]; offset += kPacedPiece) {
      const auto to = std::span(piece).first(std::min<uint64_t>(kPacedPiece, header.tensor_bytes[t] - offset));
      if (!pace(to.size())) return absl::CancelledError("told to end");
      EVENKEEL_RETURN_IF_ERROR(file.Read(expert, t, offset, to));
      sum += kernels::FingerprintSum(to.data(), to.size(), static_cast<uint32_t>(t), offset / 8);
    }
  }
  return kernels::FinishFingerprint(sum, header.weights_version);
}

}  // namespace

SnapshotKeeper::SnapshotKeeper(const engine::AgentRegion& region, const std::string& directory)
    : region_(region),
      folder_(directory, IdentityOf(region)),
      writer_(absl::StrCat("rank-", region.member().rank.value())) {}

absl::Status SnapshotKeeper::Look(const Owners& owners, const Pace& pace, Work& work) {
  EVENKEEL_RETURN_IF_ERROR(folder_.Make());
  if (!std::exchange(cleaned_, true)) folder_.RemoveUnfinished(writer_);
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<SnapshotName> names, folder_.List());
  std::vector<HeldExpert> owned = HeldExpertsOf(region_);
  std::erase_if(owned, [&](const HeldExpert& held) {
    return owners[held.layer.idx()][held.expert.idx()] != region_.member().rank;
  });
  absl::Status trouble;
  for (auto begin = owned.begin(); begin != owned.end();) {
    const auto end = std::find_if(begin, owned.end(), [&](const HeldExpert& one) { return one.layer != begin->layer; });
    const std::span<const HeldExpert> layer(begin, end);
    const std::vector<bool> missing = FindMissing(names, layer, pace, trouble);
    if (absl::IsCancelled(trouble)) return trouble;
    work.num_experts_found += static_cast<int>(std::count(missing.begin(), missing.end(), false));
    const absl::Status written = WriteLayer(layer, missing, pace, work);
    if (absl::IsCancelled(written)) return written;
    Note(written, trouble);
    if (absl::IsResourceExhausted(written)) break;
    begin = end;
  }
  return trouble;
}

std::vector<bool> SnapshotKeeper::FindMissing(const std::vector<SnapshotName>& names, std::span<const HeldExpert> held,
                                              const Pace& pace, absl::Status& trouble) {
  std::vector<bool> missing(held.size(), true);
  for (const SnapshotName& name : names) {
    if (name.layer != held.front().layer) continue;
    std::unique_ptr<SnapshotFile> file;
    for (size_t i = 0; i < held.size(); ++i) {
      if (!missing[i] || !name.range.Contains(held[i].expert)) continue;
      if (file == nullptr) {
        auto opened = folder_.Open(name);
        if (!opened.ok()) {
          // Damaged files are written anew; foreign ones stay, and somebody is to know.
          if (!absl::IsDataLoss(opened.status()) && !absl::IsNotFound(opened.status())) Note(opened.status(), trouble);
          break;
        }
        file = *std::move(opened);
      }
      if (file->header().FingerprintOf(held[i].expert) != held[i].fingerprint) continue;
      absl::Status status;
      missing[i] = IsDamaged(*file, held[i].expert, pace, status);
      if (status.ok()) continue;
      trouble = absl::IsCancelled(status) ? status : trouble;
      Note(status, trouble);
      if (absl::IsCancelled(status)) return missing;
    }
  }
  return missing;
}

bool SnapshotKeeper::IsDamaged(const SnapshotFile& file, ExpertId expert, const Pace& pace, absl::Status& trouble) {
  const Checked key = {{file.path(), file.written_at()}, expert};
  if (good_.count(key) > 0) return false;
  if (damaged_.count(key) > 0) return true;
  const absl::StatusOr<uint64_t> found = FingerprintOnDisk(file, expert, pace);
  if (!found.ok() && !absl::IsDataLoss(found.status())) {
    trouble = found.status();
    return false;
  }
  const bool good = found.ok() && *found == file.header().FingerprintOf(expert);
  (good ? good_ : damaged_).insert(key);
  return !good;
}

absl::Status SnapshotKeeper::WriteLayer(std::span<const HeldExpert> held, const std::vector<bool>& missing,
                                        const Pace& pace, Work& work) {
  std::vector<bool> wanted(static_cast<size_t>(region_.group().shape.num_experts), false);
  for (size_t i = 0; i < held.size(); ++i) wanted[held[i].expert.idx()] = missing[i];
  absl::Status trouble;
  for (const ExpertRange& range : RangesOf(wanted, kExpertsPerFileMax)) {
    const auto first =
        std::find_if(held.begin(), held.end(), [&](const HeldExpert& one) { return one.expert == range.first; });
    const absl::Status written = WriteFile({first, static_cast<size_t>(range.count)}, pace, work);
    if (absl::IsCancelled(written) || absl::IsResourceExhausted(written)) return written;
    if (!absl::IsAborted(written)) Note(written, trouble);  // what changed meanwhile is looked at again
  }
  return trouble;
}

absl::Status SnapshotKeeper::WriteFile(std::span<const HeldExpert> held, const Pace& pace, Work& work) {
  const SnapshotName name = {held.front().layer, {held.front().expert, static_cast<int>(held.size())}};
  std::vector<uint64_t> fingerprints;
  for (const HeldExpert& one : held) fingerprints.push_back(one.fingerprint);
  EVENKEEL_ASSIGN_OR_RETURN(const auto writer, folder_.Create(name, writer_, std::move(fingerprints)));
  std::vector<std::byte> piece(kPacedPiece);
  for (const HeldExpert& one : held) {
    uint64_t sum = 0;
    EVENKEEL_RETURN_IF_ERROR(
        CopyHeld(region_, one, pace, [&](size_t tensor, uint64_t offset, std::span<const std::byte> from) {
          // What is fingerprinted is what is written, whatever becomes of the slot.
          std::copy(from.begin(), from.end(), piece.begin());
          const auto bytes = std::span<const std::byte>(piece).first(from.size());
          sum += kernels::FingerprintSum(bytes.data(), bytes.size(), static_cast<uint32_t>(tensor), offset / 8);
          work.bytes_written += bytes.size();
          return writer->Write(one.expert, tensor, offset, bytes);
        }));
    const uint64_t found = kernels::FinishFingerprint(sum, region_.group().weights_version);
    if (found != one.fingerprint) {
      return absl::DataLossError(absl::StrCat("write layer ", one.layer.value(), " expert ", one.expert.value(), " to ",
                                              folder_.path(), ": the slot has fingerprint ", absl::Hex(found),
                                              ", expected is ", absl::Hex(one.fingerprint)));
    }
  }
  EVENKEEL_RETURN_IF_ERROR(writer->Commit());
  ++work.num_files_written;
  return absl::OkStatus();
}

}  // namespace evenkeel::agent
