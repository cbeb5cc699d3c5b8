// SPDX-License-Identifier: Apache-2.0
#include "engine/region/device_slots.h"

#include <cstring>
#include <utility>

#include "kernels/host/fingerprint.h"

namespace evenkeel::engine {

namespace {

Error FromCuda(const kernels::CudaFailure& failure) {
  if (failure.ok()) return {};
  return MakeError(ErrorCode::kFailedPrecondition, "%s", failure.text);
}

}  // namespace

kernels::CudaUuid DeviceOf(const RegionView& view) {
  kernels::CudaUuid uuid;
  std::memcpy(uuid.bytes, view.header().device_uuid, sizeof(uuid.bytes));
  return uuid;
}

Result<std::unique_ptr<DeviceMapping>> DeviceMapping::Create(RegionView& view, kernels::CudaDevice& device) {
  std::unique_ptr<DeviceMapping> mapping(new DeviceMapping(device));
  std::vector<uint64_t> mapped;  // allocations, parallel to bases_
  for (int layer = 0; layer < view.sizes().num_layers; ++layer) {
    for (int t = 0; t < view.tensor_count(layer); ++t) {
      const TensorRecord& tensor = view.tensors(layer)[t];
      size_t i = 0;
      while (i < mapped.size() && mapped[i] != tensor.allocation_base) ++i;
      if (i == mapped.size()) {
        kernels::CudaIpcHandle handle;
        std::memcpy(handle.bytes, tensor.ipc_handle, sizeof(handle.bytes));
        void* base = nullptr;
        if (Error error = FromCuda(device.Map(handle, &base)); !error.ok()) return error;
        mapped.push_back(tensor.allocation_base);
        mapping->bases_.push_back(base);
      }
      view.SetBase(layer, t, static_cast<std::byte*>(mapping->bases_[i]));
    }
  }
  return mapping;
}

DeviceMapping::~DeviceMapping() {
  for (void* base : bases_) device_.Unmap(base);
}

Error FingerprintSlots(const RegionView& view, kernels::CudaDevice* device, std::span<const LocalSlotAt> slots,
                       uint64_t* fingerprints) {
  if (!view.on_device()) {
    for (size_t i = 0; i < slots.size(); ++i) {
      fingerprints[i] = view.FingerprintSlot(slots[i].layer, slots[i].local_slot);
    }
    return {};
  }
  std::vector<kernels::DeviceBytes> parts;
  for (size_t i = 0; i < slots.size(); ++i) {
    for (int t = 0; t < view.tensor_count(slots[i].layer); ++t) {
      const auto bytes = view.TensorBytes(slots[i].layer, t, slots[i].local_slot);
      parts.push_back({bytes.data(), bytes.size(), static_cast<uint32_t>(t), static_cast<uint32_t>(i)});
    }
  }
  Error error = FromCuda(device->FingerprintSums(parts.data(), static_cast<int>(parts.size()), fingerprints,
                                                 static_cast<int>(slots.size())));
  if (!error.ok()) return error;
  for (size_t i = 0; i < slots.size(); ++i) {
    fingerprints[i] = kernels::FinishFingerprint(fingerprints[i], view.header().weights_version.Load());
  }
  return {};
}

}  // namespace evenkeel::engine
