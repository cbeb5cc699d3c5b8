// SPDX-License-Identifier: Apache-2.0
#include "cli/keelctl.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "cli/command.h"

namespace evenkeel::cli {

namespace {

const Command* const kCommands[] = {&kGroupsCommand,    &kStatsCommand, &kMapCommand,
                                    &kRearrangeCommand, &kCheckCommand, &kOperationsCommand};

constexpr Option kCommonOptions[] = {
    {"controller", "HOST:PORT", "whom to ask (default $EVENKEEL_CONTROLLER or 127.0.0.1:7400)"},
    {"credentials", "FILE", "PEM roots of the controller's certificate; without it no TLS"},
    {"json", "", "print for programs: protobuf's JSON, 64-bit numbers as strings"},
    {"help", "", "teach"},
};

std::string Overview() {
  std::string text = "keelctl COMMAND [OPTION...]: asks and steers an evenkeel-controller.\n\ncommands\n";
  for (const Command* command : kCommands) {
    absl::StrAppend(&text, "  ", command->name, std::string(24 - command->name.size(), ' '), command->summary, "\n");
  }
  absl::StrAppend(
      &text, "\noptions of every command\n", DescribeOptions(kCommonOptions),
      "\nexit status: 0 done, 1 bad news (a failed operation, a problem found), 2 wrong usage, 3 no answer\n"
      "'keelctl COMMAND --help' teaches a command.\n");
  return text;
}

std::string HelpOf(const Command& command) {
  return absl::StrCat("keelctl ", command.name, " [OPTION...]: ", command.summary, "\n\n", command.teaching,
                      "\n\noptions\n", DescribeOptions(command.options), DescribeOptions(kCommonOptions));
}

// keelctl --controller=A groups means keelctl groups --controller=A.
std::vector<std::string> CommandFirst(std::span<const std::string> words) {
  std::vector<std::string> ordered(words.begin(), words.end());
  size_t at = 0;
  while (at < ordered.size() && ordered[at].starts_with("--"))
    at += ordered[at] == "--controller" || ordered[at] == "--credentials" ? 2 : 1;
  if (at < ordered.size())
    std::rotate(ordered.begin(), ordered.begin() + static_cast<std::ptrdiff_t>(at),
                ordered.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  return ordered;
}

absl::StatusOr<std::string> RootsOf(const Arguments& arguments) {
  if (!arguments.Has("credentials")) return std::string();
  const std::string path = arguments.Get("credentials");
  std::ifstream file(path, std::ios::binary);
  std::string roots{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file || roots.empty()) return absl::InvalidArgumentError(absl::StrCat("--credentials: cannot read ", path));
  return roots;
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
  const auto command = std::ranges::find_if(kCommands, [&](const Command* c) { return c->name == ordered[0]; });
  if (command == std::end(kCommands)) {
    err << "keelctl: '" << ordered[0] << "' is not a command\n\n" << Overview();
    return kUsage;
  }
  std::vector<Option> options((*command)->options.begin(), (*command)->options.end());
  options.insert(options.end(), std::begin(kCommonOptions), std::end(kCommonOptions));
  const auto arguments = Arguments::Parse(options, std::span(ordered).subspan(1));
  if (!arguments.ok()) {
    err << "keelctl " << ordered[0] << ": " << arguments.status().message() << "\n'keelctl " << ordered[0]
        << " --help' teaches it\n";
    return kUsage;
  }
  if (arguments->Has("help")) {
    out << HelpOf(**command);
    return kDone;
  }
  const absl::StatusOr<std::string> roots = RootsOf(*arguments);
  if (!roots.ok()) {
    err << "keelctl " << ordered[0] << ": " << roots.status().message() << "\n";
    return kUsage;
  }
  Client client(arguments->Get("controller", surroundings.default_controller), *roots);
  const bool json = arguments->Has("json");
  const auto status = (*command)->run({*arguments, client, out, err, json, surroundings.terminal && !json});
  if (status.ok()) return *status;
  err << "keelctl " << ordered[0] << ": " << status.status().message() << "\n";
  return StatusOf(status.status());
}

}  // namespace evenkeel::cli
