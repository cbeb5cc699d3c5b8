// SPDX-License-Identifier: Apache-2.0
//
// Command: one word of keelctl's language: what it is called, what it teaches, what it does.
#pragma once

#include <ostream>
#include <span>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "cli/arguments.h"
#include "cli/client.h"

namespace evenkeel::cli {

// What a command runs with. `out` takes results, `err` progress and notes.
struct Context {
  const Arguments& arguments;
  Client* client;  // none where the command is offline
  std::ostream& out;
  std::ostream& err;
  bool json = false;
  bool terminal = false;      // `out` is one: lines may be rewritten
  bool err_terminal = false;  // so may those of `err`
};

// Exit statuses of keelctl.
inline constexpr int kDone = 0;
inline constexpr int kProblem = 1;      // the answer is bad news: an operation failed, a check found something
inline constexpr int kUsage = 2;        // what was typed is wrong
inline constexpr int kUnreachable = 3;  // no answer from the controller

struct Command {
  absl::string_view name;
  absl::string_view summary;                           // half a line
  absl::string_view teaching;                          // paragraphs of --help
  std::span<const Option> options;                     // beside --controller, --json and --help
  absl::StatusOr<int> (*run)(const Context& context);  // exit status
  std::span<const Operand> operands = {};              // all are needed
  bool offline = false;                                // works on files alone: asks no controller
};

// Each in commands/<name>.cc.
extern const Command kGroupsCommand;
extern const Command kStatsCommand;
extern const Command kMapCommand;
extern const Command kRearrangeCommand;
extern const Command kRanksCommand;
extern const Command kAdmitCommand;
extern const Command kDrainCommand;
extern const Command kLoadCommand;
extern const Command kCheckCommand;
extern const Command kOperationsCommand;
extern const Command kCancelCommand;
extern const Command kPlanCommand;
extern const Command kConvertCommand;
extern const Command kShowCommand;
extern const Command kSimulateCommand;
extern const Command kPoliciesCommand;
extern const Command kPauseCommand;
extern const Command kResumeCommand;
extern const Command kExplainCommand;
extern const Command kHeatCommand;
extern const Command kRecordCommand;
extern const Command kModeCommand;
extern const Command kTopCommand;
extern const Command kMapSaveCommand;
extern const Command kMapApplyCommand;
extern const Command kMapDiffCommand;
extern const Command kMapRollbackCommand;
extern const Command kMapPinCommand;
extern const Command kMapUnpinCommand;
extern const Command kTokenNewCommand;

}  // namespace evenkeel::cli
