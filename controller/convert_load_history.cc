// SPDX-License-Identifier: Apache-2.0
#include "controller/convert_load_history.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/repeated_field.h"

#include "algos/base/status_macros.h"
#include "proto/evenkeel/v1/store.pb.h"

namespace evenkeel::controller {
namespace {

using Counters = google::protobuf::RepeatedField<uint64_t>;

uint64_t SumOf(const Counters& counters) {
  uint64_t sum = 0;
  for (uint64_t tokens : counters) sum += std::min(tokens, UINT64_MAX - sum);
  return sum;
}

absl::StatusOr<algos::Load> LoadOf(const v1::LoadHistory& history, const Counters& counters, bool may_be_empty) {
  algos::Load load{.num_layers = static_cast<int>(history.num_layers()),
                   .num_experts = static_cast<int>(history.num_experts())};
  const uint64_t wanted = uint64_t{history.num_layers()} * history.num_experts();
  if (static_cast<uint64_t>(counters.size()) != wanted && !(may_be_empty && counters.empty())) {
    return absl::DataLossError(absl::StrCat("load history of group ", history.group(), ": a window of ",
                                            counters.size(), " counters: ", wanted, " wanted"));
  }
  load.tokens.assign(counters.begin(), counters.end());
  return load;
}

}  // namespace

void ToProto(const LoadHistory& value, v1::LoadHistory* message) {
  message->set_group(value.group);
  message->set_model(value.model);
  message->set_num_layers(static_cast<uint32_t>(value.num_layers));
  message->set_num_experts(static_cast<uint32_t>(value.num_experts));
  for (const KeptWindow& window : value.windows) {
    v1::KeptWindow* kept = message->add_windows();
    kept->set_begin_unix_us(absl::ToUnixMicros(window.span.from));
    kept->set_end_unix_us(absl::ToUnixMicros(window.span.to));
    kept->set_first_step(window.span.first_step);
    kept->set_last_step(window.span.last_step);
    kept->mutable_tokens()->Add(window.tokens.tokens.begin(), window.tokens.tokens.end());
    kept->mutable_prefill_tokens()->Add(window.prefill.tokens.begin(), window.prefill.tokens.end());
    kept->mutable_decode_tokens()->Add(window.decode.tokens.begin(), window.decode.tokens.end());
  }
}

absl::StatusOr<LoadHistory> LoadHistoryOf(const v1::LoadHistory& message) {
  if (message.num_layers() > INT32_MAX || message.num_experts() > INT32_MAX) {
    return absl::DataLossError(absl::StrCat("load history of group ", message.group(), ": ", message.num_layers(),
                                            " layers of ", message.num_experts(), " experts"));
  }
  LoadHistory value{.group = message.group(),
                    .model = message.model(),
                    .num_layers = static_cast<int>(message.num_layers()),
                    .num_experts = static_cast<int>(message.num_experts()),
                    .kept_for = absl::ZeroDuration(),
                    .windows = {}};
  for (const v1::KeptWindow& kept : message.windows()) {
    KeptWindow window;
    window.span = {.from = absl::FromUnixMicros(kept.begin_unix_us()),
                   .to = absl::FromUnixMicros(kept.end_unix_us()),
                   .first_step = kept.first_step(),
                   .last_step = kept.last_step(),
                   .num_tokens = SumOf(kept.tokens()),
                   .num_prefill_tokens = SumOf(kept.prefill_tokens()),
                   .num_decode_tokens = SumOf(kept.decode_tokens())};
    EVENKEEL_ASSIGN_OR_RETURN(window.tokens, LoadOf(message, kept.tokens(), false));
    EVENKEEL_ASSIGN_OR_RETURN(window.prefill, LoadOf(message, kept.prefill_tokens(), true));
    EVENKEEL_ASSIGN_OR_RETURN(window.decode, LoadOf(message, kept.decode_tokens(), true));
    value.windows.push_back(std::move(window));
  }
  return value;
}

}  // namespace evenkeel::controller
