// SPDX-License-Identifier: Apache-2.0
#include "proto/convert_endpoint.h"

#include "algos/base/status_macros.h"
#include "proto/convert_common.h"
#include "proto/evenkeel/v1/agent.pb.h"

namespace evenkeel::proto {

constexpr uint64_t kSecretBytesMax = 64;

absl::StatusOr<Endpoint> FromProto(absl::string_view field, const v1::Endpoint& message) {
  EVENKEEL_RETURN_IF_ERROR(
      CheckText(absl::StrCat(field, ".transport"), message.transport(), kNameBytesMax, Text::kNotEmpty));
  EVENKEEL_RETURN_IF_ERROR(CheckText(absl::StrCat(field, ".host"), message.host(), kNameBytesMax, Text::kMayBeEmpty));
  EVENKEEL_RETURN_IF_ERROR(
      CheckRange(absl::StrCat("the length of ", field, ".address"), message.address().size(), 0, kTextBytesMax));
  EVENKEEL_RETURN_IF_ERROR(
      CheckRange(absl::StrCat("the length of ", field, ".secret"), message.secret().size(), 0, kSecretBytesMax));
  return Endpoint{.transport = message.transport(),
                  .host = message.host(),
                  .address = message.address(),
                  .secret = message.secret()};
}

void ToProto(const Endpoint& value, v1::Endpoint* message) {
  message->set_transport(value.transport);
  message->set_host(value.host);
  message->set_address(value.address);
  message->set_secret(value.secret);
}

}  // namespace evenkeel::proto
