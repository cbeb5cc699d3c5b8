// SPDX-License-Identifier: Apache-2.0
#include "cli/commands/operation_text.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"

#include "cli/table.h"

namespace evenkeel::cli {

namespace v1 = evenkeel::v1;

namespace {

std::string Words(absl::string_view name, absl::string_view prefix) {
  return absl::StrReplaceAll(absl::AsciiStrToLower(absl::StripPrefix(name, prefix)), {{"_", " "}});
}

}  // namespace

bool IsFinal(v1::OperationState state) {
  return state == v1::OPERATION_STATE_DONE || state == v1::OPERATION_STATE_FAILED ||
         state == v1::OPERATION_STATE_SKIPPED || state == v1::OPERATION_STATE_SUPERSEDED ||
         state == v1::OPERATION_STATE_CANCELLED;
}

std::string StateText(v1::OperationState state) { return Words(v1::OperationState_Name(state), "OPERATION_STATE_"); }

std::string CauseText(v1::OperationCause cause) { return Words(v1::OperationCause_Name(cause), "OPERATION_CAUSE_"); }

std::string TimeText(int64_t unix_us) {
  return absl::FormatTime("%H:%M:%S", absl::FromUnixMicros(unix_us), absl::LocalTimeZone());
}

std::string DecisionsText(const v1::Operation& operation) {
  if (operation.decisions().empty()) return {};
  Table table({">LAYER", "ACT", "WHY", ">BEFORE", ">AFTER", ">MOVES", ">GAIN", ">PRICE", "REASON"});
  for (const v1::LayerDecision& decision : operation.decisions()) {
    table.AddRow({absl::StrCat(decision.layer()), decision.act() ? "yes" : "no",
                  Words(v1::DecisionReason_Name(decision.why()), "DECISION_REASON_"),
                  ImbalanceText(decision.imbalance_before()), ImbalanceText(decision.imbalance_after()),
                  absl::StrCat(decision.num_moves()),
                  CountText(static_cast<uint64_t>(std::max(decision.gain_tokens(), 0.0))),
                  CountText(static_cast<uint64_t>(std::max(decision.price_tokens(), 0.0))), decision.reason()});
  }
  return table.ToString();
}

}  // namespace evenkeel::cli
