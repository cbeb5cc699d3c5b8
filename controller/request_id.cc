// SPDX-License-Identifier: Apache-2.0
#include "controller/request_id.h"

#include <cstddef>
#include <cstdint>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"

namespace evenkeel::controller {

namespace {

constexpr size_t kRequestIdBytesMax = 128;
constexpr size_t kReasonBytesMax = 1024;

}  // namespace

absl::Status CheckRequestId(const std::string& id) {
  if (id.size() > kRequestIdBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("request_id is ", id.size(), " bytes long: at most ", kRequestIdBytesMax, " wanted"));
  }
  for (const char c : id) {
    if (c <= 0x20 || c >= 0x7F) return absl::InvalidArgumentError("request_id has a character that is not printable");
  }
  return absl::OkStatus();
}

absl::Status CheckReason(const std::string& reason) {
  if (reason.size() <= kReasonBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("reason is ", reason.size(), " bytes long: at most ", kReasonBytesMax, " wanted"));
}

std::string MadeUpId(const char* what) {
  absl::BitGen generator;
  return absl::StrCat(what, "-", absl::Hex(absl::Uniform<uint64_t>(generator), absl::kZeroPad16));
}

}  // namespace evenkeel::controller
