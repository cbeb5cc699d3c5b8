// SPDX-License-Identifier: Apache-2.0
#include "cli/commands/operation_text.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"

namespace evenkeel::cli {

namespace v1 = evenkeel::v1;

namespace {

std::string Words(absl::string_view name, absl::string_view prefix) {
  return absl::StrReplaceAll(absl::AsciiStrToLower(absl::StripPrefix(name, prefix)), {{"_", " "}});
}

}  // namespace

bool IsFinal(v1::OperationState state) {
  return state == v1::OPERATION_STATE_DONE || state == v1::OPERATION_STATE_FAILED ||
         state == v1::OPERATION_STATE_SKIPPED || state == v1::OPERATION_STATE_SUPERSEDED;
}

std::string StateText(v1::OperationState state) { return Words(v1::OperationState_Name(state), "OPERATION_STATE_"); }

std::string CauseText(v1::OperationCause cause) { return Words(v1::OperationCause_Name(cause), "OPERATION_CAUSE_"); }

std::string TimeText(int64_t unix_us) {
  return absl::FormatTime("%H:%M:%S", absl::FromUnixMicros(unix_us), absl::LocalTimeZone());
}

}  // namespace evenkeel::cli
