// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/host_pool.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "engine/region/shared_memory.h"
#include "engine/region/to_status.h"

namespace evenkeel::agent {

namespace {

using engine::SharedMemory;

constexpr uint64_t kVerified = static_cast<uint64_t>(PoolState::kVerified);
constexpr uint64_t kWriting = static_cast<uint64_t>(PoolState::kWriting);
constexpr uint64_t kFree = static_cast<uint64_t>(PoolState::kFree);

int LockOf(uint64_t entry) { return kPoolEntryLock + static_cast<int>(entry); }

template <size_t kSize>
void CopyText(const std::string& text, char (&out)[kSize]) {
  const size_t length = std::min(text.size(), kSize - 1);
  std::memcpy(out, text.data(), length);
  out[length] = '\0';
}

absl::StatusOr<std::unique_ptr<PoolView>> Make(const std::string& path, const StoreIdentity& identity,
                                               uint64_t bytes_max) {
  EVENKEEL_ASSIGN_OR_RETURN(const PoolPlan plan, PlanPool(identity, bytes_max));
  const uint64_t extra = plan.total_bytes - sizeof(PoolHeader);
  auto memory = SharedMemory::Create<PoolHeader>(path.c_str(), kPoolMakerLock, extra);
  if (!memory.ok()) return engine::ToStatus(memory.error);
  PoolHeader& header = *memory.value.as<PoolHeader>();
  CopyText(identity.group, header.group);
  CopyText(identity.model, header.model);
  header.num_frames = plan.num_frames;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  header.identity_digest = DigestOf(identity);  // others look at it first
  return std::make_unique<PoolView>(std::move(memory.value), identity, plan);
}

}  // namespace

HostPool::HostPool(Options options, std::unique_ptr<PoolView> view)
    : options_(std::move(options)), view_(std::move(view)) {}

absl::StatusOr<std::unique_ptr<HostPool>> HostPool::Enter(const Options& options, const StoreIdentity& identity) {
  const std::string path = absl::StrCat(options.directory, "/", PoolName(identity, options.host));
  auto view = PoolView::Open(path, identity, SharedMemory::Access::kReadWrite);
  if (absl::IsNotFound(view.status())) {
    SharedMemory::RemoveAbandoned(options.directory.c_str(),
                                  absl::StrCat(PoolName(identity, options.host), ".new").c_str(),
                                  SharedMemory::kAnyByte);
    view = Make(path, identity, options.bytes_max);
    if (absl::IsAlreadyExists(view.status())) return absl::UnavailableError(view.status().message());
  } else if (absl::IsDataLoss(view.status())) {
    // Damaged as a whole: of no use to anybody.
    SharedMemory::RemoveAbandoned(options.directory.c_str(), PoolName(identity, options.host).c_str(),
                                  SharedMemory::kAnyByte);
  }
  if (!view.ok()) return view.status();
  std::unique_ptr<HostPool> pool(new HostPool(options, *std::move(view)));
  SharedMemory& memory = pool->view_->memory();
  EVENKEEL_RETURN_IF_ERROR(pool->LockFrames());
  const auto entered = memory.TryLock(kPoolRankLock + options.rank.value());
  const bool named = memory.IsNamed();
  memory.Unlock(kPoolFramesLock);
  if (!entered.ok()) return engine::ToStatus(entered.error);
  if (!entered.value) return absl::UnavailableError(absl::StrCat("enter ", path, ": another agent is there"));
  if (!named) return absl::UnavailableError(absl::StrCat("enter ", path, ": it was just removed"));
  // Of other weights, which nobody uses any more.
  SharedMemory::RemoveAbandoned(options.directory.c_str(), PoolPrefix(identity, options.host).c_str(),
                                SharedMemory::kAnyByte);
  return pool;
}

void HostPool::RemoveIfLast() {
  if (!LockFrames().ok()) return;  // somebody uses it
  if (!view_->memory().IsLockedElsewhere(SharedMemory::kAnyByte) && IsNamed()) view_->memory().Unlink();
  view_->memory().Unlock(kPoolFramesLock);
}

std::vector<RankId> HostPool::Ranks() const {
  std::vector<RankId> ranks;
  for (int r = 0; r < options_.num_ranks; ++r) {
    if (r == options_.rank.value() || view_->memory().IsLockedElsewhere(kPoolRankLock + r)) ranks.push_back(RankId(r));
  }
  return ranks;
}

absl::Status HostPool::LockFrames() {
  const auto locked = view_->memory().TryLock(kPoolFramesLock);
  if (!locked.ok()) return engine::ToStatus(locked.error);
  if (locked.value) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("use ", view_->path(), ": others do just now"));
}

// ---- Frames

// Whether a living agent writes it.
bool HostPool::IsWritten(uint64_t entry) const { return view_->memory().IsLockedElsewhere(LockOf(entry)); }

void HostPool::FreeEntry(uint64_t entry) {
  PoolCell& cell = view_->cell(entry);
  cell.state.StoreAndFence(kFree);
  const uint64_t frame = cell.frame.Load();
  if (frame < view_->plan().num_frames && view_->given(frame).Load() == entry + 1) view_->given(frame).Store(0);
}

// A frame that nobody uses, else the one of the entry that is worth least, ties the lowest frame.
std::optional<uint64_t> HostPool::FindFrame(uint64_t entry, Worth worth, const WorthOfEntry& worth_of) {
  std::optional<uint64_t> victim;
  Worth lowest = worth;
  for (uint64_t frame = 0; frame < view_->plan().num_frames; ++frame) {
    const uint64_t given = view_->given(frame).Load();
    if (given == 0 || given > view_->plan().num_entries) return frame;
    const uint64_t holder = given - 1;
    if (holder == entry) return frame;
    const PoolCell& cell = view_->cell(holder);
    const bool held = cell.frame.Load() == frame && (cell.state.Load() == kVerified || IsWritten(holder));
    if (!held) return frame;
    if (cell.state.Load() != kVerified) continue;
    if (const Worth theirs = worth_of(holder); theirs < lowest) {
      lowest = theirs;
      victim = frame;
    }
  }
  if (victim.has_value()) FreeEntry(view_->given(*victim).Load() - 1);
  return victim;
}

absl::StatusOr<HostPool::Claim> HostPool::Begin(LayerId layer, ExpertId expert, Worth worth,
                                                const WorthOfEntry& worth_of) {
  SharedMemory& memory = view_->memory();
  const uint64_t entry = view_->EntryOf(layer, expert);
  EVENKEEL_RETURN_IF_ERROR(LockFrames());
  const auto locked = memory.TryLock(LockOf(entry));
  absl::StatusOr<Claim> claim = absl::UnavailableError(
      absl::StrCat("write layer ", layer.value(), " expert ", expert.value(), ": another agent does just now"));
  if (!locked.ok()) {
    claim = engine::ToStatus(locked.error);
  } else if (locked.value) {
    if (const std::optional<uint64_t> frame = FindFrame(entry, worth, worth_of)) {
      PoolCell& cell = view_->cell(entry);
      cell.state.StoreAndFence(kWriting);
      cell.generation.Add(1);
      cell.frame.Store(*frame);
      view_->given(*frame).StoreAndFence(entry + 1);
      claim = Claim{entry, *frame, layer, view_->TensorsIn(*frame, layer)};
    } else {
      memory.Unlock(LockOf(entry));
      claim = absl::ResourceExhaustedError(absl::StrCat("write to ", view_->path(), ": all ", view_->plan().num_frames,
                                                        " frames hold what is worth no less"));
    }
  }
  memory.Unlock(kPoolFramesLock);
  return claim;
}

absl::Status HostPool::Publish(const Claim& claim, uint64_t fingerprint) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const uint64_t found = view_->FingerprintOf(claim.frame, claim.layer);
  if (found != fingerprint) {
    Abandon(claim);
    return absl::DataLossError(absl::StrCat("write entry ", claim.entry, " of ", view_->path(), ": it has fingerprint ",
                                            absl::Hex(found), ", expected is ", absl::Hex(fingerprint)));
  }
  PoolCell& cell = view_->cell(claim.entry);
  cell.fingerprint.Store(fingerprint);
  cell.state.StoreAndFence(kVerified);
  view_->memory().Unlock(LockOf(claim.entry));
  return absl::OkStatus();
}

void HostPool::Abandon(const Claim& claim) {
  FreeEntry(claim.entry);
  view_->memory().Unlock(LockOf(claim.entry));
}

bool HostPool::ScrubNext() {
  const PoolPlan& plan = view_->plan();
  for (uint64_t i = 0; i < plan.num_frames; ++i) {
    const uint64_t frame = scrub_next_++ % plan.num_frames;
    const uint64_t given = view_->given(frame).Load();
    if (given == 0 || given > plan.num_entries) continue;
    const PoolCell& cell = view_->cell(given - 1);
    const PoolView::Found found = {given - 1, frame, cell.generation.Load()};
    if (!view_->StillThere(found)) continue;
    const uint64_t expected = cell.fingerprint.Load();
    if (view_->FingerprintOf(frame, view_->LayerOf(given - 1)) == expected || !view_->StillThere(found)) return true;
    const auto locked = view_->memory().TryLock(LockOf(given - 1));
    if (!locked.ok() || !locked.value) return true;
    if (view_->StillThere(found)) FreeEntry(given - 1);
    view_->memory().Unlock(LockOf(given - 1));
    return false;
  }
  return true;
}

}  // namespace evenkeel::agent
