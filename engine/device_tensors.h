// SPDX-License-Identifier: Apache-2.0
//
// DeviceTensors: registration of tensors in device memory, and what evenkeel_ready does with them.
//
// Private to the library.
#pragma once

#include <cstdint>

#include "engine/region/error.h"
#include "engine/region/region_view.h"

namespace evenkeel::engine {

// The allocation of `data`, which has `bytes` bytes from there on: fills offset and allocation of `tensor` and, with
// the region's first tensor, its device. Refused where it cannot be exported, ends within the bytes, is of another GPU
// than the tensors before, or where those are in host memory.
Error PlaceOnDevice(const RegionView& view, bool is_first, const void* data, uint64_t bytes, TensorRecord& tensor);

// Of all slots of all layers, in order; opens the GPU where the tensors are in its memory, and closes it.
Error FingerprintLayers(const RegionView& view, uint64_t* fingerprints);

}  // namespace evenkeel::engine
