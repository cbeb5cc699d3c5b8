// SPDX-License-Identifier: Apache-2.0
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "engine/device_tensors.h"
#include "engine/engine_region.h"
#include "engine/evenkeel.h"
#include "engine/region/default_maps.h"

namespace {

using evenkeel::engine::Answer;
using evenkeel::engine::Error;
using evenkeel::engine::ErrorCode;
using evenkeel::engine::MakeError;
using evenkeel::engine::RegionHeader;
using evenkeel::engine::RegionSizes;
using evenkeel::engine::RegionView;
using evenkeel::engine::SharedMemory;
using evenkeel::engine::TensorRecord;

using evenkeel::engine::kSlotFree;
using evenkeel::engine::kSlotVerified;

constexpr uint64_t kWeightsAlignment = 64;
constexpr uint64_t kFirstGeneration = 1;

int StatusOf(ErrorCode code) {
  switch (code) {
    case ErrorCode::kOk:
      return EVENKEEL_OK;
    case ErrorCode::kInvalidArgument:
      return EVENKEEL_INVALID_ARGUMENT;
    case ErrorCode::kFailedPrecondition:
    case ErrorCode::kUnavailable:
      return EVENKEEL_FAILED_PRECONDITION;
    case ErrorCode::kResourceExhausted:
      return EVENKEEL_RESOURCE_EXHAUSTED;
    case ErrorCode::kPermissionDenied:
      return EVENKEEL_PERMISSION_DENIED;
    case ErrorCode::kDeadlineExceeded:
      return EVENKEEL_DEADLINE_EXCEEDED;
    case ErrorCode::kNotFound:  // of the directory
      return EVENKEEL_INVALID_ARGUMENT;
    case ErrorCode::kAlreadyExists:
    case ErrorCode::kDataLoss:
    case ErrorCode::kInternal:
      return EVENKEEL_INTERNAL;
  }
  return EVENKEEL_INTERNAL;
}

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

Error CheckNames(const evenkeel_options& options) {
  const size_t length = options.group == nullptr ? 0 : std::strlen(options.group);
  if (length == 0 || length >= sizeof(RegionHeader::group)) {
    return MakeError(ErrorCode::kInvalidArgument, "group has %zu characters, must have 1 to %zu", length,
                     sizeof(RegionHeader::group) - 1);
  }
  for (const char* c = options.group; *c != 0; ++c) {
    if (!IsNameCharacter(*c)) {
      return MakeError(ErrorCode::kInvalidArgument, "group %s: only letters, digits, '-' and '_' may be in it",
                       options.group);
    }
  }
  if (options.model == nullptr || std::strlen(options.model) >= sizeof(RegionHeader::model)) {
    return MakeError(ErrorCode::kInvalidArgument, "model must be given, with at most %zu characters",
                     sizeof(RegionHeader::model) - 1);
  }
  return {};
}

RegionSizes SizesOf(const evenkeel_options& options) {
  RegionSizes sizes;
  sizes.rank = options.rank;
  sizes.num_ranks = options.ranks_max == 0 ? options.num_ranks : options.ranks_max;
  sizes.world = options.num_ranks;
  sizes.joining = options.join != 0 ? 1 : 0;
  sizes.num_nodes = options.num_nodes == 0 ? 1 : options.num_nodes;
  sizes.num_layers = options.num_layers;
  sizes.num_experts = options.num_experts;
  sizes.slots_per_rank = options.slots_per_rank;
  sizes.num_lanes = options.num_lanes == 0 ? 1 : options.num_lanes;
  sizes.num_counting_threads = options.num_counting_threads == 0 ? sizes.num_lanes : options.num_counting_threads;
  sizes.count_place = static_cast<uint32_t>(options.count_place);
  sizes.routing = static_cast<uint32_t>(options.routing);
  sizes.weights_bytes = options.weights_bytes;
  return sizes;
}

// Clock ticks since boot at which this process started; 0 where /proc does not say.
uint64_t ProcessStartTicks() {
  char text[1024] = "";
  std::FILE* file = std::fopen("/proc/self/stat", "re");
  if (file == nullptr) return 0;
  text[std::fread(text, 1, sizeof(text) - 1, file)] = 0;
  std::fclose(file);
  const char* fields = std::strrchr(text, ')');
  uint64_t ticks = 0;
  constexpr char kField22[] = ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64;
  if (fields == nullptr || std::sscanf(fields, kField22, &ticks) != 1) return 0;
  return ticks;
}

// Everything in the header that the options say, the incarnation last: then others may read it.
void FillHeader(const evenkeel_options& options, uint64_t incarnation, const RegionView& view) {
  RegionHeader& header = view.header();
  std::strcpy(header.group, options.group);
  std::strcpy(header.model, options.model);
  header.weights_version.Store(options.weights_version);
  header.engine_pid = static_cast<uint64_t>(::getpid());
  header.engine_start_ticks = ProcessStartTicks();
  timespec now = {};
  ::clock_gettime(CLOCK_REALTIME, &now);
  header.created_ns = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
  WriteDefaultMaps(view, 0);
  view.view(1).number.Store(evenkeel::engine::ViewCell::kInvalid);
  const RegionSizes& sizes = view.sizes();
  for (int rank = 0; rank < sizes.num_ranks; ++rank) {
    view.lost()[rank] = rank >= sizes.world || (rank == sizes.rank && sizes.joining != 0) ? 1 : 0;
  }
  header.incarnation.Store(incarnation);
}

Error CreateRegion(const evenkeel_options& options, evenkeel_region* region) {
  if (Error error = CheckNames(options); !error.ok()) return error;
  const RegionSizes sizes = SizesOf(options);
  if (Error error = RegionView::CheckSizes(sizes); !error.ok()) return error;
  uint64_t incarnation = 0;
  while (incarnation == 0) {
    if (::getrandom(&incarnation, sizeof(incarnation), 0) != sizeof(incarnation)) {
      return MakeError(ErrorCode::kInternal, "create region: no random numbers: %m");
    }
  }
  const char* directory = options.directory == nullptr ? "/dev/shm" : options.directory;
  char prefix[96];
  std::snprintf(prefix, sizeof(prefix), "evenkeel.%s.%d.", options.group, options.rank);
  SharedMemory::RemoveAbandoned(directory, prefix, evenkeel::engine::kEngineLockByte);
  char path[SharedMemory::kPathBytes];
  const int length = std::snprintf(path, sizeof(path), "%s/%s%016" PRIx64, directory, prefix, incarnation);
  if (length < 0 || static_cast<size_t>(length) >= sizeof(path)) {
    return MakeError(ErrorCode::kInvalidArgument, "directory %.200s: the path is too long", directory);
  }
  auto view = RegionView::Create(path, sizes);
  if (!view.ok()) return view.error;
  region->view = std::move(view.value);
  FillHeader(options, incarnation, region->view);
  return {};
}

// A tensor's slots: `bytes` each, `stride` apart, the first at `begin`: of the weights, or an address in device memory.
struct SlotRanges {
  uint64_t begin, bytes, stride;
};

// Whether any slot of the one shares a byte with any of the other. Slots of different tensors may alternate.
bool Overlap(const SlotRanges& a, const SlotRanges& b, uint64_t num_slots) {
  uint64_t i = 0, j = 0;
  while (i < num_slots && j < num_slots) {
    const uint64_t at_a = a.begin + i * a.stride, at_b = b.begin + j * b.stride;
    if (at_a + a.bytes <= at_b) {
      ++i;
    } else if (at_b + b.bytes <= at_a) {
      ++j;
    } else {
      return true;
    }
  }
  return false;
}

// Against all tensors of all layers so far.
Error CheckOverlap(const RegionView& view, int32_t layer, const char* name, const SlotRanges& ranges) {
  const auto num_slots = static_cast<uint64_t>(view.sizes().slots_per_rank);
  const uint64_t end = ranges.begin + (num_slots - 1) * ranges.stride + ranges.bytes;
  for (int other = 0; other < view.sizes().num_layers; ++other) {
    for (uint64_t t = 0; t < view.num_tensors(other); ++t) {
      const TensorRecord& tensor = view.tensors(other)[t];
      const SlotRanges taken = {tensor.allocation_base + tensor.offset, tensor.bytes_per_expert, tensor.stride_bytes};
      const bool apart =
          taken.begin >= end || taken.begin + (num_slots - 1) * taken.stride + taken.bytes <= ranges.begin;
      if (apart || !Overlap(ranges, taken, num_slots)) continue;
      return MakeError(ErrorCode::kInvalidArgument,
                       "add tensor %s of layer %d: its slots share bytes with those of %s of layer %d", name, layer,
                       tensor.name, other);
    }
  }
  return {};
}

// Where `data` lies: within the region's weights or in device memory; where its `bytes` do not fit, why.
Error PlaceTensor(const evenkeel_region& region, const void* data, uint64_t bytes, TensorRecord& tensor) {
  const RegionView& view = region.view;
  const auto begin = reinterpret_cast<uintptr_t>(view.weights());
  const auto at = reinterpret_cast<uintptr_t>(data);
  bool is_first = true;
  for (int layer = 0; layer < view.sizes().num_layers; ++layer) is_first = is_first && view.num_tensors(layer) == 0;
  if (at < begin || at - begin > view.sizes().weights_bytes) {
    return evenkeel::engine::PlaceOnDevice(view, is_first, data, bytes, tensor);
  }
  if (at - begin > region.weights_used || bytes > region.weights_used - (at - begin)) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "its slots take %" PRIu64 " bytes, which are not within memory from evenkeel_alloc_weights",
                     bytes);
  }
  if (view.on_device()) {
    return MakeError(ErrorCode::kInvalidArgument, "it is in host memory, tensors before it are in device memory");
  }
  tensor.offset = at - begin;
  return {};
}

Error CheckTensor(const evenkeel_region& region, int32_t layer, const char* name, const char* dtype,
                  uint64_t bytes_per_expert, uint64_t stride_bytes) {
  const RegionView& view = region.view;
  const auto steps = static_cast<uint64_t>(view.sizes().slots_per_rank - 1);
  if (region.is_ready) return MakeError(ErrorCode::kFailedPrecondition, "add tensor %s: after evenkeel_ready", name);
  if (layer < 0 || layer >= view.sizes().num_layers) {
    return MakeError(ErrorCode::kInvalidArgument, "add tensor %s: layer %d of %d", name, layer,
                     view.sizes().num_layers);
  }
  if (std::strlen(name) >= sizeof(TensorRecord::name) || name[0] == 0 ||
      std::strlen(dtype) >= sizeof(TensorRecord::dtype)) {
    return MakeError(ErrorCode::kInvalidArgument, "add tensor %.100s: at most %zu characters, %zu of dtype", name,
                     sizeof(TensorRecord::name) - 1, sizeof(TensorRecord::dtype) - 1);
  }
  constexpr uint64_t kBytesMax = uint64_t{1} << 50;
  if (bytes_per_expert == 0 || (steps > 0 && (stride_bytes < bytes_per_expert || stride_bytes > kBytesMax / steps)) ||
      bytes_per_expert > kBytesMax) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "add tensor %s: %" PRIu64 " bytes per expert, %" PRIu64
                     " apart: each expert needs bytes of its own",
                     name, bytes_per_expert, stride_bytes);
  }
  const uint64_t count = view.num_tensors(layer);
  if (count >= evenkeel::engine::kTensorsPerLayerMax) {
    return MakeError(ErrorCode::kResourceExhausted, "add tensor %s: layer %d has %d already", name, layer,
                     evenkeel::engine::kTensorsPerLayerMax);
  }
  for (uint64_t t = 0; t < count; ++t) {
    if (std::strcmp(view.tensors(layer)[t].name, name) == 0) {
      return MakeError(ErrorCode::kInvalidArgument, "add tensor %s: layer %d has one of that name", name, layer);
    }
  }
  return {};
}

// Fills `tensor` but for its names.
Error MakeTensor(const evenkeel_region& region, int32_t layer, const char* name, const void* data,
                 uint64_t bytes_per_expert, uint64_t stride_bytes, TensorRecord& tensor) {
  const auto steps = static_cast<uint64_t>(region.view.sizes().slots_per_rank - 1);
  const uint64_t stride = steps > 0 ? stride_bytes : 0;
  const Error placed = PlaceTensor(region, data, steps * stride + bytes_per_expert, tensor);
  if (!placed.ok()) return MakeError(placed.code, "add tensor %s: %.190s", name, placed.message);
  tensor.bytes_per_expert = bytes_per_expert;
  tensor.stride_bytes = stride_bytes;
  return CheckOverlap(region.view, layer, name, {tensor.allocation_base + tensor.offset, bytes_per_expert, stride});
}

int InitialExpert(const RegionSizes& sizes, int local_slot) {
  return sizes.joining != 0 ? -1 : DefaultExpert(sizes, sizes.rank, local_slot);
}

Error MakeReady(evenkeel_region& region) {
  const RegionView& view = region.view;
  if (region.is_ready) return MakeError(ErrorCode::kFailedPrecondition, "ready: called before");
  uint64_t expert_bytes = 0;
  for (int layer = 0; layer < view.sizes().num_layers; ++layer) {
    if (view.num_tensors(layer) == 0) {
      return MakeError(ErrorCode::kFailedPrecondition, "ready: layer %d has no tensor", layer);
    }
    uint64_t bytes = 0;
    for (uint64_t t = 0; t < view.num_tensors(layer); ++t) bytes += view.tensors(layer)[t].bytes_per_expert;
    expert_bytes = bytes > expert_bytes ? bytes : expert_bytes;
  }
  const auto num_slots =
      static_cast<size_t>(view.sizes().num_layers) * static_cast<size_t>(view.sizes().slots_per_rank);
  std::vector<uint64_t> fingerprints(num_slots);
  if (Error error = evenkeel::engine::FingerprintLayers(view, fingerprints.data()); !error.ok()) return error;
  for (int layer = 0, next = 0; layer < view.sizes().num_layers; ++layer) {
    for (int local = 0; local < view.sizes().slots_per_rank; ++local, ++next) {
      const int expert = InitialExpert(view.sizes(), local);
      view.WriteSlot(layer, local,
                     {.state = expert < 0 ? kSlotFree : kSlotVerified,
                      .expert = expert,
                      .generation = kFirstGeneration,
                      .fingerprint = expert < 0 ? 0 : fingerprints[static_cast<size_t>(next)]});
    }
  }
  view.header().expert_bytes = expert_bytes;
  view.header().manifest_digest = view.DigestOfManifest();
  view.header().ready.Store(1);
  region.is_ready = true;
  return {};
}

}  // namespace

int evenkeel::engine::Answer(const Error& error, evenkeel_error* out) {
  const int status = StatusOf(error.code);
  if (out != nullptr) {
    out->status = status;
    std::memcpy(out->message, error.message, sizeof(out->message));
  }
  return status;
}
static_assert(sizeof(evenkeel_error::message) == sizeof(Error::message));

int evenkeel_create(const evenkeel_options* options, evenkeel_region** region, evenkeel_error* error) {
  if (options == nullptr || region == nullptr) {
    return Answer(MakeError(ErrorCode::kInvalidArgument, "create region: options or region is null"), error);
  }
  *region = nullptr;
  if (options->abi_version != EVENKEEL_ABI_VERSION) {
    return Answer(MakeError(ErrorCode::kInvalidArgument, "create region: ABI version %u; the library has %d",
                            options->abi_version, EVENKEEL_ABI_VERSION),
                  error);
  }
  auto* made = new (std::nothrow) evenkeel_region;
  if (made == nullptr) return Answer(MakeError(ErrorCode::kResourceExhausted, "create region: no memory"), error);
  const Error failure = CreateRegion(*options, made);
  if (failure.ok()) {
    *region = made;
  } else {
    delete made;
  }
  return Answer(failure, error);
}

void* evenkeel_alloc_weights(evenkeel_region* region, uint64_t bytes) {
  if (region == nullptr || region->is_ready || bytes == 0) return nullptr;
  const uint64_t begin = (region->weights_used + kWeightsAlignment - 1) / kWeightsAlignment * kWeightsAlignment;
  const uint64_t room = region->view.sizes().weights_bytes;
  if (begin > room || bytes > room - begin) return nullptr;
  region->weights_used = begin + bytes;
  return region->view.weights() + begin;
}

int evenkeel_add_tensor(evenkeel_region* region, int32_t layer, const char* name, const char* dtype, void* data,
                        uint64_t bytes_per_expert, uint64_t stride_bytes, evenkeel_error* error) {
  if (region == nullptr || name == nullptr || dtype == nullptr || data == nullptr) {
    return Answer(MakeError(ErrorCode::kInvalidArgument, "add tensor: region, name, dtype or data is null"), error);
  }
  TensorRecord tensor = {};
  Error failure = CheckTensor(*region, layer, name, dtype, bytes_per_expert, stride_bytes);
  if (failure.ok()) failure = MakeTensor(*region, layer, name, data, bytes_per_expert, stride_bytes, tensor);
  if (!failure.ok()) return Answer(failure, error);
  std::strcpy(tensor.name, name);
  std::strcpy(tensor.dtype, dtype);
  region->view.tensors(layer)[region->view.num_tensors(layer)] = tensor;
  ++region->view.num_tensors(layer);
  return Answer({}, error);
}

int evenkeel_on_post_move(evenkeel_region* region, evenkeel_post_move_fn function, void* context) {
  if (region == nullptr) return EVENKEEL_INVALID_ARGUMENT;
  if (region->is_ready) return EVENKEEL_FAILED_PRECONDITION;
  region->post_move = function;
  region->post_move_context = context;
  region->view.header().has_post_move.Store(function != nullptr ? 1 : 0);
  return EVENKEEL_OK;
}

int32_t evenkeel_initial_expert(const evenkeel_region* region, int32_t layer, int32_t local_slot) {
  if (!evenkeel::engine::IsLayer(region, layer) || !evenkeel::engine::IsLocalSlot(region, local_slot)) {
    return EVENKEEL_INVALID_ARGUMENT;
  }
  return InitialExpert(region->view.sizes(), local_slot);
}

int evenkeel_ready(evenkeel_region* region, evenkeel_error* error) {
  if (region == nullptr) return Answer(MakeError(ErrorCode::kInvalidArgument, "ready: region is null"), error);
  return Answer(MakeReady(*region), error);
}

void evenkeel_destroy(evenkeel_region* region) {
  if (region == nullptr) return;
  region->view.memory().Unlink();
  delete region;
}

uint64_t evenkeel_incarnation(const evenkeel_region* region) {
  return region == nullptr ? 0 : region->view.header().incarnation.Load();
}

const char* evenkeel_path(const evenkeel_region* region) {
  return region == nullptr ? nullptr : region->view.memory().path();
}
