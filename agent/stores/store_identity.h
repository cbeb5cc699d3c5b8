// SPDX-License-Identifier: Apache-2.0
//
// StoreIdentity: of what model's experts a store is, and how one expert lies in it.
//
// A store is read only by ranks whose identity is the same: model, weights version and manifest (protocol, rules 22,
// 23). Within a store an expert's tensors follow each other in manifest order, each at a multiple of kTensorAlignment,
// so that any rank's slot can be filled from it, whatever strides that rank's own tensors have.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "algos/base/ids.h"
#include "algos/protocol/messages.h"

namespace evenkeel::agent {

inline constexpr uint64_t kTensorAlignment = 64;

struct StoreIdentity {
  std::string group;
  std::string model;
  uint64_t weights_version = 0;
  uint64_t manifest_digest = 0;
  int num_layers = 0;
  int num_experts = 0;                              // of each layer
  std::vector<std::vector<uint64_t>> tensor_bytes;  // [num_layers], of one expert, manifest order

  bool Has(LayerId layer, ExpertId expert) const {
    return layer.valid() && layer.value() < num_layers && expert.valid() && expert.value() < num_experts;
  }

  friend bool operator==(const StoreIdentity&, const StoreIdentity&) = default;
};

// Requires: tensor_bytes has group.num_layers entries.
StoreIdentity IdentityOf(const GroupInfo& group, std::vector<std::vector<uint64_t>> tensor_bytes);

// OK where experts of `found` may be used by `wanted`: equal but for the group's name. kFailedPrecondition names
// `where` and the first difference with both values.
absl::Status CheckSameWeights(absl::string_view where, const StoreIdentity& found, const StoreIdentity& wanted);

// Equal for equal identities, the group's name included.
uint64_t DigestOf(const StoreIdentity& identity);

// Where each tensor of an expert begins, and how much room the expert takes.
std::vector<uint64_t> TensorOffsets(const std::vector<uint64_t>& tensor_bytes);
uint64_t ExpertRoom(const std::vector<uint64_t>& tensor_bytes);

}  // namespace evenkeel::agent
