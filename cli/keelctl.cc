// SPDX-License-Identifier: Apache-2.0
#include "cli/keelctl.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "cli/command.h"
#include "runtime/client_credentials.h"
#include "runtime/version.h"

namespace evenkeel::cli {

namespace {

const Command* const kCommands[] = {
    &kGroupsCommand,   &kRanksCommand,    &kStatsCommand,       &kMapCommand,    &kRearrangeCommand, &kAdmitCommand,
    &kDrainCommand,    &kCheckCommand,    &kOperationsCommand,  &kCancelCommand, &kPlanCommand,      &kConvertCommand,
    &kShowCommand,     &kPoliciesCommand, &kSimulateCommand,    &kLoadCommand,   &kPauseCommand,     &kResumeCommand,
    &kExplainCommand,  &kHeatCommand,     &kRecordCommand,      &kModeCommand,   &kTopCommand,       &kMapSaveCommand,
    &kMapApplyCommand, &kMapDiffCommand,  &kMapRollbackCommand, &kMapPinCommand, &kMapUnpinCommand,  &kTokenNewCommand};

constexpr Option kControllerOptions[] = {
    {"controller", "HOST:PORT", "whom to ask (default $EVENKEEL_CONTROLLER or 127.0.0.1:7400)"},
    {"credentials", "FILE",
     "whom to trust and as whom to speak: lines ca, certificate, key, token_file (default $EVENKEEL_CREDENTIALS)"},
    {"as", "NAME", "who asks, noted with operations (default $USER); nobody checks it"},
};
constexpr Option kCommonOptions[] = {
    {"json", "", "print for programs: one JSON object; a controller's answers as protobuf writes them"},
    {"help", "", "teach"},
};

std::string Overview() {
  std::string text = "keelctl COMMAND [OPTION...]: asks and steers an evenkeel-controller, and plans without one.\n";
  for (const bool offline : {false, true}) {
    absl::StrAppend(&text, offline ? "\ncommands that work on files alone\n" : "\ncommands to a controller\n");
    for (const Command* command : kCommands) {
      if (command->offline != offline) continue;
      absl::StrAppend(&text, "  ", command->name, std::string(24 - command->name.size(), ' '), command->summary, "\n");
    }
  }
  absl::StrAppend(
      &text, "\noptions of every command to a controller\n", DescribeOptions(kControllerOptions),
      "\noptions of every command\n", DescribeOptions(kCommonOptions),
      "\nexit status: 0 done, 1 bad news (a failed operation, a problem found), 2 wrong usage, 3 no answer\n"
      "'keelctl COMMAND --help' teaches a command; 'keelctl --version' says which this is;\n"
      "'source <(keelctl completion)' has bash complete them.\n");
  return text;
}

std::vector<Option> OptionsOf(const Command& command) {
  std::vector<Option> options(command.options.begin(), command.options.end());
  if (!command.offline) options.insert(options.end(), std::begin(kControllerOptions), std::end(kControllerOptions));
  options.insert(options.end(), std::begin(kCommonOptions), std::end(kCommonOptions));
  return options;
}

std::string HelpOf(const Command& command) {
  std::string text = absl::StrCat("keelctl ", command.name);
  for (const Operand& operand : command.operands) absl::StrAppend(&text, " ", operand.name);
  absl::StrAppend(&text, " [OPTION...]: ", command.summary, "\n\n", command.teaching, "\n\n");
  if (!command.operands.empty()) absl::StrAppend(&text, "operands\n", DescribeOperands(command.operands), "\n");
  return absl::StrCat(text, "options\n", DescribeOptions(OptionsOf(command)));
}

auto Named(absl::string_view name) {
  return std::ranges::find_if(kCommands, [&](const Command* command) { return command->name == name; });
}

// For bash: commands, then the options of the one that was typed.
std::string BashCompletion() {
  std::string names, cases;
  for (const Command* command : kCommands) {
    const absl::string_view first = command->name.substr(0, command->name.find(' '));
    if (!absl::StrContains(absl::StrCat(" ", names, " "), absl::StrCat(" ", first, " "))) {
      absl::StrAppend(&names, names.empty() ? "" : " ", first);
    }
    if (first != command->name) continue;
    absl::StrAppend(&cases, "    ", first, ") options=\"");
    for (const Option& option : OptionsOf(*command)) {
      absl::StrAppend(&cases, "--", option.name, option.value.empty() ? " " : "= ");
    }
    absl::StrAppend(&cases, "\" ;;\n");
  }
  return absl::StrCat(
      "_keelctl() {\n  local word=${COMP_WORDS[COMP_CWORD]} options=\"\"\n  case \"${COMP_WORDS[1]}\" in\n", cases,
      "  esac\n  if [ \"$COMP_CWORD\" -eq 1 ]; then options=\"", names,
      " completion help\"; fi\n  COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n",
      "  [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace\n  return 0\n}\n",
      "complete -o default -F _keelctl keelctl\n");
}

// Some commands' names are of two words, of which the first is a command too.
size_t NumWords(const std::vector<std::string>& words, size_t at) {
  if (at + 1 >= words.size()) return 1;
  return Named(absl::StrCat(words[at], " ", words[at + 1])) == std::end(kCommands) ? 1 : 2;
}

// keelctl --controller=A groups means keelctl groups --controller=A.
std::vector<std::string> CommandFirst(std::span<const std::string> words) {
  std::vector<std::string> ordered(words.begin(), words.end());
  size_t at = 0;
  while (at < ordered.size() && ordered[at].starts_with("--"))
    at += ordered[at] == "--controller" || ordered[at] == "--credentials" || ordered[at] == "--as" ? 2 : 1;
  if (at < ordered.size())
    std::rotate(ordered.begin(), ordered.begin() + static_cast<std::ptrdiff_t>(at),
                ordered.begin() + static_cast<std::ptrdiff_t>(at + NumWords(ordered, at)));
  return ordered;
}

// Of the flag, else of the environment, whose token goes before that of the file.
absl::StatusOr<runtime::ClientCredentials> CredentialsOf(const Arguments& arguments, const Surroundings& surroundings,
                                                         absl::string_view address) {
  const std::string path = arguments.Get("credentials", surroundings.credentials);
  absl::StatusOr<runtime::ClientCredentials> credentials = runtime::ReadClientCredentials(path);
  if (!credentials.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--credentials: ", credentials.status().message()));
  }
  if (!surroundings.token.empty()) {
    credentials->token = surroundings.token;
    credentials->token_file.clear();
  }
  EVENKEEL_RETURN_IF_ERROR(CheckTokenStaysHere(*credentials, address));
  return credentials;
}

int StatusOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return kUsage;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kUnreachable;
    default:
      return kProblem;
  }
}

}  // namespace

int RunKeelctl(std::span<const std::string> words, const Surroundings& surroundings, std::ostream& out,
               std::ostream& err) {
  const std::vector<std::string> ordered = CommandFirst(words);
  if (ordered.empty() || ordered[0] == "--help" || ordered[0] == "help") {
    (ordered.empty() ? err : out) << Overview();
    return ordered.empty() ? kUsage : kDone;
  }
  if (ordered[0] == "--version") {
    out << "evenkeel " << kVersion << "\n";
    return kDone;
  }
  if (ordered[0] == "completion") {
    out << BashCompletion();
    return kDone;
  }
  const size_t num_words = NumWords(ordered, 0);
  const auto command = Named(num_words == 2 ? absl::StrCat(ordered[0], " ", ordered[1]) : ordered[0]);
  if (command == std::end(kCommands)) {
    err << "keelctl: '" << ordered[0] << "' is not a command\n\n" << Overview();
    return kUsage;
  }
  const auto usage = [&](const absl::Status& status) {
    err << "keelctl " << (*command)->name << ": " << status.message() << "\n'keelctl " << (*command)->name
        << " --help' teaches it\n";
    return kUsage;
  };
  const auto arguments =
      Arguments::Parse(OptionsOf(**command), std::span(ordered).subspan(num_words), (*command)->operands);
  if (!arguments.ok()) return usage(arguments.status());
  if (arguments->Has("help")) {
    out << HelpOf(**command);
    return kDone;
  }
  if (const absl::Status all = arguments->RequireAll((*command)->operands); !all.ok()) return usage(all);
  std::optional<Client> client;
  if (!(*command)->offline) {
    const std::string address = arguments->Get("controller", surroundings.default_controller);
    const auto credentials = CredentialsOf(*arguments, surroundings, address);
    if (!credentials.ok()) {
      err << "keelctl " << (*command)->name << ": " << credentials.status().message() << "\n";
      return kUsage;
    }
    client.emplace(address, *credentials, arguments->Get("as", surroundings.user));
  }
  const bool json = arguments->Has("json");
  const auto status = (*command)->run({*arguments, client ? &*client : nullptr, out, err, json,
                                       surroundings.terminal && !json, surroundings.err_terminal});
  if (status.ok()) return *status;
  err << "keelctl " << (*command)->name << ": " << status.status().message() << "\n";
  return StatusOf(status.status());
}

}  // namespace evenkeel::cli
