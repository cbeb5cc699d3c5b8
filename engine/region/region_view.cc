// SPDX-License-Identifier: Apache-2.0
#include "engine/region/region_view.h"

#include <cinttypes>
#include <cstring>
#include <utility>

#include "algos/base/hash.h"
#include "kernels/host/fingerprint.h"

namespace evenkeel::engine {

namespace {

// So often a reader asks again while a single writer changes what it reads.
constexpr int kReadsMax = 1000;

bool IsTerminated(const char* text, size_t size) { return std::memchr(text, 0, size) != nullptr; }

}  // namespace

RegionView::RegionView(SharedMemory memory) : memory_(std::move(memory)) {}

Error RegionView::CheckSizes(const RegionSizes& sizes) {
  const struct {
    const char* name;
    int64_t value, min, max;
  } limits[] = {
      {"num_ranks", sizes.world, 1, 1 << 20},
      {"ranks_max", sizes.num_ranks, sizes.world, 1 << 20},
      {"join", sizes.joining, 0, 1},
      {"rank", sizes.rank, 0, int64_t{sizes.num_ranks} - 1},
      {"num_nodes", sizes.num_nodes, 1, sizes.num_ranks},
      {"num_layers", sizes.num_layers, 1, 4096},
      {"num_experts", sizes.num_experts, 1, 1 << 20},
      {"slots_per_rank", sizes.slots_per_rank, 1, 1 << 16},
      {"slots of a layer", int64_t{sizes.world} * sizes.slots_per_rank, sizes.num_experts, 1 << 24},
      {"slots of a layer", int64_t{sizes.num_ranks} * sizes.slots_per_rank, sizes.num_experts, 1 << 24},
      {"num_lanes", sizes.num_lanes, 1, kLanesMax},
      {"num_counting_threads", sizes.num_counting_threads, 1, kCountingThreadsMax},
      {"count_place", sizes.count_place, 0, 1},
      {"routing", sizes.routing, 0, 1},
  };
  for (const auto& limit : limits) {
    if (limit.value < limit.min || limit.value > limit.max) {
      return MakeError(ErrorCode::kInvalidArgument, "%s is %" PRId64 ", must be from %" PRId64 " to %" PRId64,
                       limit.name, limit.value, limit.min, limit.max);
    }
  }
  if (sizes.num_ranks % sizes.num_nodes != 0) {
    return MakeError(ErrorCode::kInvalidArgument, "num_nodes is %d, which does not divide %d ranks", sizes.num_nodes,
                     sizes.num_ranks);
  }
  if (sizes.rank >= sizes.world && sizes.joining == 0) {
    return MakeError(ErrorCode::kInvalidArgument, "rank %d is beyond the first %d: it can only join (options.join)",
                     sizes.rank, sizes.world);
  }
  if (sizes.weights_bytes > uint64_t{1} << 50) {
    return MakeError(ErrorCode::kInvalidArgument, "weights_bytes is %" PRIu64 ", more than 2^50", sizes.weights_bytes);
  }
  return {};
}

Result<RegionView> RegionView::Create(const char* path, const RegionSizes& sizes) {
  const RegionOffsets offsets = OffsetsOf(sizes);
  auto memory = SharedMemory::Create<RegionHeader>(path, kEngineLockByte, offsets.total_bytes - sizeof(RegionHeader));
  if (!memory.ok()) return memory.error;
  RegionView view(std::move(memory.value));
  view.sizes_ = view.header().sizes = sizes;
  view.offsets_ = view.header().offsets = offsets;
  return view;
}

Result<RegionView> RegionView::Open(const char* path, SharedMemory::Access access) {
  auto memory = SharedMemory::Open<RegionHeader>(path, access);
  if (!memory.ok()) return memory.error;
  RegionView view(std::move(memory.value));
  const RegionHeader& header = view.header();
  if (header.incarnation.Load() == 0) {
    return MakeError(ErrorCode::kUnavailable, "open %s: its engine is still creating it", path);
  }
  view.sizes_ = header.sizes;
  view.offsets_ = header.offsets;
  if (Error error = CheckSizes(view.sizes_); !error.ok()) {
    return MakeError(ErrorCode::kDataLoss, "open %s: %s", path, error.message);
  }
  if (!IsTerminated(header.group, sizeof(header.group)) || !IsTerminated(header.model, sizeof(header.model)) ||
      header.group[0] == 0) {
    return MakeError(ErrorCode::kDataLoss, "open %s: its group or model is not a name", path);
  }
  if (view.offsets_ != OffsetsOf(view.sizes_) || view.offsets_.total_bytes != view.memory_.payload_bytes()) {
    return MakeError(ErrorCode::kDataLoss, "open %s: %" PRIu64 " bytes do not fit its sizes, which need %" PRIu64, path,
                     view.memory_.payload_bytes(), OffsetsOf(view.sizes_).total_bytes);
  }
  if (BankOf(header.newest.Load()) >= static_cast<uint32_t>(view.num_banks())) {
    return MakeError(ErrorCode::kDataLoss, "open %s: newest bank is %u of %d", path, BankOf(header.newest.Load()),
                     view.num_banks());
  }
  // Before that the engine is still adding them.
  if (header.ready.Load() == 0) return view;
  if (Error error = view.TakeTensors(); !error.ok()) return error;
  return view;
}

Error RegionView::TakeTensors() {
  const auto num_layers = static_cast<size_t>(sizes_.num_layers);
  on_device_ = header().on_device != 0;
  num_places_.assign(num_layers, 0);
  places_.assign(num_layers * kTensorsPerLayerMax, TensorPlace());
  for (int layer = 0; layer < sizes_.num_layers; ++layer) {
    const uint64_t count = num_tensors(layer);
    if (count > kTensorsPerLayerMax) {
      return MakeError(ErrorCode::kDataLoss, "open %s: layer %d has %" PRIu64 " tensors", memory_.path(), layer, count);
    }
    for (uint64_t t = 0; t < count; ++t) {
      const TensorRecord tensor = tensors(layer)[t];
      const auto steps = static_cast<uint64_t>(sizes_.slots_per_rank - 1);
      const uint64_t room = on_device_ ? tensor.allocation_bytes : sizes_.weights_bytes;
      if (!IsTerminated(tensor.name, sizeof(tensor.name)) || !IsTerminated(tensor.dtype, sizeof(tensor.dtype)) ||
          tensor.bytes_per_expert > room || tensor.offset > room - tensor.bytes_per_expert ||
          (steps > 0 && tensor.stride_bytes < tensor.bytes_per_expert) ||
          (steps > 0 && tensor.stride_bytes > (room - tensor.bytes_per_expert - tensor.offset) / steps)) {
        return MakeError(ErrorCode::kDataLoss,
                         "open %s: tensor %" PRIu64 " of layer %d lies outside its memory or in itself", memory_.path(),
                         t, layer);
      }
      places_[static_cast<size_t>(layer) * kTensorsPerLayerMax + t] = {on_device_ ? nullptr : weights(), tensor.offset,
                                                                       tensor.bytes_per_expert, tensor.stride_bytes};
    }
    num_places_[static_cast<size_t>(layer)] = static_cast<uint32_t>(count);
  }
  return {};
}

LayerTable RegionView::table(uint32_t bank_idx, int layer) const {
  std::byte* begin = Row<std::byte>(offsets_.banks, offsets_.bank_stride, static_cast<int>(bank_idx)) +
                     sizeof(BankCell) + offsets_.table_stride * static_cast<uint64_t>(layer);
  auto* offsets = reinterpret_cast<int32_t*>(begin);
  int32_t* slots = offsets + sizes_.num_experts + 1;
  return {offsets, slots, reinterpret_cast<uint32_t*>(slots + sizes_.num_slots())};
}

std::span<std::byte> RegionView::TensorBytes(int layer, int tensor, int local_slot) const {
  TensorPlace place;
  if (places_.empty()) {
    const TensorRecord& record = tensors(layer)[tensor];
    std::byte* base = on_device() ? reinterpret_cast<std::byte*>(record.allocation_base) : weights();
    place = {base, record.offset, record.bytes_per_expert, record.stride_bytes};
  } else {
    place = places_[static_cast<size_t>(layer) * kTensorsPerLayerMax + static_cast<size_t>(tensor)];
  }
  if (place.base == nullptr) return {static_cast<std::byte*>(nullptr), place.bytes_per_expert};
  return {place.base + place.offset + static_cast<uint64_t>(local_slot) * place.stride_bytes, place.bytes_per_expert};
}

void RegionView::SetBase(int layer, int tensor, std::byte* base) {
  places_[static_cast<size_t>(layer) * kTensorsPerLayerMax + static_cast<size_t>(tensor)].base = base;
}

SlotContent RegionView::ReadSlot(int layer, int local_slot) const {
  const SlotCell& cell = slot(layer, local_slot);
  for (int i = 0; i < kReadsMax; ++i) {
    const uint64_t sequence = cell.sequence.Load();
    const SlotCell::Copy& copy = cell.copies[sequence % 2];
    SlotContent content;
    content.state = static_cast<uint32_t>(copy.state.Load());
    content.expert = static_cast<int32_t>(copy.expert.Load());
    content.generation = copy.generation.Load();
    content.fingerprint = copy.fingerprint.Load();
    if (cell.sequence.Load() == sequence) return content;
  }
  return {};  // free: what changes so fast is of no use
}

void RegionView::WriteSlot(int layer, int local_slot, const SlotContent& content) const {
  SlotCell& cell = slot(layer, local_slot);
  const uint64_t next = cell.sequence.Load() + 1;
  SlotCell::Copy& copy = cell.copies[next % 2];
  copy.state.Store(content.state);
  copy.expert.Store(static_cast<uint64_t>(static_cast<int64_t>(content.expert)));
  copy.generation.Store(content.generation);
  copy.fingerprint.Store(content.fingerprint);
  cell.sequence.Store(next);
}

uint64_t RegionView::FingerprintSlot(int layer, int local_slot) const {
  uint64_t sum = 0;
  for (int t = 0; t < tensor_count(layer); ++t) {
    const auto bytes = TensorBytes(layer, t, local_slot);
    sum += kernels::FingerprintSum(bytes.data(), bytes.size(), static_cast<uint32_t>(t));
  }
  return kernels::FinishFingerprint(sum, header().weights_version.Load());
}

uint64_t RegionView::DigestOfManifest() const {
  Digest digest;
  const auto add_text = [&digest](const char* text) {
    for (; *text != 0; ++text) digest.Add(static_cast<unsigned char>(*text));
    digest.Add(0);
  };
  for (int layer = 0; layer < sizes_.num_layers; ++layer) {
    digest.Add(num_tensors(layer));
    for (uint64_t t = 0; t < num_tensors(layer); ++t) {
      add_text(tensors(layer)[t].name);
      add_text(tensors(layer)[t].dtype);
      digest.Add(tensors(layer)[t].bytes_per_expert);
    }
  }
  return digest.value();
}

bool RegionView::FindMember(uint64_t view_number, int rank, uint64_t* incarnation) const {
  for (int bank = 0; bank < kViewBanks; ++bank) {
    if (view(bank).number.Load() != view_number) continue;
    *incarnation = members(bank)[rank].Load();
    if (view(bank).number.Load() == view_number) return true;
  }
  return false;
}

}  // namespace evenkeel::engine
