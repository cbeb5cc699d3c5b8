// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "cli/command.h"
#include "runtime/token.h"

namespace evenkeel::cli {

namespace {

constexpr Option kTokenOptions[] = {
    {"name", "NAME", "of its bearer, noted with what is asked for with it"},
    {"role", "ROLE", "operator, viewer, or what a certificate would name: evenkeel://group/G/rank/R (default viewer)"},
};

absl::StatusOr<int> RunTokenNew(const Context& context) {
  const std::string name = context.arguments.Get("name"), asked = context.arguments.Get("role", "viewer");
  if (name.empty()) return absl::InvalidArgumentError("--name is missing: whose token?");
  const std::string role = absl::StrContains(asked, "://") ? asked : absl::StrCat("evenkeel://", asked);
  if (role != "evenkeel://operator" && role != "evenkeel://viewer" && !absl::StartsWith(role, "evenkeel://group/")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--role is ", asked, ": operator, viewer or evenkeel://group/G/rank/R wanted"));
  }
  const std::string token = runtime::NewToken(), hash = runtime::HashToken(token);
  if (context.json) {
    context.out << nlohmann::json{{"token", token}, {"name", name}, {"role", role}, {"hash", hash}}.dump() << "\n";
    return kDone;
  }
  const auto quoted = [](const std::string& text) { return nlohmann::json(text).dump(); };
  context.out << "token, for its bearer alone; it is kept nowhere:\n  " << token
              << "\nline of the controller's configuration:\n  tokens { name: " << quoted(name)
              << " role: " << quoted(role) << " hash: " << quoted(hash) << " }\n";
  return kDone;
}

}  // namespace

const Command kTokenNewCommand = {
    "token new",
    "make a token, and the line by which the controller knows it",
    "The bearer gives it to keelctl in $EVENKEEL_TOKEN or by a file of credentials, to HTTP as 'Authorization: "
    "Bearer',\n"
    "to a browser as password. The configuration holds its salted hash alone. --json prints one object.",
    kTokenOptions,
    RunTokenNew,
    {},
    /*offline=*/true};

}  // namespace evenkeel::cli
