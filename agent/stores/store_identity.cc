// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/store_identity.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"
#include "algos/base/hash.h"

namespace evenkeel::agent {

namespace {

uint64_t Aligned(uint64_t bytes) { return (bytes + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment; }

void AddText(const std::string& text, Digest& digest) {
  digest.Add(text.size());
  for (const char c : text) digest.Add(static_cast<unsigned char>(c));
}

}  // namespace

StoreIdentity IdentityOf(const GroupInfo& group, std::vector<std::vector<uint64_t>> tensor_bytes) {
  EVENKEEL_CHECK(tensor_bytes.size() == static_cast<size_t>(group.num_layers));
  return {.group = group.name,
          .model = group.model,
          .weights_version = group.weights_version,
          .manifest_digest = group.manifest_digest,
          .num_layers = group.num_layers,
          .num_experts = group.shape.num_experts,
          .tensor_bytes = std::move(tensor_bytes)};
}

absl::Status CheckSameWeights(absl::string_view where, const StoreIdentity& found, const StoreIdentity& wanted) {
  const auto differs = [&](absl::string_view what, const auto& theirs, const auto& ours) {
    return absl::FailedPreconditionError(absl::StrCat(where, ": it is of ", what, " ", theirs, ", wanted ", ours));
  };
  if (found.model != wanted.model) return differs("model", found.model, wanted.model);
  if (found.weights_version != wanted.weights_version) {
    return differs("weights version", found.weights_version, wanted.weights_version);
  }
  if (found.manifest_digest != wanted.manifest_digest) {
    return differs("manifest", absl::StrCat(absl::Hex(found.manifest_digest)),
                   absl::StrCat(absl::Hex(wanted.manifest_digest)));
  }
  if (found.num_layers != wanted.num_layers) return differs("layers", found.num_layers, wanted.num_layers);
  if (found.num_experts != wanted.num_experts) return differs("experts", found.num_experts, wanted.num_experts);
  if (found.tensor_bytes != wanted.tensor_bytes) {
    return absl::FailedPreconditionError(absl::StrCat(where, ": its tensors are of other sizes"));
  }
  return absl::OkStatus();
}

uint64_t DigestOf(const StoreIdentity& identity) {
  Digest digest;
  AddText(identity.group, digest);
  AddText(identity.model, digest);
  digest.Add(identity.weights_version);
  digest.Add(identity.manifest_digest);
  digest.Add(static_cast<uint64_t>(identity.num_layers));
  digest.Add(static_cast<uint64_t>(identity.num_experts));
  for (const std::vector<uint64_t>& layer : identity.tensor_bytes) {
    digest.Add(layer.size());
    for (const uint64_t bytes : layer) digest.Add(bytes);
  }
  return digest.value();
}

std::vector<uint64_t> TensorOffsets(const std::vector<uint64_t>& tensor_bytes) {
  std::vector<uint64_t> offsets;
  uint64_t next = 0;
  for (const uint64_t bytes : tensor_bytes) {
    offsets.push_back(next);
    next += Aligned(bytes);
  }
  return offsets;
}

uint64_t ExpertRoom(const std::vector<uint64_t>& tensor_bytes) {
  uint64_t room = 0;
  for (const uint64_t bytes : tensor_bytes) room += Aligned(bytes);
  return room;
}

}  // namespace evenkeel::agent
