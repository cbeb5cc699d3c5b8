// SPDX-License-Identifier: Apache-2.0
//
// UcxAddress: where another agent finds this rank's weights by UCX, as the text of an endpoint. Key and place of the memory
// are not in it: they are granted to those that have a pass (ucx_greeting.h).
//
// The text is base64 of a versioned record that ends with its digest, so that a cut, changed or foreign address is
// refused before UCX, which trusts its input, sees any of it.
//
// Errors:    kFailedPrecondition: not such an address, cut short, changed on the way, of another version, or with
//            tensors outside its memory.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

#include "agent/weights_table.h"
#include "algos/protocol/identity.h"

namespace evenkeel::agent {

struct UcxAddress {
  Member member;
  uint32_t ucx_version = 0;  // major << 16 | minor; packed keys are only read by the same
  std::string worker;        // of ucp_worker_get_address
  uint64_t memory_bytes = 0;
  WeightsTable table;

  friend bool operator==(const UcxAddress&, const UcxAddress&) = default;
};

std::string EncodeUcxAddress(const UcxAddress& address);
absl::StatusOr<UcxAddress> DecodeUcxAddress(const std::string& text);

}  // namespace evenkeel::agent
