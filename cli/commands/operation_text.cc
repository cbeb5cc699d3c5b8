// SPDX-License-Identifier: Apache-2.0
#include "cli/commands/operation_text.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
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

bool Stands(v1::OperationCause cause) {
  return cause == v1::OPERATION_CAUSE_PAUSE || cause == v1::OPERATION_CAUSE_MODE || cause == v1::OPERATION_CAUSE_PIN;
}

std::string StateText(v1::OperationState state) { return Words(v1::OperationState_Name(state), "OPERATION_STATE_"); }

std::string CauseText(v1::OperationCause cause) { return Words(v1::OperationCause_Name(cause), "OPERATION_CAUSE_"); }

std::string TimeText(int64_t unix_us) {
  return absl::FormatTime("%H:%M:%S", absl::FromUnixMicros(unix_us), absl::LocalTimeZone());
}

std::string ResultText(const v1::Operation& o) {
  return absl::StrFormat(
      "operation %s %s: %s\npolicy %s, %d layers, %d moves (%d attempts failed, %d of them corrupt), %s in %.1f s; "
      "imbalance %s before, %s predicted\n",
      o.id(), StateText(o.state()), o.detail(), o.policy(), o.num_layers(), o.num_moves_done(), o.num_moves_failed(),
      o.num_corrupt(), BytesText(o.bytes_done()), static_cast<double>(o.changed_unix_us() - o.started_unix_us()) * 1e-6,
      ImbalanceText(o.imbalance_before()), ImbalanceText(o.imbalance_predicted()));
}

// Without the protocol's name, which says nothing to people.
std::string AskerText(const v1::Operation& o) {
  if (o.requested_by().empty()) return "the controller";
  return absl::StrReplaceAll(o.requested_by(), {{"ipv4:", ""}, {"ipv6:", ""}, {"%5B", "["}, {"%5D", "]"}});
}

std::string AlertText(const v1::Alert& alert) {
  const std::string began = TimeText(alert.began_unix_us());
  if (alert.ended_unix_us() == 0) return absl::StrCat("alert since ", began, ": ", alert.text());
  return absl::StrCat("was an alert from ", began, " to ", TimeText(alert.ended_unix_us()), ": ", alert.text());
}

std::string ModeText(const v1::Group& group) {
  const absl::string_view does = group.mode() == "off"      ? "nothing is decided, and no load kept"
                                 : group.mode() == "record" ? "load is kept, nothing is decided"
                                 : group.mode() == "shadow" ? "decisions are recorded, none is carried out"
                                 : group.mode() == "shares" ? "shares change, no expert is moved"
                                                            : "shares and placements change";
  return absl::StrCat("mode ", group.mode(), ": ", does,
                      group.mode_set_by().empty() ? "" : absl::StrCat(" (set by ", group.mode_set_by(), ")"));
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
